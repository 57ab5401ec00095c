//! Whether names can be unique, by the dimensions that they mention.
//!
//! What varies is row, combination, prompt, map, k and turn. A name must mention each one that has more than one value; whether
//! two rows happen to give the same text is seen when they are read.

use crate::read::captions::Texts;
use crate::read::cells::Drawing;
use crate::read::input::Input;
use crate::read::matrix::Combination;
use crate::spec::input::InputSpec;
use crate::spec::{Kind, OutputSpec, Seeds};
use crate::yaml::findings::Cx;

pub(crate) fn check(
    cx: &mut Cx<'_>,
    kind: Kind,
    input: &Input,
    draw: &Drawing,
    texts: &Texts,
    output: &OutputSpec,
    combinations: &[Combination],
) {
    let mentioned = mentioned(output, combinations);
    let has = |path: &str| mentioned.iter().any(|mentioned| mentioned == path);
    let starts = |prefix: &str| mentioned.iter().any(|mentioned| mentioned.starts_with(prefix));
    let (seed_has_row, seed_has_cell) = match draw.seeds {
        Seeds::List(_) => (false, false),
        Seeds::Start { vary_cells, .. } => (has("seed"), has("seed") && vary_cells),
    };
    let rows = match &input.spec {
        InputSpec::Inline { rows } => Some(rows.len() as u64),
        InputSpec::Manifest { limit, .. } | InputSpec::Prefix { limit, .. } => *limit,
        InputSpec::Subjects(subjects) => subjects.limit,
    };
    // (what it is, how many values, whether the name tells them apart, what to add)
    let dimensions = [
        (
            "row",
            rows.unwrap_or(u64::MAX),
            starts("row.") || starts("input.") || seed_has_row,
            "{{ row.id }}",
        ),
        (
            "combination",
            combinations.len() as u64,
            seed_has_cell || told_apart(&mentioned, kind, combinations),
            "the matrix keys",
        ),
        ("prompt", texts.captions.len() as u64, starts("prompt."), "{{ prompt.index }}"),
        ("map", draw.maps.len() as u64, has("map") || has("target"), "{{ map }}"),
        ("image", draw.seeds.count(), has("seed") || has("k"), "{{ seed }}"),
        ("turn", texts.turns as u64, starts("turn."), "{{ turn.name }}"),
    ];
    let missing = dimensions.into_iter().filter(|(_, count, told, _)| *count > 1 && !told);
    refuse(cx, output, missing.map(|(what, count, _, add)| (what, count, add)).collect());
}

/// The mistake of a name that leaves dimensions out: what they are, how many values they have, and what to add.
fn refuse(cx: &mut Cx<'_>, output: &OutputSpec, missing: Vec<(&str, u64, &str)>) {
    if missing.is_empty() {
        return;
    }
    let value = |path: &str| Ok::<_, ()>(Some(example_of(path).to_owned()));
    let example = output.name.render(value, |_| ()).unwrap_or_default();
    let same = missing.iter().fold(1, |product: u64, (_, count, _)| product.saturating_mul(*count));
    let what = if same == u64::MAX {
        "all items of the input".to_owned()
    } else {
        format!("{same} items")
    };
    let help = match missing.as_slice() {
        [("row", _, _)] => "add {{ row.id }} or {{ seed }}".to_owned(),
        several => {
            let add: Vec<&str> = several.iter().map(|(_, _, add)| *add).collect();
            format!("add {}", add.join(" and "))
        }
    };
    let path = if cx.given("output.name") { "output.name" } else { "output.partition_by" };
    let message = format!("output.name gives the same key for {what} (e.g. \"{example}\")");
    cx.error_with(path, "spec::name_not_unique", message, Some(help));
}

/// The template paths that the name and its folders mention.
fn mentioned(output: &OutputSpec, combinations: &[Combination]) -> Vec<String> {
    let folder = |dimension: &String| {
        let in_matrix = combinations.iter().any(|one| one.values.contains_key(dimension));
        let path = crate::item::expand::partition_path(dimension);
        if in_matrix { format!("matrix.{dimension}") } else { path.to_owned() }
    };
    let name = output.name.places().map(|place| place.path.clone());
    name.chain(output.partition_by.iter().map(folder)).collect()
}

/// Whether the matrix keys that a name mentions have other values in every combination.
fn told_apart(mentioned: &[String], kind: Kind, combinations: &[Combination]) -> bool {
    let mut seen = std::collections::HashSet::new();
    let control = kind == Kind::Controllable
        && mentioned.iter().any(|path| path == "map" || path == "control");
    combinations.iter().all(|combination| {
        let values = combination.json();
        let projected: Vec<String> = values
            .iter()
            .filter(|(key, _)| {
                (control && *key == "control")
                    || mentioned.iter().any(|path| path.strip_prefix("matrix.") == Some(key))
            })
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        seen.insert(projected)
    })
}

/// A plausible value, to show what a name becomes.
fn example_of(path: &str) -> &str {
    match path {
        "ext" => "png",
        "seed" | "k" | "row.index" | "prompt.index" | "turn.index" | "job.id" | "run.index" => "0",
        "map" | "target" | "control" => "depth",
        "run.date" => "2026-11-23",
        other => other.rsplit('.').next().unwrap_or(other),
    }
}
