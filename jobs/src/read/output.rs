//! Where results go, how they are named and how they are written.

use crate::item::key;
use crate::places::ColumnUse;
use crate::read::captions::{Checker, Scope};
use crate::read::check::lossy_depth;
use crate::read::input::Input;
use crate::read::matrix::Combination;
use crate::read::running::bytes;
use crate::spec::input::InputSpec;
use crate::spec::{Kind, OutputSpec};
use crate::template::Template;
use crate::words::Embed;
use crate::yaml::findings::Cx;
use crate::yaml::given::Given;
use crate::yaml::nearest::nearest;
use crate::yaml::node::quoted;

/// The output, and the columns that its names use.
pub(crate) fn read(
    cx: &mut Cx<'_>,
    given: &Given,
    kind: Kind,
    input: Option<&Input>,
    combinations: Option<&[Combination]>,
) -> Option<(OutputSpec, Vec<ColumnUse>)> {
    given.at("output")?;
    let combinations = combinations.unwrap_or_default();
    let dest = dest(cx, given, kind);
    let input = input.map(|input| &input.spec);
    let (name, columns) = name(cx, given, kind, input, combinations);
    let partition_by = partitions(cx, given, kind, combinations);
    format(cx, given, kind);
    shard(cx, given);
    contact_sheets(cx, given, combinations, kind);
    if given.is_on("output.metadata.also_jsonl") {
        cx.cannot_run("output.metadata.also_jsonl", "output.metadata.also_jsonl (a second table makes imagefolder refuse the first; `sidecar: jsonl` runs)");
    }
    let embed = "output.metadata.embed";
    let output = OutputSpec {
        dest: dest?,
        name: name?,
        partition_by: partition_by?,
        keep_joint: given.is_on("generate.keep_joint"),
        save_control_maps: given.is_on("output.save_control_maps"),
        restore: given.read("predict.restore").unwrap_or_default(),
        embed: Embed {
            png_text: given.at(embed).is_none() || given.says(embed, "png_text"),
            redact_prompt: given.is_on("output.metadata.redact_prompt"),
        },
        sidecar: given.read("output.metadata.sidecar").unwrap_or_default(),
        on_existing: given.read("output.on_existing").unwrap_or_default(),
    };
    Some((output, columns))
}

fn dest(cx: &mut Cx<'_>, given: &Given, kind: Kind) -> Option<Template> {
    let path = "output.dest";
    cx.missing(path, "dest: s3://bucket/prefix/");
    let text = given.text(path)?;
    let mut checker = Checker { cx, kind, input: None, combinations: &[], columns: Vec::new() };
    let template = checker.read(path, text, Scope::Dest)?;
    let rendered = template.render(|_| Ok(Some("x".to_owned())), |_| ()).unwrap_or_default();
    let good = key::split_s3(&rendered).is_some_and(|(_, prefix)| {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        prefix.len() <= 300 && (prefix.is_empty() || key::is_safe(prefix, None))
    });
    let bucket_varies = text
        .strip_prefix("s3://")
        .is_some_and(|rest| rest.split('/').next().is_some_and(|bucket| bucket.contains("{{")));
    if !good || bucket_varies {
        let local = text.starts_with('/') || text.starts_with("file:") || text.starts_with('.');
        let help = if local {
            Some("file:// is allowed only with --allow-local".to_owned())
        } else {
            key::bucket_help(text)
        };
        cx.error_with(
            path,
            "spec::bad_dest",
            format!("dest must be s3://bucket/prefix/ (got {})", quoted(text)),
            help,
        );
        return None;
    }
    Some(template)
}

/// Names that are unique and safe, when the spec gives none. Values end up between fixed separators and are read from the right,
/// so that two items never share a name.
fn default_name(given: &Given, kind: Kind) -> String {
    let from_listing = given.at("input.prefix").is_some() || given.at("input.subjects").is_some();
    let row = if from_listing { "{{ input.file | safe_path }}" } else { "{{ row.id | safe }}" };
    let variant = match kind {
        Kind::ImagePairs | Kind::DensePrediction => "_{{ map }}",
        Kind::SubjectSet => "_{{ prompt.index | pad(3) }}",
        Kind::Edit if given.len("turns") > 1 => "_{{ turn.index }}",
        Kind::TextToImage | Kind::Edit | Kind::Controllable => "",
    };
    format!("{row}{variant}_{{{{ seed }}}}.{{{{ ext }}}}")
}

fn name(
    cx: &mut Cx<'_>,
    given: &Given,
    kind: Kind,
    input: Option<&InputSpec>,
    combinations: &[Combination],
) -> (Option<Template>, Vec<ColumnUse>) {
    let path = "output.name";
    let Some(text) = given.text(path) else {
        return (Template::parse(&default_name(given, kind)).ok(), Vec::new());
    };
    let mut checker = Checker { cx, kind, input, combinations, columns: Vec::new() };
    let template = checker.read(path, text, Scope::Name);
    let columns = checker.columns;
    let safe = template.as_ref().is_some_and(|name| is_safe_name(cx, path, name));
    (template.filter(|_| safe), columns)
}

/// Whether a name ends in its extension and stays in its folder, whatever the values are.
fn is_safe_name(cx: &mut Cx<'_>, path: &str, name: &Template) -> bool {
    let sample = |ext: &str| {
        let value =
            |path: &str| Ok::<_, ()>(Some(if path == "ext" { ext } else { "x" }.to_owned()));
        name.render(value, |_| ()).unwrap_or_default()
    };
    let rendered = sample("png");
    let literal = name.as_str().ends_with(".png");
    if !rendered.ends_with(".png") || (!literal && !sample("other").ends_with(".other")) {
        let message = "output.name must end in .{{ ext }}".to_owned();
        cx.error(path, "spec::bad_name", message);
        return false;
    }
    if !key::is_safe(&rendered, Some("png")) {
        let refused = "`..`, leading `/`, control characters, bidi overrides and components over 200 bytes are refused";
        let message = format!("output.name renders to {}; {refused}", quoted(&rendered));
        cx.error(path, "spec::unsafe_key", message);
        return false;
    }
    true
}

/// The dimensions that a kind has, matrix keys apart.
pub(crate) fn dimensions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::TextToImage => &["k", "seed"],
        Kind::ImagePairs => &["map", "k", "seed"],
        Kind::SubjectSet => &["subject", "prompt", "k", "seed"],
        Kind::Edit => &["turn", "k", "seed"],
        Kind::Controllable => &["map", "control", "k", "seed"],
        Kind::DensePrediction => &["map", "target", "k", "seed"],
    }
}

fn partitions(
    cx: &mut Cx<'_>,
    given: &Given,
    kind: Kind,
    combinations: &[Combination],
) -> Option<Vec<String>> {
    let mut keys: Vec<&str> = combinations
        .iter()
        .flat_map(|combination| combination.values.keys())
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let Some(names) = given.texts("output.partition_by") else {
        // Without a name of the user's own, folders keep the combinations apart.
        let own_name = given.at("output.name").is_some() || combinations.len() < 2;
        return Some(if own_name {
            Vec::new()
        } else {
            keys.into_iter().map(str::to_owned).collect()
        });
    };
    let mut good = true;
    for (n, name) in names.iter().enumerate() {
        let path = format!("output.partition_by[{n}]");
        let known: Vec<&str> = keys.iter().chain(dimensions(kind)).copied().collect();
        if names[..n].contains(name) {
            cx.error(
                &path,
                "spec::duplicate_value",
                format!("output.partition_by has {} twice", quoted(name)),
            );
            good = false;
        } else if !known.contains(&name.as_str()) {
            good = false;
            // A broken matrix has been reported; its keys are not known here.
            if !combinations.is_empty() {
                let help = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("dimensions are {}", known.join(", ")),
                };
                cx.error_with(
                    &path,
                    "spec::unknown_dimension",
                    format!("{path}: there is no dimension {}", quoted(name)),
                    Some(help),
                );
            }
        }
    }
    good.then_some(names)
}

/// What is lossy is no form for a map.
fn format(cx: &mut Cx<'_>, given: &Given, kind: Kind) {
    let path = "output.format";
    let Some(format) = given.text(path).filter(|format| *format != "png") else { return };
    match kind {
        Kind::DensePrediction => cx.error(path, "spec::lossy_depth", lossy_depth(format)),
        Kind::ImagePairs => {
            let message = format!("a map cannot be stored as {format} (lossy); use png");
            cx.error(path, "spec::lossy_depth", message);
        }
        _ => cx.cannot_run(path, &format!("{path}: {format}")),
    }
}

fn shard(cx: &mut Cx<'_>, given: &Given) {
    let path = "output.shard";
    if given.at(path).is_none() {
        return;
    }
    bytes(cx, given, "output.shard.max_bytes");
    if given.says("output.layout", "webdataset") || given.says("output.layout", "parquet") {
        cx.cannot_run(path, path);
    } else {
        let message = format!("{path} is for layout webdataset or parquet");
        cx.key_error(path, "spec::needs_other", message);
    }
}

fn contact_sheets(cx: &mut Cx<'_>, given: &Given, combinations: &[Combination], kind: Kind) {
    for key in ["rows", "columns", "per"] {
        let path = format!("output.contact_sheets.{key}");
        let Some(axis) = given.text(&path) else { continue };
        let in_matrix =
            combinations.iter().any(|combination| combination.values.contains_key(axis));
        let known =
            ["row", "prompt"].contains(&axis) || dimensions(kind).contains(&axis) || in_matrix;
        if !known && !combinations.is_empty() {
            let message = format!("{path}: there is no dimension {}", quoted(axis));
            cx.error(&path, "spec::unknown_dimension", message);
        }
    }
}
