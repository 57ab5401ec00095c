//! What is drawn: sizes, seeds, maps, the sampler and the model, resolved for every combination of the matrix.

use std::collections::HashSet;

use serde_yaml::Value;

use crate::keys::Features;
use crate::read::check;
use crate::read::matrix::{self, Combination};
use crate::spec::{Cell, Decoding, Fit, Kind, MapKind, ModelSpec, Sampler, Seeds, Size, Window};
use crate::units;
use crate::yaml::findings::Cx;
use crate::yaml::given::Given;
use crate::yaml::node::{Content, Entry, Node, quoted};

/// The name under which workers offer the model when the spec does not say.
const DEFAULT_MODEL: &str = "lumina-mgpt-2.0";

/// The longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 1536;

/// The largest picture of a single panel, in pixels.
const MAX_PICTURE: Size = Size { width: MAX_SIDE, height: MAX_SIDE };
/// The largest panel of two, in pixels.
const MAX_PANEL: Size = Size { width: MAX_SIDE, height: MAX_SIDE / 2 };

/// The blocks that may differ between combinations.
const BLOCKS: [&str; 5] = ["generate", "predict", "control", "sampler", "model"];

/// The combinations, resolved.
pub(crate) struct Cells {
    pub(crate) cells: Vec<Cell>,
    pub(crate) model: ModelSpec,
}

pub(crate) fn read(
    cx: &mut Cx<'_>,
    given: &Given,
    kind: Kind,
    combinations: &[Combination],
    features: &Features,
) -> Option<Cells> {
    let mut cells = Vec::with_capacity(combinations.len());
    let mut models: Vec<ModelSpec> = Vec::new();
    let document = cx.root.clone();
    for combination in combinations {
        let resolved = resolve(cx, &document, kind, combination);
        let read = read_cell(cx, kind, resolved, combination);
        if let Some((cell, model)) = read {
            models.push(model);
            cells.push(cell);
        }
        cx.root = document.clone();
    }
    if cells.len() < combinations.len() {
        return None;
    }
    let model = models.first()?.clone();
    if models.iter().any(|other| *other != model) {
        cx.cannot_run("model", "a matrix over model settings");
    }
    cannot_run(cx, &cells, &models, features);
    control(cx, given);
    Some(Cells { cells, model })
}

/// Puts a combination's values into its blocks and makes them the document that positions are looked up in.
fn resolve(
    cx: &mut Cx<'_>,
    document: &Node,
    kind: Kind,
    combination: &Combination,
) -> Option<Given> {
    let mut blocks: Vec<Entry> = Vec::new();
    for entry in document.entries().iter().filter(|entry| BLOCKS.contains(&&*entry.key)) {
        let mut entry = entry.clone();
        entry.value = matrix::substitute(cx, &entry.value, combination, &entry.key);
        blocks.push(entry);
    }
    if kind == Kind::Controllable {
        add_control_map(document, combination, &mut blocks);
    }
    cx.root = Node { at: document.at, content: Content::Map(blocks.into()) };
    let root = cx.root.clone();
    check::check(cx, &root)
}

/// A dimension named `control` is the map, when `control.map` does not say otherwise.
fn add_control_map(document: &Node, combination: &Combination, blocks: &mut Vec<Entry>) {
    let Some(value) = combination.values.get("control") else {
        return;
    };
    if document.get("control").is_some_and(|control| control.get("map").is_some()) {
        return;
    }
    let map = Entry { key: "map".into(), key_at: value.at, value: value.clone() };
    match blocks.iter_mut().find(|entry| &*entry.key == "control") {
        Some(block) => {
            let entries: Vec<Entry> = block.value.entries().iter().cloned().chain([map]).collect();
            block.value.content = Content::Map(entries.into());
        }
        None => {
            let value = Node { at: value.at, content: Content::Map(vec![map].into()) };
            blocks.push(Entry { key: "control".into(), key_at: value.at, value });
        }
    }
}

fn read_cell(
    cx: &mut Cx<'_>,
    kind: Kind,
    given: Option<Given>,
    combination: &Combination,
) -> Option<(Cell, ModelSpec)> {
    let given = &given?;
    let before = cx.count();
    let picture = picture(cx, kind, given);
    let sampler = sampler(cx, kind, given);
    let control = match kind {
        Kind::Controllable => {
            cx.missing("control.map", "map: depth, or a dimension `control` in the matrix");
            given.read("control.map")
        }
        _ => None,
    };
    let name = given.text("model.name").unwrap_or(DEFAULT_MODEL).to_owned();
    if !crate::read::header::is_name(&name) {
        cx.error(
            "model.name",
            "spec::bad_name",
            format!("model.name {} is not the name of a model", quoted(&name)),
        );
    }
    let model = ModelSpec {
        name,
        weights: given.read("model.weights").unwrap_or_default(),
        kv_cache: given.read("model.kv_cache").unwrap_or_default(),
    };
    let incomplete = kind == Kind::Controllable && control.is_none();
    if cx.count() > before || incomplete {
        return None;
    }
    Some((
        Cell { values: combination.json(), picture: picture?, sampler: sampler?, control },
        model,
    ))
}

/// The whole picture: one panel for `text_to_image`, two of the same size one above the other for every other kind.
fn picture(cx: &mut Cx<'_>, kind: Kind, given: &Given) -> Option<Size> {
    let (path, max) = match kind {
        Kind::TextToImage => ("generate.size", MAX_PICTURE),
        Kind::DensePrediction => ("predict.panel", MAX_PANEL),
        _ => ("generate.panel", MAX_PANEL),
    };
    let Some(text) = given.text(path) else {
        let example = format!(
            "{}: {}",
            path.rsplit('.').next().unwrap_or_default(),
            if kind == Kind::TextToImage { "768x768" } else { "512x512" }
        );
        cx.missing(path, &example);
        return None;
    };
    let Some(size) = units::size(text) else {
        let help = "write width x height in pixels".to_owned();
        cx.error_with(
            path,
            "spec::bad_size",
            format!("{path}: expected a size such as 512x512, got {}", quoted(text)),
            Some(help),
        );
        return None;
    };
    if let Err((message, help)) = units::check_size(size, max) {
        cx.error_with(path, "spec::bad_size", format!("{path} {size}: {message}"), help);
        return None;
    }
    Some(if kind == Kind::TextToImage {
        size
    } else {
        Size { width: size.width, height: 2 * size.height }
    })
}

fn sampler(cx: &mut Cx<'_>, kind: Kind, given: &Given) -> Option<Sampler> {
    let decoding = given.read("sampler.decoding").unwrap_or_default();
    let window = given.read("sampler.window").map_or(Window::Auto, Window::Fixed);
    if decoding == Decoding::Sequential && window != Window::Auto {
        let message =
            "sampler.window is for jacobi and coupled; sequential decoding has none".to_owned();
        cx.error("sampler.window", "spec::not_for_decoding", message);
    }
    let cfg = if kind == Kind::DensePrediction { 1.0 } else { 4.0 };
    Some(Sampler {
        cfg: given.read("sampler.cfg").unwrap_or(cfg),
        top_k: given.read("sampler.top_k").unwrap_or(4096),
        top_p: given.read("sampler.top_p").unwrap_or(1.0),
        temperature: given.read("sampler.temperature").unwrap_or(1.0),
        decoding,
        window,
        guidance_schedule: given.read("sampler.guidance_schedule").unwrap_or_default(),
    })
}

fn cannot_run(cx: &mut Cx<'_>, cells: &[Cell], models: &[ModelSpec], features: &Features) {
    for model in models {
        if !features.weights.contains(&model.weights) {
            let runs = words(features.weights.iter().map(|weights| weights.as_str()));
            let help = format!("this build runs model.weights: {runs}");
            cx.cannot_run_but(
                "model.weights",
                &format!("model.weights: {}", model.weights),
                Some(help),
            );
        }
        if !features.kv_cache.contains(&model.kv_cache) {
            let runs = words(features.kv_cache.iter().map(|cache| cache.as_str()));
            let help = format!("this build runs model.kv_cache: {runs}");
            cx.cannot_run_but(
                "model.kv_cache",
                &format!("model.kv_cache: {}", model.kv_cache),
                Some(help),
            );
        }
    }
    for sampler in cells.iter().map(|cell| &cell.sampler) {
        if !features.decoding.contains(&sampler.decoding) {
            cx.cannot_run("sampler.decoding", &format!("sampler.decoding: {}", sampler.decoding));
        }
        if sampler.top_p < 1.0 {
            cx.cannot_run("sampler.top_p", "sampler.top_p other than 1.0");
        }
    }
}

/// Maps that are derived, and how.
fn control(cx: &mut Cx<'_>, given: &Given) {
    let derived = given.says("control.source", "image");
    if derived {
        cx.cannot_run("control.source", "control.source: image (maps to derive)");
    }
    if given.at("control.params").is_some() {
        if derived {
            cx.cannot_run("control.params", "control.params");
        } else {
            let message = "control.params is for control.source: image".to_owned();
            cx.key_error("control.params", "spec::needs_other", message);
        }
    }
    let [low, high] =
        ["low", "high"].map(|bound| given.read::<f64>(&format!("control.params.canny.{bound}")));
    if let (Some(low), Some(high)) = (low, high)
        && low > high
    {
        let message = format!("control.params.canny.low {low} is above high {high}");
        cx.error("control.params.canny.low", "spec::out_of_range", message);
    }
}

/// Words with commas between them.
fn words(words: impl Iterator<Item = &'static str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// What is drawn of each row and combination: the same for all combinations.
pub(crate) struct Drawing {
    pub(crate) seeds: Seeds,
    pub(crate) maps: Vec<MapKind>,
    pub(crate) fit: Fit,
}

pub(crate) fn drawing(cx: &mut Cx<'_>, given: &Given, kind: Kind) -> Option<Drawing> {
    let dense = kind == Kind::DensePrediction;
    let (block, default_fit) =
        if dense { ("predict", Fit::Pad) } else { ("generate", Fit::CenterCrop) };
    // `tile` is a fit that this build cannot run: nothing is drawn with what stands for it.
    let fit = given.read(&format!("{block}.fit")).unwrap_or(default_fit);
    let seeds = seeds(cx, given, kind, block)?;
    let maps = maps(cx, given, kind)?;
    Some(Drawing { seeds, maps, fit })
}

fn maps(cx: &mut Cx<'_>, given: &Given, kind: Kind) -> Option<Vec<MapKind>> {
    let path = match kind {
        Kind::ImagePairs => "generate.maps",
        Kind::DensePrediction => "predict.targets",
        _ => return Some(Vec::new()),
    };
    let Some(maps) = given.read(path).filter(|maps: &Vec<MapKind>| !maps.is_empty()) else {
        cx.missing(path, &format!("{}: [depth]", path.rsplit('.').next().unwrap_or_default()));
        return None;
    };
    for (n, map) in maps.iter().enumerate() {
        if maps[..n].contains(map) {
            cx.error(path, "spec::duplicate_value", format!("{path} has {map} twice"));
            return None;
        }
    }
    Some(maps)
}

fn seeds(cx: &mut Cx<'_>, given: &Given, kind: Kind, block: &str) -> Option<Seeds> {
    let path = format!("{block}.seeds");
    let per_row: Option<u32> = given.read(&format!("{block}.images_per_prompt"));
    let start = |start, vary_cells| Seeds::Start { start, count: per_row.unwrap_or(1), vary_cells };
    match given.at(&path) {
        Some(Value::Sequence(list)) => {
            let list: Vec<u64> = list.iter().map(seed).collect::<Option<_>>()?;
            list_of_seeds(cx, block, list, per_row)
        }
        Some(block) => {
            let first =
                block.get("start").filter(|start| !start.is_null()).map_or(Some(0), seed)?;
            Some(start(first, given.says(&format!("{path}.vary"), "cells")))
        }
        // What stands there is wrong, and was reported.
        None if cx.given(&path) => None,
        None if kind == Kind::DensePrediction => Some(Seeds::List(vec![0])),
        None => Some(start(0, false)),
    }
}

fn list_of_seeds(
    cx: &mut Cx<'_>,
    block: &str,
    list: Vec<u64>,
    per_row: Option<u32>,
) -> Option<Seeds> {
    let mut seen = HashSet::new();
    if let Some((n, seed)) = list.iter().enumerate().find(|(_, seed)| !seen.insert(**seed)) {
        let message = format!("{block}.seeds has {seed} twice");
        cx.error(&format!("{block}.seeds[{n}]"), "spec::duplicate_value", message);
        return None;
    }
    if let Some(per_row) = per_row.filter(|per_row| *per_row as usize != list.len()) {
        let path = format!("{block}.images_per_prompt");
        let message = format!("{path} is {per_row}, but {} seeds are listed", list.len());
        let help = "leave it out, or give seeds as {start: N}".to_owned();
        cx.error_with(&path, "spec::contradiction", message, Some(help));
        return None;
    }
    // A list that lost its elements to other mistakes is not empty in the text.
    (!list.is_empty()).then_some(Seeds::List(list))
}

/// A seed, written as a number or as digits.
fn seed(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}
