//! `apiVersion`, `kind`, `metadata`, and which keys belong to which kind.

use crate::keys::RawSpec;
use crate::spec::Kind;
use crate::yaml::findings::Cx;

/// What the head of a spec says.
pub(crate) struct Header {
    pub(crate) kind: Option<Kind>,
    pub(crate) name: Option<String>,
}

pub(crate) fn read(cx: &mut Cx<'_>, raw: &RawSpec) -> Header {
    if raw.api_version.is_none() {
        cx.missing("apiVersion", "apiVersion: nightshift/v1");
    }
    if raw.kind.is_none() {
        cx.missing(
            "kind",
            "one of text_to_image, image_pairs, subject_set, edit, controllable, dense_prediction",
        );
    }
    for (path, help) in [
        ("input", "say where the rows come from: inline, manifest, prefix or subjects"),
        ("output", "output: {dest: s3://bucket/prefix/}"),
    ] {
        cx.missing(path, help);
    }
    let name = raw.metadata.as_ref().and_then(|metadata| metadata.name.clone());
    match &name {
        None => cx.missing("metadata.name", "metadata: {name: my-job}"),
        Some(name) if is_name(name) => {}
        Some(_) => {
            let message = "metadata.name must be 1 to 63 letters, digits, `-`, `_` or `.`, the first a letter or digit".to_owned();
            cx.error("metadata.name", "spec::bad_name", message, None);
        }
    }
    check_labels(cx, raw);
    Header { kind: raw.kind, name: name.filter(|name| is_name(name)) }
}

fn check_labels(cx: &mut Cx<'_>, raw: &RawSpec) {
    let labels = raw.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    for (key, value) in labels.into_iter().flatten() {
        if !is_name(key) || value.len() > 200 || value.chars().any(char::is_control) {
            let message = format!(
                "label {} must have a simple name and at most 200 bytes",
                crate::yaml::node::quoted(key)
            );
            cx.error("metadata.labels", "spec::bad_name", message, None);
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

use Kind::{Controllable, DensePrediction, Edit, ImagePairs, SubjectSet, TextToImage};

/// Keys that only some kinds have.
const KEYS_OF_KINDS: [(&str, &[Kind]); 21] = [
    ("generate", &[TextToImage, ImagePairs, SubjectSet, Edit, Controllable]),
    ("generate.size", &[TextToImage]),
    ("generate.panel", &[ImagePairs, SubjectSet, Edit, Controllable]),
    ("generate.fit", &[SubjectSet, Edit, Controllable]),
    ("generate.maps", &[ImagePairs]),
    ("generate.keep_joint", &[ImagePairs]),
    ("generate.prompt_template", &[TextToImage, ImagePairs, Controllable]),
    ("predict", &[DensePrediction]),
    ("turns", &[Edit]),
    ("control", &[Controllable]),
    ("evaluate", &[DensePrediction]),
    ("prompt.description", &[SubjectSet]),
    ("input.subjects", &[SubjectSet]),
    ("input.prompts", &[SubjectSet]),
    ("input.prefix", &[Edit, Controllable, DensePrediction]),
    ("input.on_bad_input", &[SubjectSet, Edit, Controllable, DensePrediction]),
    ("output.keep_turns", &[Edit]),
    ("output.save_control_maps", &[Controllable]),
    ("output.depth", &[DensePrediction]),
    ("output.normal", &[DensePrediction]),
    ("input.hf", &[TextToImage, ImagePairs, Edit, Controllable, DensePrediction]),
];

pub(crate) fn refuse_keys_of_other_kinds(cx: &mut Cx<'_>, kind: Kind) {
    let mut refused: Vec<&str> = Vec::new();
    for (path, kinds) in KEYS_OF_KINDS {
        // Once a block is refused, its keys need no more words.
        let inside_refused = refused
            .iter()
            .any(|block| path.strip_prefix(block).is_some_and(|rest| rest.starts_with('.')));
        if !kinds.contains(&kind) && cx.given(path) && !inside_refused {
            refused.push(path);
            let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            let message = format!("{path} is not used by kind {kind}");
            cx.key_error(
                path,
                "spec::not_for_kind",
                message,
                Some(format!("it belongs to {}", names.join(", "))),
            );
        }
    }
}
