//! Servers that go away for some seconds: a job is delayed and loses nothing.

use std::time::Duration;

use nightshift_store::JobState;
use nightshift_tests::{System, specs, until};

/// How long it may take until somebody notices that a server is away.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_a_restart_of_postgres() {
    let mut system = System::with_own_server().await;
    let mut scheduler = system.scheduler();
    let mut worker = system.worker("worker", 2);
    let job =
        system.submit(&specs::sized_prompts("pg-away", 16, "96x96", "s3://lab/pg-away/")).await;
    system.until(job, "some items are finished", |view| view.n_ok >= 2).await;
    system.database.stop().await;
    until(PATIENCE, "both processes miss the database", || {
        scheduler.output().contains("the database does not answer")
            && ["the database does not answer", "a call to the database failed"]
                .iter()
                .any(|words| worker.output().contains(words))
    });
    system.database.start_again().await;
    let view = system.wait(job).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 16));
    assert!(scheduler.runs() && worker.runs(), "no process gave up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_an_outage_of_the_object_store() {
    let mut system = System::start().await;
    let mut scheduler = system.scheduler();
    let mut worker = system.worker("worker", 2);
    let job =
        system.submit(&specs::sized_prompts("s3-away", 16, "96x96", "s3://lab/s3-away/")).await;
    system.until(job, "some items are finished", |view| view.n_ok >= 2).await;
    system.stop_s3().await;
    until(PATIENCE, "the worker misses the object store", || {
        worker.output().contains("the object store failed")
    });
    system.start_s3().await;
    let view = system.wait(job).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 16));
    assert!(scheduler.runs() && worker.runs(), "no process gave up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_by_the_scheduler_that_waits() {
    const LEADS: &str = "this scheduler leads";
    let system = System::start().await;
    let mut first = system.scheduler();
    until(PATIENCE, "the first scheduler leads", || first.output().contains(LEADS));
    let mut second = nightshift_tests::Process::start(
        "scheduler-2",
        system.folder.path(),
        &mut system.command("lab_scheduler", &["scheduler"]),
    );
    let _worker = system.worker("worker", 2);
    let job = system.submit(&specs::sized_prompts("leader", 8, "96x96", "s3://lab/leader/")).await;
    system.until(job, "some items are finished", |view| view.n_ok >= 1).await;
    assert!(second.runs() && !second.output().contains(LEADS), "one leads");
    first.kill();
    assert_eq!(system.wait(job).await.state, JobState::Finished);
    let next = system.submit(&specs::prompts("leader-next", 2, "s3://lab/leader-next/")).await;
    assert_eq!(system.wait(next).await.state, JobState::Finished);
    assert!(second.output().contains(LEADS));
}
