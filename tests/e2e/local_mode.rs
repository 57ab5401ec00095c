//! `nightshift run` and `up`: everything in one process tree, which leaves nothing behind and may be killed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nightshift_objects::{Objects, Put, S3Uri, StoreConfig};
use nightshift_tests::{Process, Signal, specs, until};
use serde_json::Value;

fn nightshift(data: &Path) -> Command {
    let mut command = Command::new(nightshift_tests::system::program());
    // A user's own settings must not reach the test.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", data);
    command.current_dir(data).arg("--data").arg(data.join("data"));
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
    std::fs::write(data.join("job.yaml"), specs::prompts("local", 3, "s3://nightshift/local/"))
        .unwrap();
    let output = nightshift(data).args(["run", "job.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(processes_of(data), Vec::<String>::new());
    let pictures = data.join("data/s3/nightshift/local/data");
    assert!(said.contains("nightshift/local"), "it says where the results are: {said}");
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
    until(Duration::from_secs(60), "the first picture is there", || {
        std::fs::read_dir(&pictures).is_ok_and(|files| files.count() > 0)
    });
    first.kill();
    until(Duration::from_secs(20), "its processes are gone", || processes_of(data).is_empty());

    std::fs::write(data.join("next.yaml"), specs::prompts("next", 2, "s3://nightshift/next/"))
        .unwrap();
    let output = nightshift(data).args(["run", "next.yaml"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(processes_of(data), Vec::<String>::new());
}

/// The variables that `up` writes for other programs.
fn env_of(data: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(data.join("data/env")).unwrap();
    let variable = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('\'').to_owned()))
    };
    text.lines().map(|line| variable(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// A client of the object store of `up`.
async fn objects_of(env: &[(String, String)]) -> Objects {
    let var = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    Objects::connect(StoreConfig::from_vars(var)).await.unwrap()
}

/// The examples that say that they run as they are.
fn runnable() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/specs");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        match text.starts_with("# Runs as it is") {
            true => found.push(path),
            false => assert!(text.starts_with("# Needs "), "{}", path.display()),
        }
    }
    found.sort();
    found
}

/// What the README types as an administrator, without its remarks, as words of a shell.
fn admin_lines() -> Vec<Vec<String>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let typed = ["nightshift migrate", "nightshift admin"];
    text.lines()
        .filter(|line| typed.iter().any(|verb| line.starts_with(verb)))
        .map(|line| line.split("  #").next().unwrap())
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn up_serves_the_examples_and_its_owner_as_the_readme_says() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut up = Process::start("up", data, nightshift(data).arg("up"));
    until(Duration::from_secs(120), "the system is up", || {
        up.output().contains("nightshift submit")
    });
    let env = env_of(data);
    for secret in ["DATABASE_URL", "NIGHTSHIFT_OWNER_URL"] {
        let (_, url) = env.iter().find(|(name, _)| name == secret).unwrap();
        let password = url.split([':', '@']).nth(2).unwrap();
        assert!(!up.output().contains(password), "{secret} is printed");
    }
    // In a shell that sourced the file, nothing else says where anything is.
    let said = |words: &[String]| {
        let mut command = Command::new(nightshift_tests::system::program());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        let output = command
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("HOME", data)
            .current_dir(data)
            .args(words)
            .output()
            .unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {err}");
        (String::from_utf8(output.stdout).unwrap(), err)
    };
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };

    let objects = objects_of(&env).await;
    for place in ["scenes", "maps"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/quickstart.d").join(place);
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            let to: S3Uri = format!("s3://nightshift/quickstart/{place}/{name}").parse().unwrap();
            let body = std::fs::read(&path).unwrap();
            objects.put(&to, body.into(), &Put::default()).await.unwrap();
        }
    }
    let examples = runnable();
    assert_eq!(examples.len(), 5, "{examples:?}");
    for path in &examples {
        let submit = ["submit", "--hold", path.to_str().unwrap()].map(str::to_owned);
        said(&submit);
    }
    let queue = || -> Vec<Value> {
        let queue: Value = said(&words("queue -o json")).0.parse().unwrap();
        queue.as_array().unwrap().clone()
    };
    until(Duration::from_secs(30), "every example is planned", || queue().len() == examples.len());
    for row in queue() {
        assert_eq!(row["n_workers"], 1, "no worker of `up` fits: {row}");
    }

    let doctor: Value = said(&words("doctor -o json")).0.parse().unwrap();
    for finding in doctor.as_array().unwrap() {
        let status = finding["status"].as_str().unwrap();
        assert!(["ok", "not tried"].contains(&status), "{finding}");
    }

    let commands = admin_lines();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in &commands {
        let (out, err) = said(&command[1..]);
        assert!(!out.is_empty() || !err.is_empty(), "{command:?} says nothing");
    }
    up.signal(Signal::TERM);
    assert!(up.wait(Duration::from_secs(60)).success());
}
