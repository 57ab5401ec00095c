//! Servers that go away for some seconds: a job is delayed and loses nothing.

use std::time::Duration;

use nightshift_store::JobState;
use nightshift_tests::{System, specs};

/// How long a server is away: longer than a request, shorter than patience.
const AWAY: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_a_restart_of_postgres() {
    let mut system = System::with_own_server().await;
    let mut scheduler = system.scheduler();
    let mut worker = system.worker("worker", 2);
    let job = system
        .submit(&specs::sized_prompts(
            "pg-away",
            16,
            "96x96",
            "s3://lab/pg-away/",
        ))
        .await;
    system
        .until(job, "some items are finished", |view| view.n_ok >= 2)
        .await;
    system.database.stop().await;
    tokio::time::timeout(AWAY, std::future::pending::<()>())
        .await
        .unwrap_err();
    let folder = system.folder.path().to_owned();
    system.database.start_again(&folder).await;
    let view = system.wait(job).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 16));
    assert!(scheduler.runs() && worker.runs(), "no process gave up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_an_outage_of_the_object_store() {
    let mut system = System::start().await;
    let mut scheduler = system.scheduler();
    let mut worker = system.worker("worker", 2);
    let job = system
        .submit(&specs::sized_prompts(
            "s3-away",
            16,
            "96x96",
            "s3://lab/s3-away/",
        ))
        .await;
    system
        .until(job, "some items are finished", |view| view.n_ok >= 2)
        .await;
    system.stop_s3().await;
    tokio::time::timeout(AWAY, std::future::pending::<()>())
        .await
        .unwrap_err();
    system.start_s3().await;
    let view = system.wait(job).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 16));
    assert!(scheduler.runs() && worker.runs(), "no process gave up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_scheduler_is_replaced_by_the_next() {
    let system = System::start().await;
    let mut first = system.scheduler();
    let second = nightshift_tests::Process::start(
        "scheduler-2",
        system.folder.path(),
        &mut system.command("lab_scheduler", &["scheduler"]),
    );
    let _worker = system.worker("worker", 2);
    let job = system
        .submit(&specs::sized_prompts(
            "leader",
            8,
            "96x96",
            "s3://lab/leader/",
        ))
        .await;
    system
        .until(job, "some items are finished", |view| view.n_ok >= 1)
        .await;
    first.kill();
    assert_eq!(system.wait(job).await.state, JobState::Finished);
    let next = system
        .submit(&specs::prompts("leader-next", 2, "s3://lab/leader-next/"))
        .await;
    assert_eq!(system.wait(next).await.state, JobState::Finished);
    drop(second);
}
