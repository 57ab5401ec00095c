//! A destination belongs to one job.

use nightshift_store::JobState;
use nightshift_tests::{Process, System, specs};

fn drawn(worker: &Process) -> usize {
    worker.output().matches("picture drawn").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_destination_is_refused_resumed_or_overwritten_as_the_spec_says() {
    const DEST: &str = "s3://lab/taken/";
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let worker = system.worker("worker", 1);
    let first = system.submit(&specs::prompts("first", 3, DEST)).await;
    assert_eq!(system.wait(first).await.state, JobState::Finished);
    assert_eq!(drawn(&worker), 3);

    let second = system.submit(&specs::prompts("second", 3, DEST)).await;
    let refused = system.wait(second).await;
    assert_eq!(refused.state, JobState::Rejected);
    let errors = refused.errors.unwrap();
    assert!(errors.contains(&format!("job {first}")) && errors.contains("first"), "{errors}");

    // The same work plus two prompts: what lies there is adopted.
    let resume =
        specs::prompts("third", 5, DEST).replace("output: {", "output: {on_existing: resume, ");
    let third = system.submit(&resume).await;
    let view = system.wait(third).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 5), "{view:?}");

    // Other pictures and fewer of them: the old ones are gone.
    let overwrite = specs::prompts("fourth", 2, DEST)
        .replace("seeds: [1]", "seeds: [2]")
        .replace("output: {", "output: {on_existing: overwrite, ");
    let before = drawn(&worker);
    let fourth = system.submit(&overwrite).await;
    let view = system.wait(fourth).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 2), "{view:?}");
    assert_eq!(drawn(&worker) - before, 2);
    let mut named: Vec<String> = system
        .items(fourth)
        .await
        .iter()
        .map(|row| format!("taken/{}", row.artifacts[0].key))
        .collect();
    named.sort();
    assert_eq!(system.list("taken/data/").await, named, "only the new pictures are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_draws_only_what_is_missing() {
    const DEST: &str = "s3://lab/resumed/";
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let worker = system.worker("worker", 1);
    let first = system.submit(&specs::prompts("first", 4, DEST)).await;
    assert_eq!(system.wait(first).await.state, JobState::Finished);
    let gone = system.items(first).await[2].artifacts[0].key.clone();
    system
        .objects()
        .delete(&nightshift_tests::system::uri(&format!("resumed/{gone}")))
        .await
        .unwrap();

    let resume =
        specs::prompts("first", 4, DEST).replace("output: {", "output: {on_existing: resume, ");
    let second = system.submit(&resume).await;
    let view = system.wait(second).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 4), "{view:?}");
    assert_eq!(drawn(&worker), 5, "four at first, then the one that was missing");
}
