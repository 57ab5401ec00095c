//! `apiVersion`, `kind`, `metadata`, and which keys belong to which kind and run in this build.

use std::collections::BTreeMap;

use crate::keys::{Form, KEYS, Runs};
use crate::spec::Kind;
use crate::yaml::findings::Cx;
use crate::yaml::given::Given;

/// What the head of a spec says.
pub(crate) struct Header {
    pub(crate) kind: Option<Kind>,
    pub(crate) name: Option<String>,
    pub(crate) about: Option<String>,
}

/// The longest description of a job, in characters.
const MAX_DESCRIPTION: usize = 1_000;

pub(crate) fn read(cx: &mut Cx<'_>, given: &Given) -> Header {
    cx.missing("apiVersion", "apiVersion: nightshift/v1");
    let kinds = format!("one of {}", Kind::WORDS.join(", "));
    cx.missing("kind", &kinds);
    for (path, help) in [
        ("input", "say where the rows come from: inline, manifest, prefix or subjects"),
        ("output", "output: {dest: s3://bucket/prefix/}"),
    ] {
        cx.missing(path, help);
    }
    let name: Option<String> = given.read("metadata.name");
    match &name {
        None => cx.missing("metadata.name", "metadata: {name: my-job}"),
        Some(name) if is_name(name) => {}
        Some(_) => {
            let message = "metadata.name must be 1 to 63 letters, digits, `-`, `_` or `.`, the first a letter or digit".to_owned();
            cx.error("metadata.name", "spec::bad_name", message);
        }
    }
    check_labels(cx, given);
    let about: Option<String> = given.read("metadata.description");
    if let Some(length) =
        about.as_ref().map(|text| text.chars().count()).filter(|length| *length > MAX_DESCRIPTION)
    {
        let path = "metadata.description";
        cx.error(
            path,
            "spec::too_long",
            format!("{path} has {length} characters, limit {MAX_DESCRIPTION}"),
        );
    }
    Header { kind: given.read("kind"), about, name: name.filter(|name| is_name(name)) }
}

fn check_labels(cx: &mut Cx<'_>, given: &Given) {
    let labels: BTreeMap<String, String> = given.read("metadata.labels").unwrap_or_default();
    for (key, value) in &labels {
        if !is_name(key) || value.len() > 200 || value.chars().any(char::is_control) {
            let message = format!(
                "label {} must have a simple name and at most 200 bytes",
                crate::yaml::node::quoted(key)
            );
            cx.error("metadata.labels", "spec::bad_name", message);
        }
    }
}

/// A name that is safe in keys, logs and shells.
pub(crate) fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.ends_with('.')
}

pub(crate) fn refuse_keys_of_other_kinds(cx: &mut Cx<'_>, kind: Kind) {
    let mut refused: Vec<&str> = Vec::new();
    for key in KEYS.iter().filter(|key| !key.kinds.is_empty()) {
        let (path, kinds) = (key.path, key.kinds);
        // Once a block is refused, its keys need no more words.
        let inside_refused = refused
            .iter()
            .any(|block| path.strip_prefix(block).is_some_and(|rest| rest.starts_with('.')));
        if !kinds.contains(&kind) && cx.given(path) && !inside_refused {
            refused.push(path);
            let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            let message = format!("{path} is not used by kind {kind}");
            cx.key_error_with(
                path,
                "spec::not_for_kind",
                message,
                Some(format!("it belongs to {}", names.join(", "))),
            );
        }
    }
}

/// Says what of the spec this build cannot run, as far as the table of keys knows.
pub(crate) fn refuse_what_cannot_run(cx: &mut Cx<'_>, given: &Given) {
    for key in KEYS {
        if !cx.given(key.path) {
            continue;
        }
        match (key.runs, key.form) {
            (Runs::No(feature), _) => cx.cannot_run(key.path, feature),
            (Runs::But(refused), Form::Words(_) | Form::List(..)) => {
                for word in refused.iter().filter(|word| given.says(key.path, word)) {
                    cx.cannot_run(key.path, &format!("{}: {word}", key.path));
                }
            }
            _ => {}
        }
    }
}
