//! `nightshift queue` and `nightshift schedule` through the real program.

use nightshift_store::JobState;
use nightshift_tests::{System, psql, specs};
use serde_json::Value;

/// What a verb printed: standard output, and standard error.
fn said(system: &System, arguments: &[&str]) -> (String, String) {
    let output = system.command("lab_user", arguments).env("TZ", "UTC").output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    (out, err)
}

fn refused(system: &System, arguments: &[&str], exit: i32, words: &str) {
    let output = system.command("lab_user", arguments).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {err}");
    assert!(err.contains(words), "{arguments:?}: {err}");
}

/// Submits a spec through the program, with these lines added.
fn submit(system: &System, name: &str, n: usize, more: &str) -> i64 {
    let dest = format!("s3://lab/{name}-{{{{ job.id }}}}/");
    let spec = specs::prompts(name, n, &dest) + more;
    let file = system.folder.path().join("job.yaml");
    std::fs::write(file, spec).unwrap();
    said(system, &["submit", "job.yaml"]).0.trim().parse().unwrap()
}

/// The rows of `queue -o json` by the names of their jobs, in order.
fn queue(system: &System) -> Vec<(String, Value)> {
    let (out, _) = said(system, &["queue", "-o", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    rows.into_iter().map(|row| (name(&row), row)).collect()
}

/// The words of a table's row that has this word, by the words of its head. The last column takes the rest.
fn cell(table: &str, row: &str, column: &str) -> String {
    let mut lines = table.lines();
    let head = lines.next().unwrap();
    let line = lines
        .find(|line| line.split_whitespace().any(|word| word == row))
        .unwrap_or_else(|| panic!("no row of {row} in\n{table}"));
    let from = head.find(column).unwrap_or_else(|| panic!("no column {column} in\n{table}"));
    let rest = &head[from + column.len()..];
    let to =
        rest.find(|c: char| !c.is_whitespace()).map_or(usize::MAX, |at| from + column.len() + at);
    let cell = line.chars().skip(from).take(to.saturating_sub(from));
    cell.collect::<String>().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_says_in_words_why_jobs_wait_and_predicts_when_they_run() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let first = submit(&system, "first", 3, "");
    let urgent = submit(&system, "urgent", 3, "resources: {priority: 90}\n");
    let in_a_month = "date_trunc('minute', now() at time zone 'UTC') + interval '30 days'";
    let month = |form: &str| {
        let query = format!("select to_char({in_a_month}, '{form}')");
        psql(&system.database.url(), &query)
    };
    let not_before = month("YYYY-MM-DD\"T\"HH24:MI");
    let later = format!("schedule: {{not_before: \"{not_before} UTC\"}}\n");
    let later = submit(&system, "later", 3, &later);
    let held = submit(&system, "held", 3, "schedule: {hold: true}\n");
    let next = format!("schedule: {{after: [{first}]}}\n");
    let next = submit(&system, "next", 3, &next);
    for job in [first, urgent, later, held, next] {
        let planned = |view: &nightshift_store::JobView| view.state == JobState::Ready;
        system.until(job, "it is planned", planned).await;
    }

    let (table, _) = said(&system, &["queue"]);
    let why = |row| cell(&table, row, "WHY");
    assert_eq!(why("first"), "no worker is running");
    assert_eq!(why("urgent"), "no worker is running");
    let until = not_before.replace('T', " ");
    assert_eq!(why("later"), format!("starts not before {until} UTC"));
    assert_eq!(why("held"), format!("held; `nightshift resume {held}`"));
    let waits = format!("waits for job {first} (first), which is ready");
    assert_eq!(why("next"), waits);
    assert_eq!(cell(&table, "urgent", "PLACE"), "1", "{table}");
    assert_eq!(cell(&table, "urgent", "PRIORITY"), "90");
    assert_eq!(cell(&table, "first", "LEFT"), "3");
    assert_eq!(cell(&table, "first", "WORKERS"), "0");
    // Nothing of this kind was ever measured, and nobody could do it.
    assert_eq!(cell(&table, "first", "FINISHES"), "not measured");
    let described = said(&system, &["describe", &next.to_string()]).0;
    assert!(described.contains(&waits), "{described}");

    let _worker = system.worker("worker", 1);
    for job in [first, urgent, next] {
        assert_eq!(system.wait(job).await.state, JobState::Finished);
    }
    let rows = queue(&system);
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["later", "held"], "a job that nobody lets run comes last");
    let (later_row, held_row) = (&rows[0].1, &rows[1].1);
    let query = format!("select extract(epoch from timestamptz '{until} UTC')::bigint * 1000");
    let starts: i64 = psql(&system.database.url(), &query).parse().unwrap();
    assert_eq!(later_row["job"], later);
    assert_eq!(later_row["starts_unix_ms"], starts);
    let finishes = later_row["finishes_unix_ms"].as_i64().unwrap();
    assert!(finishes > starts, "{later_row}");
    assert!(later_row["item_ms"].as_f64().unwrap() > 0.0, "it was measured");
    assert_eq!(held_row["starts_unix_ms"], Value::Null);
    let (table, _) = said(&system, &["queue"]);
    assert_eq!(cell(&table, "later", "STARTS"), format!("{until}:00 UTC"));
    assert_eq!(cell(&table, "later", "WORKERS"), "1");

    for job in [later, held] {
        said(&system, &["cancel", &job.to_string()]);
    }
    let (table, note) = said(&system, &["queue"]);
    assert_eq!(table.lines().count(), 1, "{table}");
    assert!(note.contains("nothing waits"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_made_listed_paused_resumed_and_removed() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let yearly = "schedule: {cron: \"30 4 1 1 * Europe/Berlin\", when_still_running: skip}\n";
    let job = submit(&system, "yearly", 1, yearly);
    let why = |view: &nightshift_store::JobView| view.reason.clone().unwrap_or_default();
    let due = |view: &nightshift_store::JobView| why(view).contains("is due");
    let view = system.until(job, "its due time is known", due).await;
    let words = why(&view);
    assert!(words.starts_with("run 1 of schedule 1 (yearly) is due "), "{words}");
    assert!(words.ends_with("-01-01 04:30 Europe/Berlin"), "{words}");

    let list = || said(&system, &["schedule", "ls"]).0;
    let table = list();
    assert_eq!(cell(&table, "yearly", "SCHEDULE"), "1");
    assert_eq!(cell(&table, "yearly", "STATE"), "active");
    assert_eq!(cell(&table, "yearly", "CRON"), "30 4 1 1 * Europe/Berlin");
    assert_eq!(cell(&table, "yearly", "RUNS"), "0");
    // Half past four in Berlin in winter.
    let next = cell(&table, "yearly", "NEXT");
    assert!(next.ends_with("-01-01 03:30:00 UTC"), "{table}");
    let json: Value = said(&system, &["schedule", "ls", "-o", "json"]).0.parse().unwrap();
    assert_eq!(json[0]["when_still_running"], "skip");
    assert!(json[0]["next_due_unix_ms"].as_i64().is_some(), "{json}");

    let (_, note) = said(&system, &["schedule", "pause", "1"]);
    assert!(note.contains("schedule 1 is paused; runs that have started continue"), "{note}");
    assert_eq!(cell(&list(), "yearly", "STATE"), "paused");
    let view = system.job(job).await;
    assert!(why(&view).ends_with(": paused"), "{}", why(&view));
    assert_eq!((view.call.as_deref(), view.call_id), (Some("resume_schedule"), Some(1)));
    refused(&system, &["schedule", "pause", "1"], 4, "schedule 1 is not active");
    let (_, note) = said(&system, &["schedule", "resume", "1"]);
    assert!(note.contains("schedule 1 continues with its next due time"), "{note}");
    assert_eq!(cell(&list(), "yearly", "STATE"), "active");
    refused(&system, &["schedule", "resume", "1"], 4, "schedule 1 is not paused");

    let (_, note) = said(&system, &["schedule", "rm", "1"]);
    assert!(note.contains("schedule 1 is removed"), "{note}");
    assert_eq!(system.wait(job).await.state, JobState::Cancelled);
    assert_eq!(list().lines().count(), 1, "only the head is left");
    let all = said(&system, &["schedule", "ls", "--all"]).0;
    assert_eq!(cell(&all, "yearly", "STATE"), "removed");
    refused(&system, &["schedule", "rm", "1"], 4, "schedule 1 was already removed");
    refused(&system, &["schedule", "rm", "2"], 3, "there is no schedule 2");
}
