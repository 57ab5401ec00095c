//! The schema in the repository is that of the code, and every key in it is run or refused.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

/// Every key of the schema, as a dotted path; lists add `[]`.
fn keys(schema: &Value, root: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) =
        schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"))
    {
        return keys(&root["$defs"][name], root, path, found);
    }
    for alternative in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        keys(alternative, root, path, found);
    }
    if let Some(items) = schema.get("items") {
        keys(items, root, &format!("{path}[]"), found);
    }
    for (key, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        found.insert(path.clone());
        keys(below, root, &path, found);
    }
}

#[test]
fn the_schema_in_the_repository_is_fresh() {
    let path = format!("{}/spec.schema.json", env!("CARGO_MANIFEST_DIR"));
    let fresh = serde_json::to_string_pretty(&nightshift_jobs::json_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(
        kept == nightshift_jobs::json_schema(),
        "run the tests of this crate with UPDATE_EXPECTED=1 and commit {path}"
    );
}

/// What becomes of every key: `run`, `refused` (valid; this build cannot run it), or `run: what runs; refused: what not`.
const FATES: &str = include_str!("../specs/KEYS.txt");

#[test]
fn the_list_of_keys_in_the_repository_is_fresh() {
    let path = format!("{}/specs/KEYS.txt", env!("CARGO_MANIFEST_DIR"));
    let fresh = nightshift_jobs::fates();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept == fresh, "run the tests of this crate with UPDATE_EXPECTED=1 and commit {path}");
}

#[test]
fn every_key_has_a_fate() {
    let schema = nightshift_jobs::json_schema();
    let mut found = BTreeSet::new();
    keys(&schema, &schema, "", &mut found);
    let listed: BTreeSet<String> = FATES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
        .collect();
    let mut said = String::new();
    for key in found.difference(&listed) {
        writeln!(said, "specs/KEYS.txt does not say what becomes of {key}").unwrap();
    }
    for key in listed.difference(&found) {
        writeln!(said, "specs/KEYS.txt names {key}, which is no key").unwrap();
    }
    assert!(said.is_empty(), "{said}");
}

#[test]
fn every_key_that_is_refused_is_said_to_be() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    let mut said = BTreeSet::new();
    let mut texts: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder.join("cannot_run"))
        .unwrap()
        .chain(std::fs::read_dir(&folder).unwrap())
    {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "yaml") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    for text in texts {
        let parsed =
            nightshift_jobs::parse("job.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"));
        said.extend(
            parsed
                .cannot_run
                .iter()
                .map(|found| found.path.split('[').next().unwrap_or_default().to_owned()),
        );
    }
    for line in FATES.lines().filter(|line| !line.starts_with('#') && line.contains("refused")) {
        let key = line.split_once(' ').map_or(line, |(key, _)| key).replace("[]", "");
        // A block that is refused takes its keys with it, and an empty block asks for nothing.
        let covered = said.iter().any(|path| {
            key == *path
                || key.starts_with(&format!("{path}."))
                || path.starts_with(&format!("{key}."))
        });
        assert!(covered, "nothing refuses {key}: {said:?}");
    }
}
