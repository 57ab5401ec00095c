//! `output`: where results go and how they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::{OnExisting, Sidecar};

/// Where results go and how they are written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOutput {
    /// `s3://bucket/prefix/`; a template over `job.name`, `job.id`, `run.date`, `run.index`.
    pub(crate) dest: Option<String>,
    pub(crate) layout: Option<Layout>,
    /// Bounds of the files of a packed layout.
    pub(crate) shard: Option<RawShard>,
    /// How pictures are written; default `png`.
    pub(crate) format: Option<Format>,
    /// Name of an item's first file; a template.
    pub(crate) name: Option<String>,
    /// Dimensions that become `key=value` folders: matrix keys, `map`, `control`, `subject`, `prompt`.
    pub(crate) partition_by: Option<Vec<String>>,
    pub(crate) metadata: Option<RawOutputMetadata>,
    pub(crate) contact_sheets: Option<RawContactSheets>,
    /// Which turns of an `edit` are stored.
    pub(crate) keep_turns: Option<KeepTurns>,
    /// Whether `controllable` jobs store the map as it went into the panel.
    pub(crate) save_control_maps: Option<bool>,
    pub(crate) depth: Option<RawDepth>,
    pub(crate) normal: Option<RawNormal>,
    /// What a destination in use means; default `refuse`.
    pub(crate) on_existing: Option<OnExisting>,
}

/// How items lie at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Layout {
    Files,
    Webdataset,
    Parquet,
}

/// How pictures are written.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    Png,
    Jpeg,
    Webp,
}

/// Which turns of an edit are stored.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeepTurns {
    All,
    Last,
}

/// Bounds of one packed file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawShard {
    #[schemars(range(min = 1))]
    pub(crate) max_samples: Option<u64>,
    /// For example `512MiB`.
    pub(crate) max_bytes: Option<String>,
}

/// What is written about each item.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOutputMetadata {
    /// Form of the table at the destination; default `parquet`.
    pub(crate) sidecar: Option<Sidecar>,
    /// A JSONL table beside the Parquet one.
    pub(crate) also_jsonl: Option<bool>,
    /// What stands inside the files; default `[png_text]`.
    pub(crate) embed: Option<Vec<RawEmbed>>,
    /// Whether prompts are left out of what stands inside the files.
    pub(crate) redact_prompt: Option<bool>,
}

/// What stands inside the files.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawEmbed {
    PngText,
    Xmp,
}

/// Overviews of many pictures.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawContactSheets {
    pub(crate) rows: Option<String>,
    pub(crate) columns: Option<String>,
    pub(crate) per: Option<String>,
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) max_cells: Option<u32>,
}

/// How depth is stored.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDepth {
    pub(crate) encoding: Option<DepthEncoding>,
    pub(crate) range: Option<DepthRange>,
    pub(crate) also: Option<Vec<Also>>,
}

/// How depth is stored.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DepthEncoding {
    Png16,
    NpyF16,
    NpyF32,
}

/// What the numbers of a depth map mean.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
pub(crate) enum DepthRange {
    #[serde(rename = "affine_0_1")]
    Affine01,
    #[serde(rename = "metric_mm")]
    MetricMm,
}

/// Further files of a map.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Also {
    NpyF16,
    NpyF32,
    PreviewSpectral,
}

/// How normals are stored.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNormal {
    pub(crate) encoding: Option<NormalEncoding>,
    pub(crate) frame: Option<RawNormalFrame>,
    pub(crate) also: Option<Vec<NormalAlso>>,
}

/// How normals are stored.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NormalEncoding {
    Png8,
    NpyF16,
}

/// Further files of a normal map.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NormalAlso {
    NpyF16,
}

/// Which way the axes of a normal map point.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawNormalFrame {
    OpenglCamera,
    Directx,
}
