//! What may be written in a spec: the raw types. Their schema is what `read/check` checks and what editors use, so the comments here
//! are what a user reads there. Every field is optional: what is required depends on the kind, and validation says so.

mod output;
pub(crate) mod runnable;
mod running;
pub(crate) mod schema;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::OnBadInput;
use crate::spec::{Decoding, GuidanceSchedule, Kind, KvCache, MapKind, Restore, Weights};

pub(crate) use output::*;
pub(crate) use running::*;

/// A nightshift job.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSpec {
    /// Always `nightshift/v1`.
    #[serde(rename = "apiVersion")]
    #[schemars(schema_with = "schema::api_version")]
    pub(crate) api_version: Option<String>,
    /// What the job makes.
    pub(crate) kind: Option<Kind>,
    pub(crate) metadata: Option<RawMetadata>,
    pub(crate) input: Option<RawInput>,
    /// What is drawn, for every kind but `dense_prediction`.
    pub(crate) generate: Option<RawGenerate>,
    /// What is predicted, for `dense_prediction`.
    pub(crate) predict: Option<RawPredict>,
    /// The instructions of an `edit`, run in order.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) turns: Option<Vec<RawTurn>>,
    /// What the given maps of a `controllable` job are.
    pub(crate) control: Option<RawControl>,
    /// Scores of predicted maps against known ones.
    pub(crate) evaluate: Option<RawEvaluate>,
    /// The model's own prompt strings, replaced.
    pub(crate) prompt: Option<RawPrompt>,
    /// Lists of values; every combination is run. `include`, `exclude` and `max_combinations` are no dimensions.
    #[schemars(schema_with = "schema::matrix")]
    pub(crate) matrix: Option<Value>,
    pub(crate) sampler: Option<RawSampler>,
    pub(crate) model: Option<RawModel>,
    pub(crate) output: Option<RawOutput>,
    pub(crate) schedule: Option<RawSchedule>,
    pub(crate) resources: Option<RawResources>,
    pub(crate) retry: Option<RawRetry>,
    pub(crate) limits: Option<RawLimits>,
    /// Who is told.
    pub(crate) notify: Option<Vec<RawNotify>>,
}

/// The blocks that may differ between the combinations of a matrix, after its values were put in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCell {
    pub(crate) generate: Option<RawGenerate>,
    pub(crate) predict: Option<RawPredict>,
    pub(crate) control: Option<RawControl>,
    pub(crate) sampler: Option<RawSampler>,
    pub(crate) model: Option<RawModel>,
}

/// Name and labels of a job.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMetadata {
    /// Letters, digits, `-`, `_` and `.`, at most 63.
    pub(crate) name: Option<String>,
    /// Words to find the job by.
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// Where the rows come from: exactly one of `inline`, `manifest`, `prefix`, `webdataset`, `subjects`, `hf`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawInput {
    /// The rows themselves.
    #[schemars(schema_with = "schema::inline_rows")]
    pub(crate) inline: Option<Vec<BTreeMap<String, Value>>>,
    /// `s3://` address of a `.jsonl`, `.csv`, `.txt` or `.parquet` file, one row per record.
    pub(crate) manifest: Option<String>,
    /// `s3://` prefix; every object below it is a row.
    pub(crate) prefix: Option<String>,
    /// `s3://` address of tar files, `{00000..00006}` for a range.
    pub(crate) webdataset: Option<String>,
    /// Folders of reference images, for `subject_set`.
    pub(crate) subjects: Option<RawSubjects>,
    /// Name of a Hugging Face data set.
    pub(crate) hf: Option<String>,
    /// Which column holds the `prompt`, the `image`, the `id`; `id: null` takes the content hash of the row.
    pub(crate) columns: Option<BTreeMap<String, Option<String>>>,
    /// Which rows are taken.
    #[serde(rename = "where")]
    pub(crate) filter: Option<String>,
    /// Only the first so many rows, for a cheap trial.
    #[schemars(range(min = 1))]
    pub(crate) limit: Option<u64>,
    /// Globs over keys below the prefix; default all images.
    pub(crate) include: Option<Vec<String>>,
    /// Globs over keys below the prefix that are left out.
    pub(crate) exclude: Option<Vec<String>>,
    /// What happens with an input that is no readable image.
    pub(crate) on_bad_input: Option<OnBadInput>,
    /// Whether a job without any input is fine.
    pub(crate) allow_empty: Option<bool>,
    /// The scenes that every reference of a `subject_set` is put into.
    #[schemars(length(min = 1))]
    pub(crate) prompts: Option<Vec<String>>,
}

/// Folders of reference images.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSubjects {
    /// `s3://` prefix, one folder per subject.
    pub(crate) prefix: Option<String>,
    /// What makes images one subject: their folder.
    pub(crate) group_by: Option<GroupBy>,
    pub(crate) references: Option<RawReferences>,
    /// `{{ subject.class }}` of each subject: a mapping, or the address of a CSV file.
    #[schemars(schema_with = "schema::classes")]
    pub(crate) classes: Option<Value>,
    /// Globs over keys below the prefix; default all images.
    pub(crate) include: Option<Vec<String>>,
    /// Globs over keys below the prefix that are left out.
    pub(crate) exclude: Option<Vec<String>>,
}

/// What makes images one subject.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupBy {
    Parent,
}

/// Which references of a subject are used; each is swept, one per item.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReferences {
    /// At most so many of each subject.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) max: Option<u64>,
    /// The first in the order of their keys.
    pub(crate) pick: Option<Pick>,
}

/// How references are picked.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pick {
    Sorted,
}

/// What is drawn.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGenerate {
    /// Width x height of the picture, multiples of 32, for `text_to_image`.
    #[schemars(schema_with = "schema::matrix_text")]
    pub(crate) size: Option<String>,
    /// Width x height of one panel, multiples of 32; the model draws two.
    #[schemars(schema_with = "schema::matrix_text")]
    pub(crate) panel: Option<String>,
    /// How an input is brought into its panel.
    pub(crate) fit: Option<RawFit>,
    /// The maps of `image_pairs`, one pair for each.
    #[schemars(length(min = 1))]
    pub(crate) maps: Option<Vec<MapKind>>,
    /// Whether `image_pairs` also store the unsplit picture.
    pub(crate) keep_joint: Option<bool>,
    /// `{start: N, vary: cells}`, or a list of seeds that are used as they are.
    #[schemars(schema_with = "schema::seeds")]
    pub(crate) seeds: Option<Value>,
    /// Pictures of each row, prompt, map and combination.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) images_per_prompt: Option<u32>,
    /// The caption of a row; default `{{ row.prompt }}`.
    pub(crate) prompt_template: Option<String>,
}

/// How an input is brought into its panel.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawFit {
    CenterCrop,
    Pad,
    Tile,
}

/// What is predicted.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPredict {
    /// The maps to predict, one item for each.
    #[schemars(length(min = 1))]
    pub(crate) targets: Option<Vec<MapKind>>,
    /// Width x height of one panel, multiples of 32.
    #[schemars(schema_with = "schema::matrix_text")]
    pub(crate) panel: Option<String>,
    /// How an input is brought into its panel; `pad` keeps every pixel.
    pub(crate) fit: Option<RawFit>,
    /// The grid that a map is stored on.
    pub(crate) restore: Option<Restore>,
    /// `{start: N, vary: cells}`, or a list of seeds that are used as they are.
    #[schemars(schema_with = "schema::seeds")]
    pub(crate) seeds: Option<Value>,
    /// The caption of a row; default none.
    pub(crate) prompt_template: Option<String>,
}

/// One instruction of an edit.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTurn {
    /// A word for file names.
    pub(crate) name: Option<String>,
    /// What to change; a template.
    pub(crate) instruction: Option<String>,
    /// The turn whose result is edited; default the one before.
    pub(crate) from: Option<String>,
}

/// What the given maps are.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawControl {
    /// `map`: the image column holds the map; `image`: the map is derived from it.
    pub(crate) source: Option<ControlSource>,
    /// Which map it is; default `{{ matrix.control }}`.
    #[schemars(schema_with = "schema::matrix_map")]
    pub(crate) map: Option<MapKind>,
    /// How maps are derived.
    pub(crate) params: Option<RawControlParams>,
}

/// Where a control map comes from.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlSource {
    Map,
    Image,
}

/// How maps are derived.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawControlParams {
    pub(crate) canny: Option<RawCanny>,
    pub(crate) openpose: Option<RawOpenpose>,
}

/// Thresholds of the edge filter.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCanny {
    #[schemars(range(min = 0, max = 1000))]
    pub(crate) low: Option<f64>,
    #[schemars(range(min = 0, max = 1000))]
    pub(crate) high: Option<f64>,
}

/// What a pose map shows.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOpenpose {
    pub(crate) hands: Option<bool>,
}

/// Scores against known maps.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEvaluate {
    pub(crate) depth: Option<RawEvaluateDepth>,
}

/// Scores of depth.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEvaluateDepth {
    /// Column of the known depth.
    pub(crate) gt: Option<String>,
    /// Metres per unit of the known depth.
    #[schemars(range(min = 0))]
    pub(crate) gt_scale: Option<f64>,
    /// How a prediction is brought to the known scale.
    pub(crate) align: Option<Align>,
    pub(crate) metrics: Option<Vec<Metric>>,
}

/// How a prediction is brought to the known scale.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Align {
    LeastSquares,
    Median,
    None,
}

/// A score of depth.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    AbsRel,
    Delta1,
    Delta2,
    Delta3,
    Rmse,
}

/// The model's own prompt strings, replaced.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPrompt {
    /// The whole string; knows `{{ caption }}`, `{{ width }}`, `{{ height }}`, `{{ map }}`, `{{ description }}`.
    pub(crate) template: Option<String>,
    /// What the reference of a `subject_set` shows.
    pub(crate) description: Option<String>,
}

/// How tokens are drawn.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSampler {
    /// Strength of guidance, 1 is none; default 4, for `dense_prediction` 1.
    #[schemars(schema_with = "schema::cfg")]
    pub(crate) cfg: Option<f64>,
    /// How many of the best codes are kept; default 4096.
    #[schemars(schema_with = "schema::top_k")]
    pub(crate) top_k: Option<u32>,
    /// Share of probability that is kept; default 1.
    #[schemars(schema_with = "schema::top_p")]
    pub(crate) top_p: Option<f64>,
    /// 0 takes the best code; default 1.
    #[schemars(schema_with = "schema::temperature")]
    pub(crate) temperature: Option<f64>,
    /// How a sequence is found; default `jacobi`.
    #[schemars(schema_with = "schema::matrix_of::<Decoding>")]
    pub(crate) decoding: Option<Decoding>,
    /// How many positions are tried at once: `auto` or a number; default `auto`.
    #[schemars(schema_with = "schema::window")]
    pub(crate) window: Option<Value>,
    /// How guidance depends on the position; default `constant`.
    #[schemars(schema_with = "schema::matrix_of::<GuidanceSchedule>")]
    pub(crate) guidance_schedule: Option<GuidanceSchedule>,
}

/// The model.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawModel {
    /// Name under which workers offer it; default `lumina-mgpt-2.0`.
    #[schemars(schema_with = "schema::matrix_text")]
    pub(crate) name: Option<String>,
    /// Form of the weights; default `int4`.
    #[schemars(schema_with = "schema::matrix_of::<Weights>")]
    pub(crate) weights: Option<Weights>,
    /// Form of the cache; default `bf16`.
    #[schemars(schema_with = "schema::matrix_of::<KvCache>")]
    pub(crate) kv_cache: Option<KvCache>,
}
