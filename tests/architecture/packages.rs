//! The allowed arrows between packages, and which library may be named where. Reads cargo's own metadata,
//! so that a new dependency is judged by what is declared, not by what someone remembered to write down.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Package -> packages of ours it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("nightshift-jobs", &[]),
    ("nightshift-engine", &[]),
    ("nightshift-local", &[]),
    ("nightshift-objects", &[]),
    ("nightshift-store", &["nightshift-jobs"]),
    ("nightshift-scheduler", &["nightshift-store", "nightshift-objects", "nightshift-jobs"]),
    (
        "nightshift-worker",
        &["nightshift-store", "nightshift-objects", "nightshift-jobs", "nightshift-engine"],
    ),
    ("nightshift-nano", &["nightshift-engine"]),
    (
        "nightshift-bench",
        &[
            "nightshift-engine",
            "nightshift-jobs",
            "nightshift-lab",
            "nightshift-local",
            "nightshift-objects",
            "nightshift-scheduler",
            "nightshift-store",
        ],
    ),
    ("nightshift", &["*"]),
    ("nightshift-tests", &["*"]),
    ("nightshift-lab", &["nightshift-local", "nightshift-store"]),
    ("nightshift-architecture", &[]),
];

/// Packages whose tests may start real servers, by the harness and by themselves.
const MAY_TEST_WITH_SERVERS: &[&str] =
    &["nightshift-store", "nightshift-scheduler", "nightshift-worker", "nightshift-objects"];

/// Library -> the only packages that may declare it.
const LIBRARIES: &[(&str, &[&str])] = &[
    // The suites speak to the database as anybody may: as users of psql, as zombies, and as a superuser who looks at the tables.
    ("sqlx", &["nightshift-store", "nightshift-tests"]),
    ("axum", &["nightshift-scheduler"]),
    ("aws-sdk-s3", &["nightshift-objects"]),
    ("object_store", &["nightshift-local"]),
    ("s3s", &["nightshift-local"]),
    ("clap", &["nightshift"]),
    ("anyhow", &["nightshift", "nightshift-bench", "nightshift-nano", "nightshift-tests"]),
    ("miette", &["nightshift"]),
];

/// One declared dependency: who, on what, and whether only for tests.
struct Arrow {
    from: String,
    to: String,
    dev: bool,
}

fn arrows() -> Vec<Arrow> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let mut arrows = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            arrows.push(Arrow {
                from: package["name"].as_str().expect("name").to_owned(),
                to: dependency["name"].as_str().expect("name").to_owned(),
                dev: dependency["kind"] == "dev",
            });
        }
    }
    arrows
}

/// The arrows that the rules forbid, in words.
fn violations(arrows: &[Arrow]) -> Vec<String> {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut found = Vec::new();
    for Arrow { from, to, dev } in arrows {
        if to.starts_with("nightshift") {
            let Some(targets) = allowed.get(from.as_str()) else {
                found.push(format!("{from} is not a package of the layout"));
                continue;
            };
            let for_tests = *dev
                && matches!(to.as_str(), "nightshift-local" | "nightshift-lab")
                && MAY_TEST_WITH_SERVERS.contains(&from.as_str());
            if !targets.contains("*") && !targets.contains(to.as_str()) && !for_tests {
                found.push(format!("{from} may not depend on {to}"));
            }
        }
        if let Some((_, owners)) = LIBRARIES.iter().find(|(library, _)| library == to)
            && !owners.contains(&from.as_str())
        {
            found.push(format!("{from} may not use {to}; only {owners:?} may"));
        }
    }
    found
}

#[test]
fn every_declared_dependency_is_an_allowed_arrow() {
    let arrows = arrows();
    let ours: BTreeSet<&str> = arrows.iter().map(|a| a.from.as_str()).collect();
    assert!(ours.contains("nightshift-worker"), "metadata covers the workspace");
    assert_eq!(violations(&arrows), Vec::<String>::new());
}

#[test]
fn a_forbidden_arrow_is_found() {
    let arrow = |from: &str, to: &str, dev| Arrow { from: from.to_owned(), to: to.to_owned(), dev };
    let found = violations(&[
        arrow("nightshift-worker", "nightshift-scheduler", false),
        arrow("nightshift-worker", "nightshift-local", true),
        arrow("nightshift-worker", "nightshift-local", false),
        arrow("nightshift-jobs", "sqlx", false),
    ]);
    assert_eq!(found.len(), 3, "{found:?}");
}
