//! The columns of the metadata table at the destination's root, the same in Parquet and JSON lines. Pure.

use nightshift_jobs::{
    GivenPanel, InputRow, Item, Kind, Restore, Role, Size, Task, Window, canonical_json,
};
use nightshift_store::{Artifact, ItemRow};
use serde_json::{Value, json};

use crate::generate::translate;
use crate::item::inputs::GivenFacts;
use crate::job::Job;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
}

/// The type of a column; every column may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Text,
    Int,
    Float,
    /// Unix milliseconds.
    Time,
}

/// A value, or the null of its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(Option<String>),
    Int(Option<i64>),
    Float(Option<f64>),
    Time(Option<i64>),
}

impl Cell {
    pub(super) fn kind(&self) -> ColumnKind {
        match self {
            Self::Text(_) => ColumnKind::Text,
            Self::Int(_) => ColumnKind::Int,
            Self::Float(_) => ColumnKind::Float,
            Self::Time(_) => ColumnKind::Time,
        }
    }

    pub(super) fn into_json(self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            // Many readers of JSON keep only doubles.
            Self::Int(Some(number)) if number.unsigned_abs() > 1 << 53 => json!(number.to_string()),
            Self::Int(number) => json!(number),
            Self::Float(number) => json!(number),
            Self::Time(ms) => {
                json!(
                    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
                        .map(|at| at.to_string())
                )
            }
        }
    }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(Some(text.into()))
}

fn int(number: impl TryInto<i64>) -> Cell {
    Cell::Int(number.try_into().ok())
}

/// The columns of a job's table.
pub(super) fn columns(job: &Job) -> Vec<Column> {
    let mut columns: Vec<Column> =
        FIXED.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect();
    columns.extend(further_roles(job).into_iter().map(|role| Column {
        // Readers of image folders take `*_file_name` for images.
        name: format!("{}_file_name", role.as_str()),
        kind: ColumnKind::Text,
    }));
    columns
}

/// The images that items of this job have beside the primary one.
fn further_roles(job: &Job) -> Vec<Role> {
    let output = job.spec.output();
    let pairs = job.spec.kind() == Kind::ImagePairs;
    let control = job.spec.kind() == Kind::Controllable && output.save_control_maps;
    let roles =
        [(Role::Map, pairs), (Role::Joint, pairs && output.keep_joint), (Role::Control, control)];
    roles.into_iter().filter(|(_, has)| *has).map(|(role, _)| role).collect()
}

use ColumnKind::{Float as F, Int as I, Text as T, Time as D};

/// Names and types in the order of [`cells`].
const FIXED: &[(&str, ColumnKind)] = &[
    ("file_name", T),
    ("text", T),
    ("item_id", T),
    ("job_id", I),
    ("job_name", T),
    ("kind", T),
    ("shard", I),
    ("key", T),
    ("uri", T),
    ("index", I),
    ("row_id", T),
    ("k", I),
    ("cell", T),
    ("attempt", I),
    ("prompt", T),
    ("model_prompt", T),
    ("instruction", T),
    ("subject", T),
    ("control_type", T),
    ("map_type", T),
    ("input_uri", T),
    ("input_etag", T),
    ("input_sha256", T),
    ("input_width", I),
    ("input_height", I),
    ("input_exif_orientation", I),
    ("crop_box", T),
    ("fit", T),
    ("seed", I),
    ("cfg", F),
    ("top_k", I),
    ("top_p", F),
    ("temperature", F),
    ("decoding", T),
    ("window", T),
    ("guidance_schedule", T),
    ("weights", T),
    ("kv_cache", T),
    ("sha256", T),
    ("bytes", I),
    ("width", I),
    ("height", I),
    ("format", T),
    ("encoding", T),
    ("model_id", T),
    ("fingerprint", T),
    ("spec_sha256", T),
    ("spec_content_sha256", T),
    ("worker_version", T),
    ("created_at", D),
    ("gpu_seconds", F),
    ("tokens", I),
    ("steps", I),
    ("status", T),
];

/// The row of an item that is ok, one cell for each of [`columns`].
pub(super) fn cells(job: &Job, item: &Item, row: &InputRow, stored: &ItemRow) -> Vec<Cell> {
    let report = &stored.report;
    let primary = report.artifacts.first();
    let mut cells = identity(job, item, stored, primary);
    cells.extend(content(item));
    let given: Option<GivenFacts> =
        report.info.as_ref().and_then(|info| serde_json::from_value(info["input"].clone()).ok());
    cells.extend(input(item.given.as_ref(), given.as_ref(), row));
    let window = report.info.as_ref().and_then(|info| info["window"].as_u64());
    cells.extend(sampler(job, item, window));
    cells.extend(output(item, primary, given.as_ref()));
    let model = job.spec.model();
    cells.extend([
        text(model.name.clone()),
        Cell::Text(report.fingerprint.clone()),
        text(job.info.spec_sha256.clone()),
        text(job.content_sha256.clone()),
        text(env!("CARGO_PKG_VERSION")),
        Cell::Time(Some(stored.finished_unix_ms)),
        Cell::Float(report.gpu_ms.map(|ms| f64::from(ms) / 1000.0)),
        Cell::Int(report.tokens.map(i64::from)),
        Cell::Int(report.steps.map(i64::from)),
        text(report.status.to_string()),
    ]);
    for role in further_roles(job) {
        let found = report.artifacts.iter().find(|artifact| artifact.role == role.as_str());
        cells.push(Cell::Text(found.map(|artifact| artifact.key.clone())));
    }
    cells
}

fn identity(job: &Job, item: &Item, stored: &ItemRow, primary: Option<&Artifact>) -> Vec<Cell> {
    let key = || primary.map(|artifact| artifact.key.clone());
    vec![
        Cell::Text(key()),
        text(item.caption.clone()),
        text(item.item_id.clone()),
        Cell::Int(Some(job.info.job)),
        text(job.info.name.clone()),
        text(item.kind.as_str()),
        int(stored.shard),
        Cell::Text(key()),
        Cell::Text(primary.map(|artifact| job.uri(&artifact.key).to_string())),
        int(item.index),
        text(item.row_id.clone()),
        int(item.k),
        text(canonical_json(&json!(item.cell))),
        int(stored.attempt),
    ]
}

fn content(item: &Item) -> Vec<Cell> {
    let (instruction, control, map) = match &item.task {
        Task::Edit { instruction } => (Some(instruction.clone()), None, None),
        Task::Control { map } => (None, Some(map.as_str().to_owned()), None),
        Task::Pair { map } | Task::Dense { map } => (None, None, Some(map.as_str().to_owned())),
        Task::TextToImage | Task::Subject { .. } => (None, None, None),
    };
    vec![
        text(item.caption.clone()),
        text(translate::prompt_text(item)),
        Cell::Text(instruction),
        Cell::Text(item.subject.clone()),
        Cell::Text(control),
        Cell::Text(map),
    ]
}

fn input(panel: Option<&GivenPanel>, facts: Option<&GivenFacts>, row: &InputRow) -> Vec<Cell> {
    let crop = facts.map(|facts| facts.picture.crop.source);
    vec![
        Cell::Text(panel.map(|panel| panel.uri.clone()).or_else(|| row.uri.clone())),
        Cell::Text(panel.and_then(|panel| panel.etag.clone())),
        Cell::Text(facts.map(|facts| facts.sha256.clone())),
        Cell::Int(facts.map(|facts| facts.picture.width.into())),
        Cell::Int(facts.map(|facts| facts.picture.height.into())),
        Cell::Int(facts.map(|facts| facts.picture.orientation.into())),
        // Left, top, right, bottom in pixels of the input, turned upright.
        Cell::Text(crop.map(|r| format!("[{},{},{},{}]", r.x, r.y, r.x + r.width, r.y + r.height))),
        Cell::Text(panel.map(|panel| panel.fit.as_str().to_owned())),
    ]
}

/// `window` is the one that the model chose, where it is part of the result.
fn sampler(job: &Job, item: &Item, window: Option<u64>) -> Vec<Cell> {
    let sampler = &item.sampler;
    let model = job.spec.model();
    let window = match (window, sampler.window) {
        (Some(positions), _) => positions.to_string(),
        (None, Window::Auto) => "auto".to_owned(),
        (None, Window::Fixed(positions)) => positions.to_string(),
    };
    vec![
        int(item.seed),
        Cell::Float(Some(sampler.cfg)),
        int(sampler.top_k),
        Cell::Float(Some(sampler.top_p)),
        Cell::Float(Some(sampler.temperature)),
        text(sampler.decoding.as_str()),
        text(window),
        text(sampler.guidance_schedule.as_str()),
        text(model.weights.as_str()),
        text(model.kv_cache.as_str()),
    ]
}

fn output(item: &Item, primary: Option<&Artifact>, given: Option<&GivenFacts>) -> Vec<Cell> {
    let size = stored_size(item, given);
    let encoding = item.outputs.first().map(|output| output.encoding);
    vec![
        Cell::Text(primary.map(|artifact| artifact.sha256.clone())),
        Cell::Int(primary.map(|artifact| artifact.bytes)),
        int(size.width),
        int(size.height),
        Cell::Text(encoding.map(|encoding| encoding.extension().to_owned())),
        Cell::Text(encoding.map(encoding_name)),
    ]
}

/// How the pixels are to be read, for example `png8` or `depth_png16`.
fn encoding_name(encoding: nightshift_jobs::Encoding) -> String {
    match json!(encoding) {
        Value::String(name) => name,
        // `{"normal_png8": {"frame": "opengl_camera"}}`
        Value::Object(map) => map.keys().next().cloned().unwrap_or_default(),
        other => other.to_string(),
    }
}

/// Size of the primary file in pixels.
fn stored_size(item: &Item, given: Option<&GivenFacts>) -> Size {
    let half = Size { width: item.picture.width, height: item.picture.height / 2 };
    match (&item.task, item.restore, given) {
        (Task::TextToImage, ..) => item.picture,
        (Task::Dense { .. }, Restore::InputSize, Some(facts)) => {
            let source = facts.picture.crop.source;
            Size { width: source.width, height: source.height }
        }
        _ => half,
    }
}
