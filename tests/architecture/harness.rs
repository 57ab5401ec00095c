//! One harness: what starts a cluster or makes logins stands in `tests/lab`, and in the product.

use std::path::{Path, PathBuf};

/// What only a harness does, and the files that may: the harness, the product's own ways to do it for users, and their own tests.
const ONLY_HERE: &[(&str, &[&str])] = &[
    ("Postgres::start(", &["tests/lab/src/", "ops/src/local.rs", "ops/local/"]),
    (
        ".create_login(",
        &[
            "tests/lab/src/",
            "ops/src/local.rs",
            "ops/src/commands/admin/",
            "scheduler/store/src/admin.rs",
            "scheduler/store/tests/store/access.rs",
        ],
    ),
    ("Command::new(\"psql\")", &["tests/lab/src/", "ops/local/tests/"]),
    ("Command::new(\"initdb\")", &[]),
];

#[test]
fn one_harness_starts_clusters_and_makes_logins() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["jobs", "scheduler", "worker", "ops", "tests"] {
        rust_files(&root.join(folder), &mut files);
    }
    let here = Path::new("tests/architecture/harness.rs");
    let mut found = Vec::new();
    let mut allowed_uses = 0;
    for path in files {
        let name = path.strip_prefix(&root).expect("below the root").to_path_buf();
        if name == here {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        for (what, places) in ONLY_HERE {
            if !text.contains(what) {
                continue;
            }
            if places.iter().any(|place| name.to_string_lossy().starts_with(place)) {
                allowed_uses += 1;
            } else {
                found.push(format!("{}: {what}", name.display()));
            }
        }
    }
    assert!(allowed_uses >= 4, "the sources were read: {allowed_uses}");
    assert!(found.is_empty(), "use nightshift-lab instead: {found:#?}");
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                rust_files(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}
