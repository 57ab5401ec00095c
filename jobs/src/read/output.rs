//! Where results go, how they are named and how they are written.

use crate::item::key;
use crate::keys::{
    DepthEncoding, DepthRange, Format, Layout, NormalEncoding, RawEmbed, RawNormalFrame, RawOutput,
    RawSpec,
};
use crate::places::ColumnUse;
use crate::read::captions::{Checker, Scope};
use crate::read::input::Input;
use crate::read::matrix::Combination;
use crate::spec::input::InputSpec;
use crate::spec::{Kind, OutputSpec, Sidecar};
use crate::template::Template;
use crate::words::Embed;
use crate::yaml::findings::Cx;
use crate::yaml::nearest::nearest;
use crate::yaml::node::quoted;

/// The output, and the columns that its names use.
pub(crate) fn read(
    cx: &mut Cx<'_>,
    raw: &RawSpec,
    kind: Kind,
    input: Option<&Input>,
    combinations: Option<&[Combination]>,
) -> Option<(OutputSpec, Vec<ColumnUse>)> {
    let output = raw.output.as_ref()?;
    let generate = raw.generate.as_ref();
    let combinations = combinations.unwrap_or_default();
    let dest = dest(cx, output, kind);
    let input = input.map(|input| &input.spec);
    let (name, columns) = name(cx, raw, kind, input, combinations);
    let partition_by = partitions(cx, output, kind, combinations);
    let (sidecar, embed) = metadata(cx, output);
    formats(cx, output, kind);
    cannot_run(cx, output, combinations, kind);
    let output = OutputSpec {
        dest: dest?,
        name: name?,
        partition_by: partition_by?,
        keep_joint: generate.and_then(|generate| generate.keep_joint).unwrap_or(false),
        save_control_maps: output.save_control_maps.unwrap_or(false),
        restore: raw.predict.as_ref().and_then(|predict| predict.restore).unwrap_or_default(),
        embed,
        sidecar,
        on_existing: output.on_existing.unwrap_or_default(),
    };
    Some((output, columns))
}

fn dest(cx: &mut Cx<'_>, output: &RawOutput, kind: Kind) -> Option<Template> {
    let path = "output.dest";
    cx.missing(path, "dest: s3://bucket/prefix/");
    let text = output.dest.as_deref()?;
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
        cx.error(
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
fn default_name(raw: &RawSpec, kind: Kind) -> String {
    let from_listing =
        raw.input.as_ref().is_some_and(|input| input.prefix.is_some() || input.subjects.is_some());
    let row = if from_listing { "{{ input.file | safe_path }}" } else { "{{ row.id | safe }}" };
    let variant = match kind {
        Kind::ImagePairs | Kind::DensePrediction => "_{{ map }}",
        Kind::SubjectSet => "_{{ prompt.index | pad(3) }}",
        Kind::Edit if raw.turns.as_ref().is_some_and(|turns| turns.len() > 1) => {
            "_{{ turn.index }}"
        }
        Kind::TextToImage | Kind::Edit | Kind::Controllable => "",
    };
    format!("{row}{variant}_{{{{ seed }}}}.{{{{ ext }}}}")
}

fn name(
    cx: &mut Cx<'_>,
    raw: &RawSpec,
    kind: Kind,
    input: Option<&InputSpec>,
    combinations: &[Combination],
) -> (Option<Template>, Vec<ColumnUse>) {
    let path = "output.name";
    let given = raw.output.as_ref().and_then(|output| output.name.as_deref());
    let Some(text) = given else {
        return (Template::parse(&default_name(raw, kind)).ok(), Vec::new());
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
        cx.error(path, "spec::bad_name", message, None);
        return false;
    }
    if !key::is_safe(&rendered, Some("png")) {
        let refused = "`..`, leading `/`, control characters, bidi overrides and components over 200 bytes are refused";
        let message = format!("output.name renders to {}; {refused}", quoted(&rendered));
        cx.error(path, "spec::unsafe_key", message, None);
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
    output: &RawOutput,
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
    let Some(given) = &output.partition_by else {
        // Without a name of the user's own, folders keep the combinations apart.
        let own_name = output.name.is_some() || combinations.len() < 2;
        return Some(if own_name {
            Vec::new()
        } else {
            keys.into_iter().map(str::to_owned).collect()
        });
    };
    let mut good = true;
    for (n, name) in given.iter().enumerate() {
        let path = format!("output.partition_by[{n}]");
        let known: Vec<&str> = keys.iter().chain(dimensions(kind)).copied().collect();
        if given[..n].contains(name) {
            cx.error(
                &path,
                "spec::duplicate_value",
                format!("output.partition_by has {} twice", quoted(name)),
                None,
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
                cx.error(
                    &path,
                    "spec::unknown_dimension",
                    format!("{path}: there is no dimension {}", quoted(name)),
                    Some(help),
                );
            }
        }
    }
    good.then(|| given.clone())
}

fn metadata(cx: &mut Cx<'_>, output: &RawOutput) -> (Sidecar, Embed) {
    let metadata = output.metadata.clone().unwrap_or_default();
    if metadata.also_jsonl == Some(true) {
        cx.cannot_run("output.metadata.also_jsonl", "output.metadata.also_jsonl (a second table makes imagefolder refuse the first; `sidecar: jsonl` runs)");
    }
    let embed = metadata.embed.unwrap_or_else(|| vec![RawEmbed::PngText]);
    if embed.contains(&RawEmbed::Xmp) {
        cx.cannot_run("output.metadata.embed", "output.metadata.embed: xmp");
    }
    let embed = Embed {
        png_text: embed.contains(&RawEmbed::PngText),
        redact_prompt: metadata.redact_prompt.unwrap_or(false),
    };
    (metadata.sidecar.unwrap_or_default(), embed)
}

fn formats(cx: &mut Cx<'_>, output: &RawOutput, kind: Kind) {
    let lossy = match output.format {
        Some(Format::Jpeg) => Some("jpeg"),
        Some(Format::Webp) => Some("webp"),
        Some(Format::Png) | None => None,
    };
    if let Some(format) = lossy {
        match kind {
            Kind::DensePrediction => {
                let message = crate::read::check::lossy_depth(format);
                cx.error("output.format", "spec::lossy_depth", message, None);
            }
            Kind::ImagePairs => {
                let message = format!("a map cannot be stored as {format} (lossy); use png");
                cx.error("output.format", "spec::lossy_depth", message, None);
            }
            _ => cx.cannot_run("output.format", &format!("output.format: {format}")),
        }
    }
    let depth = output.depth.clone().unwrap_or_default();
    if matches!(depth.encoding, Some(DepthEncoding::NpyF16 | DepthEncoding::NpyF32)) {
        cx.cannot_run("output.depth.encoding", "output.depth.encoding other than png16");
    }
    if depth.range == Some(DepthRange::MetricMm) {
        cx.cannot_run("output.depth.range", "output.depth.range: metric_mm");
    }
    if depth.also.is_some_and(|also| !also.is_empty()) {
        cx.cannot_run("output.depth.also", "output.depth.also");
    }
    let normal = output.normal.clone().unwrap_or_default();
    if normal.encoding == Some(NormalEncoding::NpyF16) {
        cx.cannot_run("output.normal.encoding", "output.normal.encoding other than png8");
    }
    if normal.frame == Some(RawNormalFrame::Directx) {
        cx.cannot_run("output.normal.frame", "output.normal.frame: directx");
    }
    if normal.also.is_some_and(|also| !also.is_empty()) {
        cx.cannot_run("output.normal.also", "output.normal.also");
    }
}

fn cannot_run(cx: &mut Cx<'_>, output: &RawOutput, combinations: &[Combination], kind: Kind) {
    match output.layout {
        Some(Layout::Webdataset) => cx.cannot_run("output.layout", "output.layout: webdataset"),
        Some(Layout::Parquet) => cx.cannot_run("output.layout", "output.layout: parquet"),
        Some(Layout::Files) | None => {}
    }
    if let Some(shard) = &output.shard {
        if let Some(bytes) = &shard.max_bytes {
            crate::read::running::check_bytes(cx, "output.shard.max_bytes", bytes);
        }
        if matches!(output.layout, Some(Layout::Webdataset | Layout::Parquet)) {
            cx.cannot_run("output.shard", "output.shard");
        } else {
            let message = "output.shard is for layout webdataset or parquet".to_owned();
            cx.key_error("output.shard", "spec::needs_other", message, None);
        }
    }
    if let Some(sheets) = &output.contact_sheets {
        for (key, axis) in
            [("rows", &sheets.rows), ("columns", &sheets.columns), ("per", &sheets.per)]
        {
            let in_matrix = |axis: &str| {
                combinations.iter().any(|combination| combination.values.contains_key(axis))
            };
            let known = |axis: &str| {
                ["row", "prompt"].contains(&axis)
                    || dimensions(kind).contains(&axis)
                    || in_matrix(axis)
            };
            if let Some(axis) =
                axis.as_ref().filter(|axis| !known(axis) && !combinations.is_empty())
            {
                let path = format!("output.contact_sheets.{key}");
                cx.error(
                    &path,
                    "spec::unknown_dimension",
                    format!("{path}: there is no dimension {}", quoted(axis)),
                    None,
                );
            }
        }
        cx.cannot_run("output.contact_sheets", "output.contact_sheets");
    }
}
