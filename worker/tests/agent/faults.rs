//! Kills, lost leases, drains and outages: nothing is lost, nothing is published twice, nobody crashes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nightshift_store::{AttemptOutcome, JobState};
use nightshift_worker::WorkerError;

use crate::lab::{Lab, pictures, until, until_count};

#[tokio::test]
async fn a_killed_worker_costs_only_what_was_in_its_slots() {
    let lab = Lab::new().await;
    let job = lab.job(&pictures("killed", ""), &[]).await;
    // It never reports: rows are lost with it, objects are not.
    let mut first = lab.worker_with(1, |config| config.progress_every = Duration::from_secs(3600));
    first.script.allow(3);
    until("three pictures are stored", || async {
        (lab.keys("s3://output/killed/data/").await.len() == 3).then_some(())
    })
    .await;
    until_count("the fourth is in the slot", 4, || first.script.admitted()).await;
    first.kill().await;
    assert!(lab.items(job).await.is_empty());

    let second = lab.worker(2);
    assert_eq!(lab.ended(job).await, JobState::Finished);
    assert_eq!(second.script.finished(), 3, "the stored pictures were adopted");
    let adopted =
        lab.items(job).await.into_iter().filter(|item| item.report.gpu_ms.is_none()).count();
    assert_eq!(adopted, 3);
    let attempts = lab.user.attempts(job, 100).await.unwrap();
    assert!(
        attempts.iter().any(|attempt| attempt.outcome == Some(AttemptOutcome::Lost)),
        "{attempts:?}"
    );
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_publishes_nothing_and_goes_on() {
    let mut lab = Lab::with_own_server().await;
    let job = lab.job(&pictures("lost", ""), &[]).await;
    let worker = lab.worker_with(2, |config| {
        config.lease = Duration::from_secs(2);
        config.progress_every = Duration::from_millis(300);
    });
    worker.script.allow(0);
    until_count("both slots are busy", 2, || worker.script.admitted()).await;
    // Without the database the lease cannot be renewed.
    lab.database.stop().await;
    until_count("both slots are given up", 2, || worker.script.cancelled()).await;
    assert_eq!(worker.script.finished(), 0);
    assert!(
        lab.keys("s3://output/lost/data/").await.is_empty(),
        "published under a lease that had run out"
    );
    lab.database.start_again().await;
    worker.script.open();
    assert_eq!(lab.ended(job).await, JobState::Finished);
    assert_eq!(lab.keys("s3://output/lost/data/").await.len(), 6);
}

#[tokio::test]
async fn a_first_signal_finishes_the_slots_and_gives_back_the_rest() {
    let lab = Lab::new().await;
    let job = lab.job(&pictures("drain", ""), &[]).await;
    let mut first = lab.worker(2);
    first.script.allow(1);
    until_count("slots are refilled", 3, || first.script.admitted()).await;
    first.handle.signal();
    first.script.open();
    first.ended().await.unwrap();
    assert_eq!((first.script.admitted(), first.script.finished()), (3, 3));
    assert_eq!(lab.items(job).await.len(), 3, "everything that was made was reported");
    let attempts = lab.user.attempts(job, 100).await.unwrap();
    assert!(
        attempts.iter().all(|attempt| attempt.outcome == Some(AttemptOutcome::Released)),
        "{attempts:?}"
    );
    // It signed off: nobody counts on it for another minute.
    let workers = lab.user.workers().await.unwrap();
    let states: Vec<&str> = workers.iter().map(|worker| &*worker.state).collect();
    assert_eq!(states, ["gone"]);

    let second = lab.worker(1);
    assert_eq!(lab.ended(job).await, JobState::Finished);
    assert_eq!(second.script.finished(), 3);
}

#[tokio::test]
async fn a_second_signal_or_the_end_of_the_grace_gives_back_at_once() {
    let lab = Lab::new().await;
    let job = lab.job(&pictures("now", ""), &[]).await;
    for impatient in [true, false] {
        let mut worker = lab.worker_with(2, |config| {
            config.grace = Duration::from_secs(if impatient { 3600 } else { 0 });
        });
        worker.script.allow(0);
        until_count("slots are busy", 2, || worker.script.admitted()).await;
        worker.handle.signal();
        if impatient {
            worker.handle.signal();
        }
        worker.ended().await.unwrap();
        assert_eq!(worker.script.finished(), 0);
    }
    let attempts = lab.user.attempts(job, 100).await.unwrap();
    assert!(
        attempts.iter().all(|attempt| attempt.outcome == Some(AttemptOutcome::Released)),
        "{attempts:?}"
    );
    assert!(lab.items(job).await.is_empty());
}

#[tokio::test]
async fn an_outage_of_the_object_store_only_delays() {
    let mut lab = Lab::new().await;
    let job = lab.job(&pictures("outage", ""), &[]).await;
    let worker = lab.worker_with(2, |config| config.lease = Duration::from_secs(30));
    worker.script.allow(1);
    until_count("slots are refilled", 3, || worker.script.admitted()).await;
    let script = worker.script.clone();
    lab.without_s3(|refused| async move {
        script.open();
        until_count("pictures are made meanwhile", 3, || script.finished()).await;
        until_count("they could not be stored, twice", 2, || refused.load(Ordering::Relaxed)).await;
    })
    .await;
    assert_eq!(lab.ended(job).await, JobState::Finished);
    assert_eq!(worker.script.finished(), 6, "nothing was made twice");
    let attempts = lab.user.attempts(job, 100).await.unwrap();
    assert!(
        attempts.iter().all(|attempt| attempt.outcome == Some(AttemptOutcome::Finished)),
        "{attempts:?}"
    );
}

#[tokio::test]
async fn an_outage_of_the_database_only_delays() {
    let mut lab = Lab::with_own_server().await;
    let job = lab.job(&pictures("restart", ""), &[]).await;
    let worker = lab.worker_with(1, |config| config.lease = Duration::from_secs(30));
    worker.script.allow(2);
    until_count("the third is in the slot", 3, || worker.script.admitted()).await;
    lab.database.stop().await;
    worker.script.open();
    until_count("pictures are made meanwhile", 4, || worker.script.finished()).await;
    lab.database.start_again().await;
    assert_eq!(lab.ended(job).await, JobState::Finished);
    assert_eq!(worker.script.finished(), 6, "nothing was made twice");
}

#[tokio::test]
async fn a_cancelled_job_frees_the_slots() {
    let lab = Lab::new().await;
    let job = lab.job(&pictures("cancelled", ""), &[]).await;
    let worker = lab.worker(2);
    worker.script.allow(0);
    until_count("slots are busy", 2, || worker.script.admitted()).await;
    assert!(lab.user.cancel(job).await.unwrap());
    assert_eq!(lab.ended(job).await, JobState::Cancelled);
    worker.script.open();
    let next = lab.job(&pictures("next", ""), &[]).await;
    assert_eq!(lab.ended(next).await, JobState::Finished);
    assert!(lab.keys("s3://output/cancelled/data/").await.is_empty());
}

#[tokio::test]
async fn an_item_that_takes_too_long_fails_and_its_slot_is_used_again() {
    let lab = Lab::new().await;
    let spec = pictures("slow", "") + "limits: {item_timeout: 200ms}\n";
    let worker = lab.worker(2);
    worker.script.allow(2);
    let job = lab.job(&spec, &[]).await;
    assert_eq!(lab.ended(job).await, JobState::FinishedWithErrors);
    let items = lab.items(job).await;
    let codes: Vec<&str> =
        items.iter().filter_map(|item| item.report.error_code.as_deref()).collect();
    assert_eq!(codes, ["item_timeout"; 4]);
    until_count("the slots are free again", 4, || worker.script.cancelled()).await;
    assert_eq!(worker.script.finished(), 2);
}

#[tokio::test]
async fn a_worker_that_the_object_store_does_not_know_ends_and_costs_no_job_anything() {
    let lab = Lab::new().await;
    let job = lab.job(&pictures("spared", ""), &[]).await;
    let mut stranger = lab.stranger().await;
    let ended = stranger.ended().await;
    assert!(
        matches!(&ended, Err(WorkerError::Unauthenticated(words)) if words.contains("AWS_SECRET_ACCESS_KEY")),
        "{ended:?}"
    );
    let view = lab.user.job(job).await.unwrap();
    assert_eq!((view.n_failed, view.n_leased), (0, 0), "{view:?}");
    // What a worker leaves that dies while it tries the store goes with the closing.
    lab.put("s3://output/spared/_nightshift/probe/7/probe-1/odd/a b.txt", b"x").await;
    let _worker = lab.worker(2);
    assert_eq!(lab.ended(job).await, JobState::Finished);
    let left = lab.keys("s3://output/spared/_nightshift/probe/").await;
    assert_eq!(left, [""; 0]);
}
