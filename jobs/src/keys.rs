//! The language as one table: every key of a spec with what may stand there, for which kinds, whether this build runs it, and what it means.
//!
//! The check of a document, the editors' schema, `specs/KEYS.txt`, "is not used by kind" and "this build cannot run" all come from here.
//! A new key is one row, and the code that reads its value.

mod runs;
mod schema;

pub use runs::{Features, THIS_BUILD, fates};
pub(crate) use schema::below;
pub use schema::json_schema;

use crate::spec::Kind;
use crate::spec::input::OnBadInput;
use crate::spec::notify::NotifyEvent;
use crate::words::{
    Day, Decoding, GuidanceSchedule, KvCache, MapKind, OnExisting, Restore, RetryClass, Sidecar,
    Weights, WhenStillRunning, WhenWindowCloses,
};

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Where it stands: `generate.size`; `[]` stands for each element of a list of blocks.
    pub(crate) path: &'static str,
    /// What may stand there.
    pub(crate) form: Form,
    /// Whether a whole `"{{ matrix.KEY }}"` may stand there instead.
    pub(crate) matrix: bool,
    /// The kinds that have it; empty for all.
    pub(crate) kinds: &'static [Kind],
    /// What this build makes of it.
    pub(crate) runs: Runs,
    /// What it means, for editors.
    pub(crate) help: &'static str,
}

/// What may stand at a key. Nothing (`key:` alone) may stand at each but the first two of a spec.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// A mapping with the keys that the table has below this one.
    Block,
    /// A list of such mappings, of at least and at most so many.
    Blocks(u64, u64),
    /// Like `Block`, and any other keys with values of a form.
    Open(&'static Form),
    /// A mapping with any keys.
    Map(&'static Form),
    /// A list of at least and at most so many elements.
    List(&'static Form, u64, u64),
    /// Any of several forms.
    Either(&'static [Form]),
    /// A text.
    Text,
    /// A text, or nothing.
    TextOrNothing,
    /// One of these words.
    Words(&'static [&'static str]),
    /// true or false.
    Flag,
    /// A whole number from and to.
    Whole(i64, i64),
    /// A number from and to.
    Number(f64, f64),
    /// A number above the first and up to the second.
    Above(f64, f64),
    /// A whole number from 0 to 2^63 - 1; as text too, because JSON readers lose digits above 2^53.
    Seed,
    /// A share such as `5%`.
    Share,
    /// A text, a number or a truth value.
    Scalar,
    /// The same, or nothing.
    ScalarOrNothing,
}

/// What this build makes of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runs {
    /// It does what it says.
    Yes,
    /// Whatever stands there is refused, in these words.
    No(&'static str),
    /// These words are refused; the others run.
    But(&'static [&'static str]),
    /// What runs, and what code beside its reader refuses.
    Partly(&'static str, &'static str),
}

/// No upper bound.
const ANY: u64 = u64::MAX;
/// The largest whole number.
const MOST: i64 = i64::MAX;

const fn key(path: &'static str, form: Form, help: &'static str) -> Key {
    Key { path, form, matrix: false, kinds: &[], runs: Runs::Yes, help }
}

impl Key {
    const fn matrix(self) -> Self {
        Self { matrix: true, ..self }
    }

    const fn kinds(self, kinds: &'static [Kind]) -> Self {
        Self { kinds, ..self }
    }

    const fn no(self, feature: &'static str) -> Self {
        Self { runs: Runs::No(feature), ..self }
    }

    const fn but(self, words: &'static [&'static str]) -> Self {
        Self { runs: Runs::But(words), ..self }
    }

    const fn partly(self, runs: &'static str, refused: &'static str) -> Self {
        Self { runs: Runs::Partly(runs, refused), ..self }
    }
}

use Form::{
    Above, Block, Blocks, Either, Flag, List, Map, Number, Open, Scalar, ScalarOrNothing, Seed,
    Share, Text, TextOrNothing, Whole, Words,
};
use Kind::{Controllable, DensePrediction, Edit, ImagePairs, SubjectSet, TextToImage};

const DRAWS: &[Kind] = &[TextToImage, ImagePairs, SubjectSet, Edit, Controllable];
const FROM_IMAGES: &[Kind] = &[SubjectSet, Edit, Controllable, DensePrediction];
const TEXTS: Form = List(&Text, 0, ANY);
const SEEDS: Form = Either(&[List(&Seed, 1, 10_000), Block]);

/// Every key there is. The order is that of `specs/KEYS.txt`, and of help texts.
#[rustfmt::skip] // A row a key.
pub(crate) const KEYS: &[Key] = &[
    key("apiVersion", Words(&["nightshift/v1"]), "Always `nightshift/v1`."),
    key("kind", Words(Kind::WORDS), "What the job makes."),
    key("metadata", Block, "Name and labels of a job."),
    key("metadata.name", Text, "Letters, digits, `-`, `_` and `.`, at most 63."),
    key("metadata.description", Text, "What the job is for, at most 1,000 characters; `nightshift describe` shows it."),
    key("metadata.labels", Map(&Text), "Words to find the job by."),
    key("input", Block, "Where the rows come from: exactly one of `inline`, `manifest`, `prefix`, `webdataset`, `subjects`, `hf`."),
    key("input.inline", List(&Map(&ScalarOrNothing), 1, ANY), "The rows themselves."),
    key("input.manifest", Text, "`s3://` address of a `.jsonl`, `.csv`, `.txt` or `.parquet` file, one row per record.").partly(".jsonl, .csv, .txt", ".parquet"),
    key("input.prefix", Text, "`s3://` prefix; every object below it is a row.").kinds(&[Edit, Controllable, DensePrediction]),
    key("input.webdataset", Text, "`s3://` address of tar files, `{00000..00006}` for a range.").no("a webdataset input"),
    key("input.subjects", Block, "Folders of reference images, for `subject_set`.").kinds(&[SubjectSet]),
    key("input.subjects.prefix", Text, "`s3://` prefix, one folder per subject."),
    key("input.subjects.group_by", Words(&["parent"]), "What makes images one subject: their folder."),
    key("input.subjects.references", Block, "Which references of a subject are used; each is swept, one per item."),
    key("input.subjects.references.max", Whole(1, 1000), "At most so many of each subject."),
    key("input.subjects.references.pick", Words(&["sorted"]), "The first in the order of their keys."),
    key("input.subjects.classes", Either(&[Text, Map(&Text)]), "`{{ subject.class }}` of each subject: a mapping, or the address of a CSV file.").partly("a mapping", "the address of a file"),
    key("input.subjects.include", TEXTS, "Globs over keys below the prefix; default all images."),
    key("input.subjects.exclude", TEXTS, "Globs over keys below the prefix that are left out."),
    key("input.hf", Text, "Name of a Hugging Face data set.").kinds(&[TextToImage, ImagePairs, Edit, Controllable, DensePrediction]).no("a Hugging Face input (hf)"),
    key("input.columns", Map(&TextOrNothing), "Which column holds the `prompt`, the `image`, the `id`; `id: null` takes the content hash of the row."),
    key("input.where", Text, "Which rows are taken.").no("input.where"),
    key("input.limit", Whole(1, MOST), "Only the first so many rows, for a cheap trial."),
    key("input.include", TEXTS, "Globs over keys below the prefix; default all images."),
    key("input.exclude", TEXTS, "Globs over keys below the prefix that are left out."),
    key("input.on_bad_input", Words(OnBadInput::WORDS), "What happens with an input that is no readable image.").kinds(FROM_IMAGES),
    key("input.allow_empty", Flag, "Whether a job without any input is fine."),
    key("input.prompts", List(&Text, 1, ANY), "The scenes that every reference of a `subject_set` is put into.").kinds(&[SubjectSet]),
    key("generate", Block, "What is drawn, for every kind but `dense_prediction`.").kinds(DRAWS),
    key("generate.size", Text, "Width x height of the picture, multiples of 32, for `text_to_image`.").matrix().kinds(&[TextToImage]),
    key("generate.panel", Text, "Width x height of one panel, multiples of 32; the model draws two.").matrix().kinds(&[ImagePairs, SubjectSet, Edit, Controllable]),
    key("generate.fit", Words(&["center_crop", "pad", "tile"]), "How an input is brought into its panel.").kinds(&[SubjectSet, Edit, Controllable]).but(&["tile"]),
    key("generate.maps", List(&Words(MapKind::WORDS), 1, ANY), "The maps of `image_pairs`, one pair for each.").kinds(&[ImagePairs]),
    key("generate.keep_joint", Flag, "Whether `image_pairs` also store the unsplit picture.").kinds(&[ImagePairs]),
    key("generate.seeds", SEEDS, "`{start: N, vary: cells}`, or a list of seeds that are used as they are."),
    key("generate.seeds.start", Seed, "The seed that those of all items are derived from."),
    key("generate.seeds.vary", Words(&["rows", "cells"]), "Whether the combinations of a row share their seeds."),
    key("generate.images_per_prompt", Whole(1, 10_000), "Pictures of each row, prompt, map and combination."),
    key("generate.prompt_template", Text, "The caption of a row; default `{{ row.prompt }}`.").kinds(&[TextToImage, ImagePairs, Controllable]),
    key("predict", Block, "What is predicted, for `dense_prediction`.").kinds(&[DensePrediction]),
    key("predict.targets", List(&Words(MapKind::WORDS), 1, ANY), "The maps to predict, one item for each."),
    key("predict.panel", Text, "Width x height of one panel, multiples of 32.").matrix(),
    key("predict.fit", Words(&["center_crop", "pad", "tile"]), "How an input is brought into its panel; `pad` keeps every pixel.").but(&["tile"]),
    key("predict.restore", Words(Restore::WORDS), "The grid that a map is stored on."),
    key("predict.seeds", SEEDS, "`{start: N, vary: cells}`, or a list of seeds that are used as they are."),
    key("predict.seeds.start", Seed, "The seed that those of all items are derived from."),
    key("predict.seeds.vary", Words(&["rows", "cells"]), "Whether the combinations of a row share their seeds."),
    key("predict.prompt_template", Text, "The caption of a row; default none."),
    key("turns", Blocks(1, 16), "The instructions of an `edit`, run in order.").kinds(&[Edit]).partly("one turn", "several"),
    key("turns[].name", Text, "A word for file names."),
    key("turns[].instruction", Text, "What to change; a template."),
    key("turns[].from", Text, "The turn whose result is edited; default the one before.").partly("", "an earlier turn"),
    key("control", Block, "What the given maps of a `controllable` job are.").kinds(&[Controllable]),
    key("control.source", Words(&["map", "image"]), "`map`: the image column holds the map; `image`: the map is derived from it.").partly("map", "image"),
    key("control.map", Words(MapKind::WORDS), "Which map it is; default `{{ matrix.control }}`.").matrix(),
    key("control.params", Block, "How maps are derived.").partly("", "with source: image"),
    key("control.params.canny", Block, "Thresholds of the edge filter."),
    key("control.params.canny.low", Number(0.0, 1000.0), "Gradients below are no edges."),
    key("control.params.canny.high", Number(0.0, 1000.0), "Gradients above are edges."),
    key("control.params.openpose", Block, "What a pose map shows."),
    key("control.params.openpose.hands", Flag, "Whether hands are drawn."),
    key("evaluate", Block, "Scores of predicted maps against known ones.").kinds(&[DensePrediction]).no("evaluate (scores against known maps)"),
    key("evaluate.depth", Block, "Scores of depth."),
    key("evaluate.depth.gt", Text, "Column of the known depth."),
    key("evaluate.depth.gt_scale", Number(0.0, f64::INFINITY), "Metres per unit of the known depth."),
    key("evaluate.depth.align", Words(&["least_squares", "median", "none"]), "How a prediction is brought to the known scale."),
    key("evaluate.depth.metrics", List(&Words(&["abs_rel", "delta1", "delta2", "delta3", "rmse"]), 0, ANY), "Which scores."),
    key("prompt", Block, "The model's own prompt strings, replaced."),
    key("prompt.template", Text, "The whole string; knows `{{ caption }}`, `{{ width }}`, `{{ height }}`, `{{ map }}`, `{{ description }}`."),
    key("prompt.description", Text, "What the reference of a `subject_set` shows.").kinds(&[SubjectSet]),
    key("matrix", Open(&List(&Scalar, 1, ANY)), "Lists of values; every combination is run. `include`, `exclude` and `max_combinations` are no dimensions."),
    key("matrix.include", List(&Map(&Scalar), 0, ANY), "Combinations and keys that are added."),
    key("matrix.exclude", List(&Map(&Scalar), 0, ANY), "Combinations that are left out."),
    key("matrix.max_combinations", Whole(1, 1024), "The most combinations; default 64."),
    key("sampler", Block, "How tokens are drawn."),
    key("sampler.cfg", Number(0.0, 20.0), "Strength of guidance, 1 is none; default 4, for `dense_prediction` 1.").matrix(),
    key("sampler.top_k", Whole(1, 16_384), "How many of the best codes are kept; default 4096.").matrix(),
    key("sampler.top_p", Above(0.0, 1.0), "Share of probability that is kept; default 1.").matrix().partly("1.0", "anything below"),
    key("sampler.temperature", Number(0.0, 10.0), "0 takes the best code; default 1.").matrix(),
    key("sampler.decoding", Words(Decoding::WORDS), "How a sequence is found; default `jacobi`.").matrix(),
    key("sampler.window", Either(&[Words(&["auto"]), Whole(1, 256)]), "How many positions are tried at once: `auto` or a number; default `auto`.").matrix(),
    key("sampler.guidance_schedule", Words(GuidanceSchedule::WORDS), "How guidance depends on the position; default `constant`.").matrix(),
    key("model", Block, "The model.").partly("one setting per job", "a matrix over settings"),
    key("model.name", Text, "Name under which workers offer it; default `lumina-mgpt-2.0`.").matrix(),
    key("model.weights", Words(Weights::WORDS), "Form of the weights; default `int4`.").matrix(),
    key("model.kv_cache", Words(KvCache::WORDS), "Form of the cache; default `bf16`.").matrix(),
    key("output", Block, "Where results go and how they are written."),
    key("output.dest", Text, "`s3://bucket/prefix/`; a template over `job.name`, `job.id`, `run.date`, `run.index`."),
    key("output.layout", Words(&["files", "webdataset", "parquet"]), "How items lie at the destination.").but(&["webdataset", "parquet"]),
    key("output.shard", Block, "Bounds of the files of a packed layout.").partly("", "with a packed layout"),
    key("output.shard.max_samples", Whole(1, MOST), "At most so many items in a file."),
    key("output.shard.max_bytes", Text, "For example `512MiB`."),
    key("output.format", Words(&["png", "jpeg", "webp"]), "How pictures are written; default `png`.").partly("png", "jpeg, webp"),
    key("output.name", Text, "Name of an item's first file; a template."),
    key("output.partition_by", TEXTS, "Dimensions that become `key=value` folders: matrix keys, `map`, `control`, `subject`, `prompt`."),
    key("output.metadata", Block, "What is written about each item."),
    key("output.metadata.sidecar", Words(Sidecar::WORDS), "Form of the table at the destination; default `parquet`."),
    key("output.metadata.also_jsonl", Flag, "A JSONL table beside the Parquet one.").partly("false", "true"),
    key("output.metadata.embed", List(&Words(&["png_text", "xmp"]), 0, ANY), "What stands inside the files; default `[png_text]`.").but(&["xmp"]),
    key("output.metadata.redact_prompt", Flag, "Whether prompts are left out of what stands inside the files."),
    key("output.contact_sheets", Block, "Overviews of many pictures.").no("output.contact_sheets"),
    key("output.contact_sheets.rows", Text, "The dimension of the rows."),
    key("output.contact_sheets.columns", Text, "The dimension of the columns."),
    key("output.contact_sheets.per", Text, "The dimension of which each value has a sheet."),
    key("output.contact_sheets.max_cells", Whole(1, 10_000), "At most so many pictures on a sheet."),
    key("output.keep_turns", Words(&["all", "last"]), "Which turns of an `edit` are stored.").kinds(&[Edit]),
    key("output.save_control_maps", Flag, "Whether `controllable` jobs store the map as it went into the panel.").kinds(&[Controllable]),
    key("output.depth", Block, "How depth is stored.").kinds(&[DensePrediction]),
    key("output.depth.encoding", Words(&["png16", "npy_f16", "npy_f32"]), "How the numbers are written.").but(&["npy_f16", "npy_f32"]),
    key("output.depth.range", Words(&["affine_0_1", "metric_mm"]), "What the numbers mean.").but(&["metric_mm"]),
    key("output.depth.also", List(&Words(&["npy_f16", "npy_f32", "preview_spectral"]), 0, ANY), "Further files of a map.").but(&["npy_f16", "npy_f32", "preview_spectral"]),
    key("output.normal", Block, "How normals are stored.").kinds(&[DensePrediction]),
    key("output.normal.encoding", Words(&["png8", "npy_f16"]), "How the numbers are written.").but(&["npy_f16"]),
    key("output.normal.frame", Words(&["opengl_camera", "directx"]), "Which way the axes point.").but(&["directx"]),
    key("output.normal.also", List(&Words(&["npy_f16"]), 0, ANY), "Further files of a map.").but(&["npy_f16"]),
    key("output.on_existing", Words(OnExisting::WORDS), "What a destination in use means; default `refuse`."),
    key("schedule", Block, "When the job may run."),
    key("schedule.window", Text, "For example `\"22:00-06:00 Europe/Berlin\"`."),
    key("schedule.days", List(&Words(Day::WORDS), 0, ANY), "The days on which the window opens."),
    key("schedule.when_window_closes", Words(WhenWindowCloses::WORDS), "What happens with items in hand when the window closes."),
    key("schedule.not_before", Text, "Nothing starts before, for example `\"2026-11-25T22:00 Europe/Berlin\"`."),
    key("schedule.after", List(&Whole(1, MOST), 0, 64), "Ids of jobs that must have finished before this one starts."),
    key("schedule.hold", Flag, "Whether it waits until somebody releases it."),
    key("schedule.cron", Text, "Five fields and a time zone, for example `\"0 21 * * 1-5 Europe/Berlin\"`."),
    key("schedule.when_still_running", Words(WhenStillRunning::WORDS), "What becomes of a run that is due while an earlier one is not over."),
    key("resources", Block, "What the job needs."),
    key("resources.gpu", Block, "What the job needs of a GPU."),
    key("resources.gpu.min_memory", Text, "For example `40GiB`."),
    key("resources.priority", Whole(0, 100), "Higher runs first; default 50."),
    key("resources.labels", Map(&Text), "Labels that a worker must have."),
    key("resources.allow_mixed", Flag, "Whether workers of different engine fingerprints may share the job."),
    key("resources.shard_items", Whole(1, 10_000), "Items that are leased together, exactly; without it as many as take the worker that leases them about a minute, and fewer near the end."),
    key("retry", Block, "How failures are tried again."),
    key("retry.max_attempts", Whole(1, 20), "How often a shard is tried; default 3."),
    key("retry.backoff", Block, "How long to wait before the next try."),
    key("retry.backoff.initial", Text, "For example `10s`."),
    key("retry.backoff.max", Text, "For example `10m`."),
    key("retry.backoff.jitter", Words(&["full", "none"]), "How waiting times are spread."),
    key("retry.errors", List(&Words(RetryClass::WORDS), 0, ANY), "What is tried again."),
    key("limits", Block, "When the job stops by itself."),
    key("limits.max_gpu_hours", Number(0.0, f64::INFINITY), "Engine hours after which it stops."),
    key("limits.max_items", Whole(1, MOST), "A job with more items is refused."),
    key("limits.max_failed_items", Either(&[Whole(0, MOST), Share]), "A number, or a share such as `5%`."),
    key("limits.item_timeout", Text, "An item that takes longer in the engine fails, for example `10m`."),
    key("limits.stop_at", Text, "For example `\"2026-11-25T06:00 Europe/Berlin\"`."),
    key("notify", Blocks(0, ANY), "Who is told."),
    key("notify[].webhook", Text, "`https://` or `http://` address."),
    key("notify[].events", List(&Words(NotifyEvent::WORDS), 0, ANY), "What is told."),
    key("notify[].secret_env", Text, "Name of the environment variable that holds the signing secret."),
];
