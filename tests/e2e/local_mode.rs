//! `nightshift run` and `up`: everything in one process tree, which leaves nothing behind and may be killed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nightshift_tests::{Process, specs, until};

fn nightshift(data: &Path) -> Command {
    let mut command = Command::new(nightshift_tests::system::program());
    // A user's own settings must not reach the test.
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", data);
    command
        .current_dir(data)
        .arg("--data")
        .arg(data.join("data"));
    command
}

/// Processes whose command line or environment names the folder.
fn processes_of(data: &Path) -> Vec<String> {
    let folder = data.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(command) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(folder) {
            found.push(command);
        }
    }
    found
}

#[test]
fn run_makes_pictures_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    std::fs::write(
        data.join("job.yaml"),
        specs::prompts("local", 3, "s3://nightshift/local/"),
    )
    .unwrap();
    let output = nightshift(data).args(["run", "job.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(processes_of(data), Vec::<String>::new());
    let pictures = data.join("data/s3/nightshift/local/data");
    assert!(
        said.contains("nightshift/local"),
        "it says where the results are: {said}"
    );
    let files = std::fs::read_dir(&pictures)
        .unwrap_or_else(|error| panic!("{}: {error}", pictures.display()));
    assert_eq!(files.count(), 3);
}

#[test]
fn run_killed_without_warning_leaves_nothing_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    std::fs::write(
        data.join("job.yaml"),
        specs::sized_prompts("killed", 200, "96x96", "s3://nightshift/killed/"),
    )
    .unwrap();
    let mut first = Process::start("run", data, nightshift(data).args(["run", "job.yaml"]));
    let pictures = data.join("data/s3/nightshift/killed/data");
    until(
        Duration::from_secs(60),
        "the first picture is there",
        || std::fs::read_dir(&pictures).is_ok_and(|files| files.count() > 0),
    );
    first.kill();
    until(Duration::from_secs(20), "its processes are gone", || {
        processes_of(data).is_empty()
    });

    std::fs::write(
        data.join("next.yaml"),
        specs::prompts("next", 2, "s3://nightshift/next/"),
    )
    .unwrap();
    let output = nightshift(data)
        .args(["run", "next.yaml"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(processes_of(data), Vec::<String>::new());
}
