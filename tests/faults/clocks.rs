//! Only the database's clock counts: a worker whose clock is an hour ahead and a scheduler whose clock is an hour late lose no lease and no item.

use std::path::Path;

use nightshift_store::{AttemptOutcome, JobState};
use nightshift_tests::{Process, System, specs};

/// Where Debian and Ubuntu put the library of the package `faketime`.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_off_by_an_hour_cost_no_lease() {
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: the package faketime is not installed");
        return;
    };
    let system = System::start().await;
    let start = |name: &str, login: &str, arguments: &[&str], off: &str| {
        let mut command = system.command(login, arguments);
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME", off)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Process::start(name, system.folder.path(), &mut command)
    };
    let _scheduler = start("scheduler", "lab_scheduler", &["scheduler"], "-1h");
    let worker =
        start("worker", "lab_worker", &["worker", "--name", "ahead", "--slots", "2"], "+1h");
    let job = system.submit(&specs::prompts("clocks", 6, "s3://lab/clocks/")).await;
    let view = system.wait(job).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 6), "{view:?}");
    let attempts = system.user().attempts(job, 100).await.unwrap();
    // No lease is lost for a clock, and no attempt fails for a request that the object store finds dated too far from its own.
    assert!(
        attempts.iter().all(|attempt| attempt.outcome == Some(AttemptOutcome::Finished)),
        "{attempts:?}"
    );
    // The clock was off indeed: the worker's own lines are dated an hour ahead of what the database says.
    let registered = system.database.sql("select to_char((registered_at at time zone 'UTC') + interval '1 hour', 'YYYY-MM-DD\"T\"HH24') from nightshift.worker");
    assert!(worker.output().contains(&registered), "no line of {registered}:\n{}", worker.output());
}
