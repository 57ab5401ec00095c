//! Where the rows come from.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use crate::globs::Globs;
use crate::item::key;
use crate::spec::Kind;
use crate::spec::input::{InputRow, InputSpec, ManifestFormat, Subjects};
use crate::yaml::findings::Cx;
use crate::yaml::given::Given;
use crate::yaml::node::quoted;

/// The input and what is known of it from the text alone.
pub(crate) struct Input {
    pub(crate) spec: InputSpec,
}

const SOURCES: [&str; 6] = ["inline", "manifest", "prefix", "webdataset", "subjects", "hf"];

/// What objects are taken when the spec does not say.
const IMAGES: [&str; 1] = ["**/*.{jpg,jpeg,png,webp,gif,bmp,tif,tiff}"];

pub(crate) fn read(cx: &mut Cx<'_>, given: &Given, kind: Kind) -> Option<Input> {
    given.at("input")?;
    let sources: Vec<&'static str> =
        SOURCES.into_iter().filter(|source| cx.given(&format!("input.{source}"))).collect();
    match sources.as_slice() {
        [] => {
            let help = "take one of inline, manifest, prefix, webdataset, subjects, hf";
            cx.key_error_with(
                "input",
                "spec::missing",
                "input has no source",
                Some(help.to_owned()),
            );
            return None;
        }
        [_] => {}
        [first, second, ..] => {
            let message = format!("input takes one source, got {first} and {second}");
            cx.key_error(&format!("input.{second}"), "spec::two_sources", message);
            return None;
        }
    }
    let source = sources[0];
    if kind == Kind::SubjectSet && source != "subjects" {
        let message = format!("kind subject_set reads input.subjects, not input.{source}");
        cx.key_error(&format!("input.{source}"), "spec::not_for_kind", message);
        return None;
    }
    refuse_keys_of_other_sources(cx, source);
    check_webdataset(cx, given);
    let limit: Option<u64> = given.read("input.limit");
    let spec = match source {
        "inline" => inline(cx, given, kind, limit)?,
        "manifest" => manifest(cx, given, limit)?,
        "prefix" => {
            let uri = s3_prefix(cx, "input.prefix", given.text("input.prefix")?)?;
            let (include, exclude) = globs(cx, "input", given)?;
            InputSpec::Prefix { uri, include, exclude, limit }
        }
        "subjects" => subjects(cx, given, limit)?,
        // Not run yet: the form is checked, and an empty prefix stands for it in a spec that is never run.
        _ => InputSpec::Inline { rows: Vec::new() },
    };
    Some(Input { spec })
}

fn check_webdataset(cx: &mut Cx<'_>, given: &Given) {
    let path = "input.webdataset";
    if let Some(tars) =
        given.text(path).filter(|tars| !tars.starts_with("s3://") || !tars.ends_with(".tar"))
    {
        let message = format!("{path} must be s3://bucket/….tar (got {})", quoted(tars));
        cx.error(path, "spec::bad_uri", message);
    }
}

fn refuse_keys_of_other_sources(cx: &mut Cx<'_>, source: &str) {
    let keys: [(&str, &[&str]); 4] = [
        ("columns", &["manifest", "webdataset", "hf"]),
        ("where", &["manifest", "webdataset", "hf"]),
        ("include", &["prefix"]),
        ("exclude", &["prefix"]),
    ];
    for (key, sources) in keys {
        let path = format!("input.{key}");
        if cx.given(&path) && !sources.contains(&source) {
            let message = format!("{path} is not used by input.{source}");
            cx.key_error_with(
                &path,
                "spec::not_for_input",
                message,
                Some(format!("it belongs to {}", sources.join(", "))),
            );
        }
    }
}

fn inline(cx: &mut Cx<'_>, given: &Given, kind: Kind, limit: Option<u64>) -> Option<InputSpec> {
    let written: Vec<BTreeMap<String, Json>> = given.read("input.inline")?;
    let mut rows: Vec<InputRow> = Vec::with_capacity(written.len());
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (n, fields) in written.into_iter().enumerate() {
        let path = format!("input.inline[{n}]");
        let mut row = InputRow { index: n as u64, fields, ..InputRow::default() };
        row.id = match row.fields.get("id") {
            Some(Json::String(id)) => Some(id.clone()),
            Some(Json::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        if row.id.as_deref() == Some("") {
            cx.error(&format!("{path}.id"), "spec::bad_name", format!("{path}.id is empty"));
        }
        match row.fields.get("image").and_then(Json::as_str).map(str::to_owned) {
            Some(uri) => row.uri = s3_key(cx, &format!("{path}.image"), &uri),
            None if is_from_image(kind) => {
                cx.missing(&format!("{path}.image"), "image: s3://bucket/key")
            }
            None => {}
        }
        let first = *seen.entry(row.row_id()).or_insert(n);
        if first != n {
            let line = cx.value_at(&format!("input.inline[{first}]")).line;
            match &row.id {
                Some(id) => {
                    let message = format!("id {} was already used on line {line}", quoted(id));
                    cx.error(&format!("{path}.id"), "spec::duplicate_id", message);
                }
                None => {
                    let help = Some("give one of them an id".to_owned());
                    cx.error_with(
                        &path,
                        "spec::duplicate_id",
                        format!("this row is the same as the one on line {line}"),
                        help,
                    );
                }
            }
        }
        rows.push(row);
    }
    if let Some(limit) = limit {
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Some(InputSpec::Inline { rows })
}

/// Whether items start from an image of their row.
pub(crate) fn is_from_image(kind: Kind) -> bool {
    matches!(kind, Kind::Edit | Kind::Controllable | Kind::DensePrediction)
}

fn manifest(cx: &mut Cx<'_>, given: &Given, limit: Option<u64>) -> Option<InputSpec> {
    let uri = s3_key(cx, "input.manifest", given.text("input.manifest")?)?;
    let format = match uri.rsplit('.').next() {
        Some("jsonl" | "ndjson") => ManifestFormat::Jsonl,
        Some("csv") => ManifestFormat::Csv,
        Some("txt") => ManifestFormat::Txt,
        Some("parquet") => {
            cx.cannot_run("input.manifest", "a Parquet manifest");
            ManifestFormat::Jsonl
        }
        _ => {
            let message = format!(
                "input.manifest must end in .jsonl, .csv, .parquet or .txt (got {})",
                quoted(&uri)
            );
            cx.error("input.manifest", "spec::bad_uri", message);
            return None;
        }
    };
    let named: BTreeMap<String, Option<String>> = given.read("input.columns").unwrap_or_default();
    for (name, _) in named.iter().filter(|(name, column)| column.is_none() && *name != "id") {
        let path = format!("input.columns.{name}");
        cx.key_error(
            &path,
            "spec::wrong_type",
            format!("{path}: expected the name of a column, got nothing"),
        );
    }
    let id_column = match named.get("id") {
        Some(column) => column.clone(),
        None if format == ManifestFormat::Txt => None,
        None => Some("id".to_owned()),
    };
    let columns: BTreeMap<_, _> =
        named.into_iter().filter_map(|(name, column)| Some((name, column?))).collect();
    if format == ManifestFormat::Txt
        && let Some((name, column)) = columns.iter().find(|(_, column)| *column != "prompt")
    {
        let message = format!(
            "columns.{name}: {} is not in a .txt manifest (columns: prompt)",
            quoted(column)
        );
        cx.error(&format!("input.columns.{name}"), "spec::unknown_column", message);
    }
    Some(InputSpec::Manifest { uri, format, columns, id_column, limit })
}

fn subjects(cx: &mut Cx<'_>, given: &Given, limit: Option<u64>) -> Option<InputSpec> {
    given.at("input.subjects")?;
    cx.missing("input.subjects.prefix", "prefix: s3://bucket/prefix/");
    cx.missing("input.prompts", "prompts: [\"a {{ subject.name }} in the snow\"]");
    let uri = s3_prefix(cx, "input.subjects.prefix", given.text("input.subjects.prefix")?)?;
    let (include, exclude) = globs(cx, "input.subjects", given)?;
    let path = "input.subjects.classes";
    if let Some(file) = given.text(path) {
        s3_key(cx, path, file)?;
        cx.cannot_run(path, "subject classes from a file (a mapping in the spec runs)");
    }
    let classes = given.read(path).unwrap_or_default();
    let max_references = given.read("input.subjects.references.max").unwrap_or(u64::from(u32::MAX));
    Some(InputSpec::Subjects(Subjects { uri, include, exclude, max_references, classes, limit }))
}

type Patterns = (Vec<String>, Vec<String>);

fn globs(cx: &mut Cx<'_>, block: &str, given: &Given) -> Option<Patterns> {
    let [include, exclude] = ["include", "exclude"]
        .map(|key| given.texts(&format!("{block}.{key}")).unwrap_or_default());
    let mut good = true;
    for (key, patterns) in [("include", &include), ("exclude", &exclude)] {
        for (n, pattern) in patterns.iter().enumerate() {
            if let Err(reason) = Globs::check(pattern) {
                let path = format!("{block}.{key}[{n}]");
                cx.error(
                    &path,
                    "spec::bad_glob",
                    format!("{path}: {} is not a glob: {reason}", quoted(pattern)),
                );
                good = false;
            }
        }
    }
    let include = if include.is_empty() { IMAGES.map(str::to_owned).to_vec() } else { include };
    good.then_some((include, exclude))
}

/// `s3://bucket/key` with a key.
fn s3_key(cx: &mut Cx<'_>, path: &str, uri: &str) -> Option<String> {
    match key::split_s3(uri) {
        Some((_, key))
            if !key.is_empty() && !key.ends_with('/') && !key.chars().any(char::is_control) =>
        {
            Some(uri.to_owned())
        }
        _ => {
            bad_uri(cx, path, uri, "s3://bucket/key");
            None
        }
    }
}

/// `s3://bucket/prefix/`, the slash added when it is missing.
fn s3_prefix(cx: &mut Cx<'_>, path: &str, uri: &str) -> Option<String> {
    match key::split_s3(uri) {
        Some((_, key)) if !key.chars().any(char::is_control) => {
            Some(if key.is_empty() || uri.ends_with('/') {
                uri.to_owned()
            } else {
                format!("{uri}/")
            })
        }
        _ => {
            bad_uri(cx, path, uri, "s3://bucket/prefix/");
            None
        }
    }
}

fn bad_uri(cx: &mut Cx<'_>, path: &str, uri: &str, form: &str) {
    let local = uri.starts_with('/') || uri.starts_with("file:") || uri.starts_with('.');
    let help = if local {
        Some("file:// is allowed only with --allow-local".to_owned())
    } else {
        key::bucket_help(uri)
    };
    cx.error_with(
        path,
        "spec::bad_uri",
        format!("{path} must be {form} (got {})", quoted(uri)),
        help,
    );
}
