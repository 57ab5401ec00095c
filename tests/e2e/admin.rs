//! `nightshift admin`: tenants, members, logins and workers through the real program.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use nightshift_tests::{System, psql, try_psql};
use serde_json::{Value, json};

/// What a verb said, by an administrator.
fn admin(system: &System, arguments: &[&str]) -> Output {
    command(system, arguments).output().unwrap()
}

fn command(system: &System, arguments: &[&str]) -> Command {
    let mut command = system.command("lab_user", &["admin"]);
    command
        .args(arguments)
        .env("NIGHTSHIFT_DATABASE_URL", system.database.url())
        .stdin(Stdio::null());
    command
}

fn done(system: &System, arguments: &[&str]) -> String {
    let output = admin(system, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(system: &System, arguments: &[&str], exit: i32, words: &str) {
    let output = admin(system, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

fn tenant(system: &System, name: &str) -> Value {
    done(system, &["tenant", "show", name, "-o", "json"]).parse().unwrap()
}

/// Logins belong to the whole cluster, which other tests share.
fn login(name: &str) -> String {
    format!("lab_{name}_{}", std::process::id())
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_made_changed_and_shown() {
    let system = System::start().await;
    let run = |arguments: &[&str]| done(&system, arguments);
    run(&[
        "tenant",
        "create",
        "blue",
        "--input",
        "s3://in/",
        "--dest",
        "s3://out/blue/",
        "--dest",
        "s3://more/",
        "--weight",
        "2.5",
        "--max-leased",
        "8",
        "--gpu-hours",
        "1.5",
    ]);
    let blue = tenant(&system, "blue");
    assert_eq!(blue["dest_prefixes"], json!(["s3://out/blue/", "s3://more/"]));
    assert_eq!(
        (&blue["weight"], &blue["max_leased"], &blue["max_gpu_hours"]),
        (&json!(2.5), &json!(8), &json!(1.5))
    );
    // What is not named stays; a limit and a list can be lifted.
    run(&["tenant", "set", "blue", "--max-leased", "none", "--input", "none"]);
    let blue = tenant(&system, "blue");
    assert_eq!(
        (&blue["weight"], &blue["max_leased"], &blue["max_gpu_hours"]),
        (&json!(2.5), &Value::Null, &json!(1.5))
    );
    assert_eq!(
        (&blue["input_prefixes"], &blue["dest_prefixes"][0]),
        (&json!([]), &json!("s3://out/blue/"))
    );
    let listed: Value = run(&["tenant", "list", "-o", "json"]).parse().unwrap();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["blue", "default"]);

    refused(&system, &["tenant", "create", "blue"], 4, "there is a tenant blue already");
    refused(&system, &["tenant", "set", "green", "--weight", "1"], 3, "there is no tenant green");
    refused(&system, &["tenant", "show", "green"], 3, "there is no tenant green");
    refused(&system, &["tenant", "set", "blue", "--weight", "0"], 4, "0 is not a weight");
    refused(&system, &["tenant", "set", "blue", "--gpu-hours=-1"], 4, "a limit is a number");
    refused(
        &system,
        &["tenant", "set", "blue", "--max-leased", "many"],
        2,
        "expected a number or `none`",
    );
    refused(&system, &["tenant", "set", "blue", "--dest", "bucket"], 4, "is not a prefix");
    refused(&system, &["tenant", "create", "No"], 4, "is not a name for a tenant");
    assert_eq!(tenant(&system, "blue"), blue);

    // A tenant's own login is no administrator.
    let output =
        system.command("lab_user", &["admin", "tenant", "create", "mine"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("error: this login may not do that")
            && said.contains("NIGHTSHIFT_OWNER_URL"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_get_their_passwords_in_secret() {
    let system = System::start().await;
    let (carol, worker) = (login("carol"), login("w"));
    done(&system, &["tenant", "create", "blue"]);
    done(&system, &["tenant", "create", "green"]);

    // Made up, into a file of its own.
    let file = system.folder.path().join("carol");
    let path = file.display().to_string();
    let output = admin(&system, &["member", "add", "blue", &carol, "--password-file", &path]);
    assert!(output.status.success(), "{output:?}");
    let password = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(password.len() >= 32);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let printed =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!printed.contains(&password), "{printed}");
    let as_carol =
        system.database.url_as("lab_user").replace("lab_user:test", &format!("{carol}:{password}"));
    assert_eq!(psql(&as_carol, "select string_agg(name, ' ') from nightshift.tenants"), "blue");
    // An existing file is left alone, and a login that is not made leaves none behind.
    refused(
        &system,
        &["member", "add", "blue", &carol, "--password-file", &path],
        5,
        "cannot make",
    );
    let other = system.folder.path().join("other").display().to_string();
    refused(
        &system,
        &["member", "add", "red", &carol, "--password-file", &other],
        3,
        "there is no tenant red",
    );
    refused(
        &system,
        &["login", "create", "worker", &carol, "--password-file", &other],
        4,
        "already",
    );
    assert!(!std::path::Path::new(&other).exists());

    // A second tenant needs no new password; leaving a tenant counts at once.
    done(&system, &["member", "add", "green", &carol]);
    done(&system, &["member", "remove", "blue", &carol]);
    assert_eq!(psql(&as_carol, "select string_agg(name, ' ') from nightshift.tenants"), "green");
    let members: Value = done(&system, &["member", "list", "green", "-o", "json"]).parse().unwrap();
    assert_eq!(members, json!([{"login": carol, "kind": "tenant", "tenants": ["green"]}]));

    // From the environment; a worker sees no tenant.
    let mut make =
        command(&system, &["login", "create", "worker", &worker, "--password-env", "NEW_PASSWORD"]);
    let made = make.env("NEW_PASSWORD", "hidden-word").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    refused(&system, &["login", "create", "worker", &worker], 2, "a login needs a password");
    refused(&system, &["member", "add", "green", &worker], 4, "is not one of tenants");
    refused(&system, &["member", "remove", "green", &worker], 3, "is no member");
    let listed: Value = done(&system, &["login", "list", "-o", "json"]).parse().unwrap();
    let own = listed.as_array().unwrap().iter().find(|l| l["login"] == worker.as_str()).unwrap();
    assert_eq!(own["kind"], "worker");
    assert!(!listed.to_string().contains("hidden-word"));

    for name in [&carol, &worker] {
        done(&system, &["login", "drop", name]);
        refused(&system, &["login", "drop", name], 3, "there is no login");
    }
    refused(&system, &["login", "drop", "nightshift_owner"], 3, "there is no login");
    assert!(try_psql(&as_carol, "select 1").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_and_drained() {
    let system = System::start().await;
    let _worker = system.worker("w", 1);
    let workers = || -> Value { done(&system, &["worker", "list", "-o", "json"]).parse().unwrap() };
    nightshift_tests::until(std::time::Duration::from_secs(30), "the worker registers", || {
        workers().as_array().unwrap().len() == 1
    });
    let id = workers()[0]["id"].to_string();
    done(&system, &["worker", "drain", &id]);
    assert_eq!(workers()[0]["state"], "draining");
    done(&system, &["worker", "undrain", &id]);
    assert_eq!(workers()[0]["state"], "live");
    refused(&system, &["worker", "drain", "99"], 3, "there is no worker 99");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_and_the_programs_agree_on_prefixes() {
    let system = System::start().await;
    for (uri, prefix) in [
        ("s3://a/b", "s3://a/"),
        ("s3://a/b", "s3://a"),
        ("s3://ab/c", "s3://a"),
        ("s3://a", "s3://a"),
        ("s3://a/b", "s3://"),
        ("s3://a/../b", "s3://a/"),
        ("s3://a/..b", "s3://a/"),
        ("s3://a/..", "s3://a"),
        ("http://a/b", "s3://"),
        ("s3://a/b", "s3://a/b/"),
    ] {
        let sql =
            system.database.sql(&format!("select nightshift.is_allowed('{uri}', '{{{prefix}}}')"));
        assert_eq!(
            sql == "t",
            nightshift_jobs::is_allowed(uri, &[prefix.to_owned()]),
            "{uri} {prefix}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_long_ago_is_pruned_and_its_pictures_stay() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let _worker = system.worker("w", 1);
    let spec = nightshift_tests::specs::prompts("old", 3, "s3://lab/old/");
    let job = system.submit(&spec).await;
    system.wait(job).await;
    let _done = system
        .database
        .sql("update nightshift.job set finished_at = finished_at - interval '91 days'");
    let prune = ["prune", "--older-than", "90d", "--batch", "2", "-o", "json"];
    let removed: Value = done(&system, &prune).parse().unwrap();
    assert_eq!((&removed["jobs"], &removed["items"]), (&json!(1), &json!(3)));
    assert_eq!(system.database.sql("select count(*) from nightshift.item"), "0");
    assert_eq!(system.list("old/data/").await.len(), 3);
    let removed: Value = done(&system, &prune).parse().unwrap();
    assert_eq!(removed["jobs"], 0);

    // The pictures still have an owner: one answer, and no item that fails.
    let again = system.submit(&spec).await;
    let view = system.wait(again).await;
    assert_eq!(view.state, nightshift_store::JobState::Rejected);
    let words = view.errors.unwrap();
    assert!(words.contains(&format!("job {job} (old)")), "{words}");
    refused(&system, &["prune", "--older-than", "1s"], 4, "at least an hour");
}
