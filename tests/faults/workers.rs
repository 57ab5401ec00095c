//! What happens to a job when its worker is killed, asked to stop, or frozen past its lease.

use std::collections::BTreeSet;
use std::time::Duration;

use nightshift_store::{AttemptOutcome, ItemStatus, JobState};
use nightshift_tests::{Signal, System, specs};

/// Pictures a worker's log says it drew.
fn drawn(output: &str) -> usize {
    output.lines().filter(|line| line.contains("picture drawn")).count()
}

/// Each item has one row, and each row's objects exist with the recorded bytes; nothing else lies in the data folder.
async fn assert_published_once(system: &System, job: i64, dest: &str, items: usize) {
    let rows = system.items(job).await;
    assert_eq!(rows.len(), items);
    let mut named = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.status, ItemStatus::Ok, "{row:?}");
        for artifact in &row.artifacts {
            assert!(
                named.insert(format!("{dest}{}", artifact.key)),
                "{} is named twice",
                artifact.key
            );
            let body = system.read(&format!("{dest}{}", artifact.key)).await.unwrap();
            assert_eq!(i64::try_from(body.len()).unwrap(), artifact.bytes);
            assert_eq!(nightshift_tests::system::sha256(&body), artifact.sha256);
        }
    }
    let stored: BTreeSet<String> = system.list(&format!("{dest}data/")).await.into_iter().collect();
    assert_eq!(stored, named, "what is stored is what the rows name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_at_most_the_pictures_in_its_slots() {
    const ITEMS: usize = 24;
    const SLOTS: usize = 2;
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let mut first = system.worker("first", SLOTS);
    let job =
        system.submit(&specs::sized_prompts("killed", ITEMS, "96x96", "s3://lab/killed/")).await;
    system.until(job, "some items are finished", |view| view.n_ok >= 4).await;
    first.kill();
    let before = system.job(job).await;
    assert!(before.n_ok < ITEMS as i64, "the kill came too late to mean anything");

    let second = system.worker("second", SLOTS);
    let after = system.wait(job).await;
    assert_eq!(after.state, JobState::Finished);
    assert_eq!(after.n_ok, ITEMS as i64);
    assert_published_once(&system, job, "killed/", ITEMS).await;
    let total = drawn(&first.output()) + drawn(&second.output());
    assert!(total <= ITEMS + SLOTS, "{total} pictures were drawn for {ITEMS} items");
    let attempts = system.user().attempts(job, 100).await.unwrap();
    assert!(
        attempts.iter().any(|attempt| attempt.outcome == Some(AttemptOutcome::Lost)),
        "{attempts:?}"
    );
    assert!(system.read("killed/_nightshift/_SUCCESS").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asked_to_stop_finishes_what_it_draws_and_gives_the_rest_back() {
    const ITEMS: usize = 24;
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let mut first = system.worker("first", 2);
    let job =
        system.submit(&specs::sized_prompts("drained", ITEMS, "96x96", "s3://lab/drained/")).await;
    system.until(job, "some items are finished", |view| view.n_ok >= 2).await;
    first.signal(Signal::TERM);
    let status = first.wait(Duration::from_secs(30));
    assert!(status.success(), "a drained worker ends well: {status}");
    let between = system.job(job).await;
    assert_eq!(between.n_leased, 0, "nothing is leased after a drain");
    assert!(between.n_ok < ITEMS as i64, "the signal came too late to mean anything");
    assert_eq!(drawn(&first.output()) as i64, between.n_ok, "what was drawn was also reported");

    let second = system.worker("second", 2);
    assert_eq!(system.wait(job).await.state, JobState::Finished);
    assert_published_once(&system, job, "drained/", ITEMS).await;
    assert_eq!(
        drawn(&first.output()) + drawn(&second.output()),
        ITEMS,
        "a drain draws nothing twice"
    );
    let attempts = system.user().attempts(job, 100).await.unwrap();
    assert!(
        attempts.iter().all(|attempt| matches!(
            attempt.outcome,
            Some(AttemptOutcome::Released | AttemptOutcome::Finished)
        )),
        "a drain costs no attempt: {attempts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_frozen_past_its_lease_publishes_nothing_more() {
    const ITEMS: usize = 24;
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let mut frozen = system.worker("frozen", 2);
    let job =
        system.submit(&specs::sized_prompts("frozen", ITEMS, "96x96", "s3://lab/frozen/")).await;
    system.until(job, "some items are finished", |view| view.n_ok >= 2).await;
    frozen.signal(Signal::STOP);
    let second = system.worker("second", 2);
    let ended = system.wait(job).await;
    assert_eq!(ended.state, JobState::Finished);
    let rows_before = format!("{:?}", system.items(job).await);
    let objects_before = system.list("frozen/").await;

    frozen.signal(Signal::CONT);
    nightshift_tests::until(
        Duration::from_secs(30),
        "the frozen worker sees that its lease is lost",
        || frozen.output().contains("lost a lease"),
    );
    frozen.signal(Signal::TERM);
    frozen.wait(Duration::from_secs(30));
    assert_eq!(format!("{:?}", system.items(job).await), rows_before, "no row changed");
    assert_eq!(system.list("frozen/").await, objects_before, "no object appeared");
    assert_eq!(system.job(job).await.state, JobState::Finished);
    assert_published_once(&system, job, "frozen/", ITEMS).await;
    let total = drawn(&frozen.output()) + drawn(&second.output());
    assert!((ITEMS..=ITEMS + 2).contains(&total), "{total} pictures were drawn for {ITEMS} items");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_takes_over_within_two_seconds_of_the_end_of_a_dead_ones_lease() {
    const ITEMS: usize = 60;
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let mut first = system.worker("first", 1);
    // All of it is one lease: the other worker has nothing in hand.
    let job = system
        .submit(&format!(
            "{}resources: {{shard_items: {ITEMS}}}\n",
            specs::sized_prompts("rescued", ITEMS, "96x96", "s3://lab/rescued/")
        ))
        .await;
    system.until(job, "some items are finished", |view| view.n_ok >= 1).await;
    let second = system.worker("second", 1);
    nightshift_tests::until(Duration::from_secs(30), "the second worker waits", || {
        second.output().contains("registered")
    });
    first.kill();
    // What remains is measured by the database's clock, in milliseconds: the lease of three seconds, and two for the rescue.
    let killed = "select (extract(epoch from nightshift.clock()) * 1000)::bigint";
    let killed: i64 = system.database.sql(killed).parse().unwrap();
    assert_eq!(system.wait(job).await.state, JobState::Finished);
    let rescue = format!(
        "select (extract(epoch from heir.started_at) * 1000)::bigint from nightshift.attempt lost join nightshift.attempt heir
            on heir.job_id = lost.job_id and heir.shard_no = lost.shard_no and heir.attempt = lost.attempt + 1
        where lost.job_id = {job} and lost.outcome = 'lost'"
    );
    let rescued: i64 = system
        .database
        .sql(&rescue)
        .parse()
        .expect("one lease was lost, and its shard claimed again");
    let after = rescued - killed;
    assert!(
        after <= 3_000 + 2_000,
        "the shard of a killed worker was claimed again after {after} ms"
    );
}
