//! A valid spec: every default filled, every combination of the matrix resolved, as JSON what a worker reads back.

pub(crate) mod input;
pub(crate) mod notify;
pub(crate) mod running;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ids::{self, json_seed};
use crate::spec::input::{InputSpec, OnBadInput};
use crate::spec::notify::Notify;
use crate::spec::running::Running;
use crate::template::Template;
use crate::words::Embed;
pub use crate::words::{
    Decoding, Fit, GuidanceSchedule, Kind, KvCache, MapKind, NormalFrame, OnExisting, Restore,
    Sidecar, Weights, Window,
};

/// What the model is asked for, in words of the engine's prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "task")]
pub enum Task {
    /// One picture from the caption.
    TextToImage,
    /// Upper panel the picture, lower panel its map, both drawn.
    Pair {
        /// The map to draw.
        map: MapKind,
    },
    /// Upper panel the given map, lower panel the picture.
    Control {
        /// What the given map is.
        map: MapKind,
    },
    /// Upper panel the given reference, lower panel the subject in a new scene.
    Subject {
        /// What the reference shows; none takes the engine's own words.
        description: Option<String>,
    },
    /// Upper panel the given picture, lower panel the picture changed.
    Edit {
        /// What to change.
        instruction: String,
    },
    /// Upper panel the given picture, lower panel its map.
    Dense {
        /// The map to predict.
        map: MapKind,
    },
}

/// A size in pixels, both sides multiples of 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// How tokens are drawn. The seed is no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampler {
    /// Strength of guidance; 1 is none.
    pub cfg: f64,
    /// How many of the best codes are kept, 1 to 16384.
    pub top_k: u32,
    /// Share of probability that is kept; only 1 runs.
    pub top_p: f64,
    /// Temperature; 0 takes the best code.
    pub temperature: f64,
    /// How the sequence is found.
    pub decoding: Decoding,
    /// How many positions are tried at once.
    pub window: Window,
    /// How guidance depends on the position.
    pub guidance_schedule: GuidanceSchedule,
}

/// The model that a job asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Name under which workers offer it.
    pub name: String,
    /// Form of the weights.
    pub weights: Weights,
    /// Form of the cache.
    pub kv_cache: KvCache,
}

impl ModelSpec {
    /// `name/weights/kv_cache`, the key that workers register.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.name, self.weights, self.kv_cache)
    }
}

/// The seeds of each row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seeds {
    /// These, as they are, for every row.
    List(#[serde(with = "json_seed::list")] Vec<u64>),
    /// `count` seeds derived from the start, the row id and k.
    Start {
        /// Where the derivation starts.
        #[serde(with = "json_seed")]
        start: u64,
        /// Images per row, cell, map and prompt.
        count: u32,
        /// Whether cells of the matrix have seeds of their own.
        vary_cells: bool,
    },
}

impl Seeds {
    /// How many images are made of each row, cell, map and prompt.
    pub fn count(&self) -> u64 {
        match self {
            Self::List(seeds) => seeds.len() as u64,
            Self::Start { count, .. } => u64::from(*count),
        }
    }
}

/// One combination of the matrix, resolved. A job without a matrix has one cell without values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The values of the matrix.
    pub values: BTreeMap<String, Value>,
    /// The whole picture, both panels where there are two.
    pub picture: Size,
    /// How tokens are drawn.
    pub sampler: Sampler,
    /// What the given map of a controllable job is.
    pub control: Option<MapKind>,
}

/// Where results go and how they are named and written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// `s3://bucket/prefix/`, a template.
    pub dest: Template,
    /// Key of an item's first file below `data/` and the partitions, a template.
    pub name: Template,
    /// Dimensions that become `key=value` folders.
    pub partition_by: Vec<String>,
    /// Whether pairs keep the unsplit picture.
    pub keep_joint: bool,
    /// Whether controllable jobs store the fitted map.
    pub save_control_maps: bool,
    /// The grid of predicted maps.
    pub restore: Restore,
    /// What stands inside the files.
    pub embed: Embed,
    /// Form of the metadata table.
    pub sidecar: Sidecar,
    /// What a destination in use means.
    pub on_existing: OnExisting,
}

/// How many failed items end a job.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxFailed {
    /// More than so many.
    Items(u64),
    /// More than this share of all items, above 0 up to 1.
    Share(f64),
}

impl MaxFailed {
    /// The number of failed items that a job of `n_items` may have.
    pub fn allowed(self, n_items: u64) -> u64 {
        match self {
            Self::Items(items) => items,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of 0..1 of a count fits a count"
            )]
            Self::Share(share) => (share * n_items as f64).floor() as u64,
        }
    }
}

/// The number of items of a job is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemLimit {
    /// More than `limits.max_items`.
    #[error("the job has {items} items, more than limits.max_items {max}")]
    OverLimit {
        /// How many there are.
        items: u128,
        /// How many are allowed.
        max: u64,
    },
    /// More than the database can number.
    #[error("the job has {items} items, more than the {max} that one job can have")]
    TooMany {
        /// How many there are.
        items: u128,
        /// How many are possible.
        max: u64,
    },
}

/// The most items of one job, whatever its limits say.
pub(crate) const MAX_ITEMS: u64 = 1 << 40;

/// A valid, resolved spec. Stored as JSON with the job; workers read it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// What it is for, in the user's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) input: InputSpec,
    pub(crate) on_bad_input: OnBadInput,
    pub(crate) allow_empty: bool,
    /// Prompts that every row is combined with; one template for every kind but `subject_set`.
    pub(crate) captions: Vec<Template>,
    /// Maps that every row is combined with; empty for kinds that draw none.
    pub(crate) maps: Vec<MapKind>,
    pub(crate) prompt_template: Option<Template>,
    pub(crate) description: Option<Template>,
    /// Name of the one turn of an edit.
    pub(crate) turn_name: Option<String>,
    pub(crate) seeds: Seeds,
    pub(crate) cells: Vec<Cell>,
    pub(crate) fit: Fit,
    pub(crate) model: ModelSpec,
    pub(crate) output: OutputSpec,
    pub(crate) priority: i32,
    /// Jobs stored by earlier versions have the default of their time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shard_items: Option<u64>,
    pub(crate) max_attempts: u32,
    pub(crate) max_items: Option<u64>,
    pub(crate) max_failed_items: Option<MaxFailed>,
    /// Jobs stored by earlier versions have none.
    #[serde(default)]
    pub(crate) running: Running,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notify: Vec<Notify>,
}

impl JobSpec {
    /// The kind of job.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `metadata.description`.
    pub fn about(&self) -> Option<&str> {
        self.about.as_deref()
    }

    /// `metadata.labels`.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The model that all items of the job use.
    pub fn model(&self) -> &ModelSpec {
        &self.model
    }

    /// Where the rows come from.
    pub fn input(&self) -> &InputSpec {
        &self.input
    }

    /// What happens with an input that cannot be read as an image.
    pub fn on_bad_input(&self) -> OnBadInput {
        self.on_bad_input
    }

    /// Whether a job without any input is fine.
    pub fn allow_empty(&self) -> bool {
        self.allow_empty
    }

    /// Where results go and how they are written.
    pub fn output(&self) -> &OutputSpec {
        &self.output
    }

    /// What a destination in use means.
    pub fn on_existing(&self) -> OnExisting {
        self.output.on_existing
    }

    /// The combinations of the matrix; at least one.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Higher runs first; 0 to 100, default 50.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Items of every shard; none: as many as take about a minute, decided at each claim.
    pub fn shard_items(&self) -> Option<u64> {
        self.shard_items
    }

    /// How often a shard is tried.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// How many failed items end the job; none: any number is fine.
    pub fn max_failed_items(&self) -> Option<MaxFailed> {
        self.max_failed_items
    }

    /// Where and when the job may run.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Who is told of what.
    pub fn notify(&self) -> &[Notify] {
        &self.notify
    }

    /// Whether items start from an image of their row.
    pub fn needs_image(&self) -> bool {
        !matches!(self.kind, Kind::TextToImage | Kind::ImagePairs)
    }

    /// How many items one input row stands for.
    pub fn items_per_row(&self) -> u64 {
        self.cells.len() as u64 * self.per_cell()
    }

    /// Items of one row and one cell: prompts x maps x seeds.
    pub(crate) fn per_cell(&self) -> u64 {
        self.captions.len() as u64 * self.maps.len().max(1) as u64 * self.seeds.count()
    }

    /// How many items the job has with so many input rows.
    ///
    /// # Errors
    /// [`ItemLimit::OverLimit`] above `limits.max_items`, [`ItemLimit::TooMany`] above 2^40.
    pub fn n_items(&self, n_rows: u64) -> Result<u64, ItemLimit> {
        let items = u128::from(n_rows) * u128::from(self.items_per_row());
        match self.max_items {
            Some(max) if items > u128::from(max) => Err(ItemLimit::OverLimit { items, max }),
            _ => match u64::try_from(items) {
                Ok(items) if items <= MAX_ITEMS => Ok(items),
                _ => Err(ItemLimit::TooMany { items, max: MAX_ITEMS }),
            },
        }
    }

    /// The input row that an item needs.
    pub fn row_of(&self, item: u64) -> u64 {
        item / self.items_per_row()
    }

    /// Hexadecimal SHA-256 over what decides the bytes of the items: not the name, labels, destination, key names, the place and
    /// extent of the input, schedule, resources, retries, limits or notifications. Two jobs with the same hash make the same
    /// bytes from the same row.
    pub fn content_sha256(&self) -> String {
        let columns = match &self.input {
            InputSpec::Manifest { columns, .. } => serde_json::json!(columns),
            InputSpec::Subjects(subjects) => serde_json::json!(subjects.classes),
            InputSpec::Inline { .. } | InputSpec::Prefix { .. } => Value::Null,
        };
        let decides = serde_json::json!({
            "kind": self.kind, "columns": columns, "captions": self.captions, "maps": self.maps,
            "prompt_template": self.prompt_template, "description": self.description, "seeds": self.seeds, "cells": self.cells,
            "fit": self.fit, "model": self.model, "keep_joint": self.output.keep_joint,
            "save_control_maps": self.output.save_control_maps, "restore": self.output.restore, "embed": self.output.embed,
        });
        let digest = Sha256::digest(ids::canonical_json(&decides).as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
