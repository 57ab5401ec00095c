//! From the text of a spec to a valid spec, or to all its mistakes.
//!
//! The order: scan, check, header, combinations, cells, input, captions, output, running. Each part writes every mistake it
//! finds and goes on with what is left.

use crate::keys::{Features, THIS_BUILD};
use crate::places::Places;
use crate::read::{captions, cells, check, header, input, matrix, output, running, trial, unique};
use crate::spec::input::InputSpec;
use crate::spec::notify::Notify;
use crate::spec::running::Running;
use crate::spec::{JobSpec, Kind, MaxFailed, OutputSpec};
use crate::yaml::diagnostic::{Diagnostic, Severity, SpecErrors};
use crate::yaml::findings::Cx;
use crate::yaml::given::Given;
use crate::yaml::node::{Content, Node};
use crate::yaml::scan;

/// A spec that was read without mistakes.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The resolved spec.
    pub spec: JobSpec,
    /// What is probably not meant so.
    pub warnings: Vec<Diagnostic>,
    /// What this build cannot run; a job is submitted only when this is empty.
    pub cannot_run: Vec<Diagnostic>,
    /// Where things stand, for mistakes that show only when inputs and destinations are known.
    pub places: Places,
}

/// Reads a spec. `name` is the file name that mistakes are shown with.
///
/// # Errors
/// All mistakes of the text, in its order.
pub fn parse(name: &str, text: &str) -> Result<Parsed, SpecErrors> {
    parse_for(name, text, &THIS_BUILD)
}

/// Reads a spec for a build with these features.
pub(crate) fn parse_for(name: &str, text: &str, features: &Features) -> Result<Parsed, SpecErrors> {
    let scanned = scan::scan(text).map_err(|found| SpecErrors::new(name, text, found))?;
    let mut cx = Cx::new(scanned.root.clone(), text);
    cx.extend(scanned.mistakes);
    let read = if matches!(scanned.root.content, Content::Map(_)) {
        build(&mut cx, features)
    } else {
        let message = format!(
            "a spec is a mapping with apiVersion, kind, metadata, input and output, got {}",
            scanned.root.shown()
        );
        cx.error("", "spec::wrong_type", message);
        None
    };
    if read.is_none() && cx.is_clean() {
        // A part gave up without a word: that is our mistake, and a refusal must still have words.
        let message =
            "this spec cannot be resolved (a mistake of nightshift, please report it)".to_owned();
        cx.error("", "spec::internal", message);
    }
    if cx.is_clean() {
        agree(&mut cx, text);
    }
    let mut found = cx.into_found();
    found.sort_by_key(|found| (found.line, found.column));
    let (errors, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| found.severity == Severity::Error);
    match read {
        Some((spec, places)) if errors.is_empty() => {
            let (cannot_run, warnings) =
                others.into_iter().partition(|found| found.severity == Severity::CannotRun);
            Ok(Parsed { spec, warnings, cannot_run, places })
        }
        _ => Err(SpecErrors::new(name, text, errors)),
    }
}

/// Two YAML readers must see the same document: what one of them reads in another way, some other tool would too.
fn agree(cx: &mut Cx<'_>, text: &str) {
    let same =
        serde_yaml::from_str::<serde_yaml::Value>(text).is_ok_and(|value| value == cx.root.value());
    if !same {
        let message = "YAML readers disagree about this document".to_owned();
        cx.error_with(
            "",
            "spec::ambiguous",
            message,
            Some("quote texts that look like numbers or hold special characters".to_owned()),
        );
    }
}

fn build(cx: &mut Cx<'_>, features: &Features) -> Option<(JobSpec, Places)> {
    let root = cx.root.clone();
    let given = check::check(cx, &root)?;
    let header = header::read(cx, &given);
    let rest = Rest {
        running: running::read(cx, &given),
        max_failed_items: running::max_failed(cx, &given),
        notify: running::notify(cx, &given),
    };
    header::refuse_what_cannot_run(cx, &given);
    let kind = header.kind?;
    header::refuse_keys_of_other_kinds(cx, kind);
    let combinations = matrix::combinations(cx);
    let cells = combinations
        .as_deref()
        .and_then(|combinations| cells::read(cx, &given, kind, combinations, features));
    let input = input::read(cx, &given, kind);
    let draw = cells::drawing(cx, &given, kind);
    let texts = captions::read(
        cx,
        &given,
        kind,
        input.as_ref(),
        combinations.as_deref().unwrap_or_default(),
    );
    let output = output::read(cx, &given, kind, input.as_ref(), combinations.as_deref());
    let combinations = combinations.unwrap_or_default();
    if let (Some(input), Some(draw), Some(texts), Some((output, _))) =
        (&input, &draw, &texts, &output)
    {
        unique::check(cx, kind, input, draw, texts, output, &combinations);
    }
    let (cells, input, draw, mut texts, (output, columns)) =
        (cells?, input?, draw?, texts?, output?);
    texts.columns.extend(columns);
    // After other mistakes it is likely only misspelt.
    if cx.is_clean() {
        unused_dimensions(cx, &root, &draw, kind);
    }
    let places = Places::new(cx, &input.spec, texts.columns.clone());
    let spec = resolved(&given, header, rest, input.spec, cells, draw, texts, output)?;
    if cx.is_clean() {
        trial::check(cx, &spec);
    }
    Some((spec, places))
}

/// What depends on no other part.
struct Rest {
    running: Running,
    max_failed_items: Option<MaxFailed>,
    notify: Vec<Notify>,
}

/// The parts put together, what is left filled with defaults.
#[expect(clippy::too_many_arguments, reason = "one for each part")]
fn resolved(
    given: &Given,
    header: header::Header,
    rest: Rest,
    input: InputSpec,
    cells: cells::Cells,
    draw: cells::Drawing,
    texts: captions::Texts,
    output: OutputSpec,
) -> Option<JobSpec> {
    Some(JobSpec {
        kind: header.kind?,
        name: header.name?,
        about: header.about,
        labels: given.read("metadata.labels").unwrap_or_default(),
        input,
        on_bad_input: given.read("input.on_bad_input").unwrap_or_default(),
        allow_empty: given.is_on("input.allow_empty"),
        captions: texts.captions,
        maps: draw.maps,
        prompt_template: texts.prompt_template,
        description: texts.description,
        turn_name: texts.turn_name,
        seeds: draw.seeds,
        cells: cells.cells,
        fit: draw.fit,
        model: cells.model,
        output,
        priority: given.read("resources.priority").unwrap_or(50),
        shard_items: given.read("resources.shard_items"),
        max_attempts: given.read("retry.max_attempts").unwrap_or(3),
        max_items: given.read("limits.max_items"),
        max_failed_items: rest.max_failed_items,
        running: rest.running,
        notify: rest.notify,
    })
}

/// A dimension that nothing refers to makes the same pictures once for each of its values.
fn unused_dimensions(cx: &mut Cx<'_>, root: &Node, draw: &cells::Drawing, kind: Kind) {
    let varies = matches!(draw.seeds, crate::spec::Seeds::Start { vary_cells: true, .. });
    let Some(matrix) = root.get("matrix").filter(|_| !varies) else {
        return;
    };
    let mut used = Vec::new();
    for entry in root
        .entries()
        .iter()
        .filter(|entry| !matches!(&*entry.key, "matrix" | "metadata" | "notify"))
    {
        references(&entry.value, &mut used);
    }
    if kind == Kind::Controllable && !cx.given("control.map") {
        used.push("control".to_owned());
    }
    for entry in matrix
        .entries()
        .iter()
        .filter(|entry| !matches!(&*entry.key, "include" | "exclude" | "max_combinations"))
    {
        if entry.value.elements().len() > 1 && !used.iter().any(|used| *used == *entry.key) {
            let path = format!("matrix.{}", entry.key);
            let message = format!("{path} is used nowhere: all its values make the same pictures");
            let help = format!(
                "write `\"{{{{ matrix.{} }}}}\"` where it belongs, for example in sampler",
                entry.key
            );
            cx.error_at_with(entry.key_at, &path, "spec::unused_dimension", message, Some(help));
        }
    }
}

/// Collects the KEY of every `{{ matrix.KEY }}` below a node.
fn references(node: &Node, used: &mut Vec<String>) {
    if let Some(text) = node.text() {
        for (at, _) in text.match_indices("matrix.") {
            let rest = &text[at + "matrix.".len()..];
            let end =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            used.push(rest[..end].to_owned());
        }
    }
    node.elements().iter().for_each(|element| references(element, used));
    node.entries().iter().for_each(|entry| references(&entry.value, used));
}
