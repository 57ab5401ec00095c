//! One unit of output, computed from its number.

pub(crate) mod expand;
pub(crate) mod key;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::json_seed;
use crate::spec::{Fit, Kind, NormalFrame, Restore, Sampler, Size, Task};
use crate::words::Embed;

/// What is known of a job only after it was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobVars {
    /// The job's id, for `{{ job.id }}`.
    pub job_id: i64,
    /// Date of the run, `2026-11-23`, for `{{ run.date }}`.
    pub run_date: String,
    /// How many runs of its schedule came before, for `{{ run.index }}`.
    pub run_index: u64,
}

/// One unit of output: what the engine is asked for, and where the results go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Number in the job, from 0.
    pub index: u64,
    /// 32 hexadecimal digits, a function of row id, input version, cell, map, prompt and seed.
    pub item_id: String,
    /// The input row it needs.
    pub row_index: u64,
    /// The row's id.
    pub row_id: String,
    /// Which image of its row, cell, map and prompt it is, from 0.
    pub k: u32,
    /// The values of its matrix cell.
    pub cell: BTreeMap<String, Value>,
    /// In `0 .. 2^63`.
    #[serde(with = "json_seed")]
    pub seed: u64,
    /// The kind of job.
    pub kind: Kind,
    /// What the model is asked for.
    pub task: Task,
    /// The caption that goes into the model's prompt string. For an edit it is the instruction.
    pub caption: String,
    /// The whole prompt string, when the spec overrides the model's own.
    pub prompt: Option<String>,
    /// The whole picture, both panels.
    pub picture: Size,
    /// The upper panel, when it is given.
    pub given: Option<GivenPanel>,
    /// How tokens are drawn.
    pub sampler: Sampler,
    /// The files to write; the first is the primary one (`file_name`).
    pub outputs: Vec<Output>,
    /// What stands inside the files.
    pub embed: Embed,
    /// Subject name, for `subject_set`.
    pub subject: Option<String>,
    /// The grid of predicted maps, for `dense_prediction`.
    pub restore: Restore,
}

/// The upper panel, taken from an input image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenPanel {
    /// `s3://bucket/key`.
    pub uri: String,
    /// The version that was planned; another one is another input.
    pub etag: Option<String>,
    /// How it is brought into the panel.
    pub fit: Fit,
}

/// One file of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// What it shows.
    pub role: Role,
    /// Key relative to the destination.
    pub key: String,
    /// How it is written.
    pub encoding: Encoding,
}

/// What a file of an item shows. Artifact rows carry the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The picture.
    Image,
    /// A map: of the picture, or of the input.
    Map,
    /// Both panels, unsplit.
    Joint,
    /// The given map as it went into the panel.
    Control,
    /// A map as numbers.
    Npy,
    /// A map in colours for the eye.
    Preview,
}

impl Role {
    /// The name in artifact rows, and the first folder of the keys of all but the primary file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Map => "map",
            Self::Joint => "joint",
            Self::Control => "control",
            Self::Npy => "npy",
            Self::Preview => "preview",
        }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// 8-bit RGB PNG.
    Png8,
    /// 16-bit grey PNG, `round(65535 (d - min) / (max - min))` over the picture, 0 is near.
    DepthPng16,
    /// 8-bit RGB PNG of normals, `(n + 1) / 2 * 255`.
    NormalPng8 {
        /// Which way the axes point.
        frame: NormalFrame,
    },
    /// NumPy array of 16-bit floats.
    NpyF16,
    /// NumPy array of 32-bit floats.
    NpyF32,
    /// 8-bit RGB PNG with a spectral colour map, near is red.
    PreviewSpectral,
}

impl Encoding {
    /// File name extension without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::NpyF16 | Self::NpyF32 => "npy",
            Self::Png8 | Self::DepthPng16 | Self::NormalPng8 { .. } | Self::PreviewSpectral => {
                "png"
            }
        }
    }

    /// The `Content-Type` of the file.
    pub fn content_type(self) -> &'static str {
        match self.extension() {
            "npy" => "application/x-npy",
            _ => "image/png",
        }
    }
}

/// Why one item cannot be made; it becomes a failed item with this code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// A template names a column that the row lacks.
    #[error("row {row}: there is no column \"{column}\"")]
    MissingColumn {
        /// Row index.
        row: u64,
        /// The column.
        column: String,
    },
    /// The row names no image.
    #[error("row {row}: there is no image")]
    MissingImage {
        /// Row index.
        row: u64,
    },
    /// The image of the row is no `s3://bucket/key`.
    #[error("row {row}: the image must be s3://bucket/key (got \"{uri}\")")]
    BadUri {
        /// Row index.
        row: u64,
        /// What stands there, control characters escaped.
        uri: String,
    },
    /// A template has no value for a path here.
    #[error("row {row}: {{{{ {path} }}}} has no value")]
    NoValue {
        /// Row index.
        row: u64,
        /// The path.
        path: String,
    },
    /// The name leaves its folder or cannot be stored everywhere.
    #[error(
        "row {row}: name renders to \"{name}\"; `..`, leading `/`, control characters, bidi overrides and components over 200 bytes are refused"
    )]
    UnsafeKey {
        /// Row index.
        row: u64,
        /// What the name became, control characters escaped.
        name: String,
    },
    /// The prompt is empty or only white space.
    #[error("row {row}: the prompt is empty")]
    EmptyPrompt {
        /// Row index.
        row: u64,
    },
    /// The prompt is longer than any that the model knows.
    #[error("row {row}: the prompt has {bytes} bytes, limit {max}")]
    PromptTooLong {
        /// Row index.
        row: u64,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// The item number or the row does not belong to this job.
    #[error("item {item} does not belong to row {row}")]
    WrongRow {
        /// Item number.
        item: u64,
        /// Row index.
        row: u64,
    },
}

impl ItemError {
    /// Stable name of the mistake, as item rows carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingColumn { .. } => "missing_column",
            Self::MissingImage { .. } => "missing_image",
            Self::BadUri { .. } => "bad_uri",
            Self::NoValue { .. } => "no_value",
            Self::UnsafeKey { .. } => "unsafe_key",
            Self::EmptyPrompt { .. } => "empty_prompt",
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::WrongRow { .. } => "wrong_row",
        }
    }
}
