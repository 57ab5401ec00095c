//! Every example is read, and says exactly what stands beside it: `specs/NAME.txt` lists warnings and what cannot run,
//! `specs/invalid/NAME.txt` the mistakes as a user sees them. `UPDATE_EXPECTED=1` writes the files anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// The examples of a folder below `specs`.
fn examples(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ext| ext == "yaml")).collect();
    files.sort();
    files
}

/// Compares with the expected text beside an example.
fn check(path: &Path, said: &str, different: &mut Vec<String>) {
    let expected = path.with_extension("txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected, said).unwrap();
    } else if fs::read_to_string(&expected).unwrap_or_default() != said {
        different.push(format!("{} says:\n{said}", path.display()));
    }
}

#[test]
fn every_example_is_valid_and_says_what_cannot_run() {
    let mut different = Vec::new();
    let files = [examples(""), examples("cannot_run")].concat();
    assert!(files.len() >= 14, "the examples are gone: {files:?}");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let parsed = nightshift_jobs::parse("job.yaml", &text)
            .unwrap_or_else(|errors| panic!("{}:\n{errors}", path.display()));
        let small = path.file_name().unwrap().to_string_lossy().starts_with("small_");
        assert!(
            !small || parsed.cannot_run.is_empty(),
            "{} must run: {:?}",
            path.display(),
            parsed.cannot_run
        );
        let lines = parsed
            .warnings
            .iter()
            .chain(&parsed.cannot_run)
            .map(|found| found.render("job.yaml", &text) + "\n");
        check(&path, &lines.collect::<String>(), &mut different);
        // What a worker reads back is what was stored.
        let stored = serde_json::to_string(&parsed.spec).unwrap();
        assert_eq!(serde_json::from_str::<nightshift_jobs::JobSpec>(&stored).unwrap(), parsed.spec);
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn every_invalid_example_says_what_is_wrong_and_where() {
    let mut different = Vec::new();
    let files = examples("invalid");
    assert!(files.len() >= 40, "the invalid examples are gone");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let said = match nightshift_jobs::parse("job.yaml", &text) {
            Err(errors) => format!("{errors}\n"),
            Ok(parsed) => {
                assert!(!parsed.warnings.is_empty(), "{} is valid", path.display());
                parsed.warnings.iter().map(|found| found.render("job.yaml", &text) + "\n").collect()
            }
        };
        check(&path, &said, &mut different);
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
