//! Items that kill workers: they fail alone, and nobody else with them.

use nightshift_store::{ItemFilter, JobState, Lease, Only, Plan, Report, Verdict, WorkerId};

use crate::lab::{Lab, all_ok, ok, report};

/// Of each shard: its state, items by outcome, lost attempts that count, and suspects.
const SHARDS: &str = "select string_agg(format('%s %s/%s %s %s', state, n_ok, n_failed, n_lost_attempts, coalesce(suspects, '{}')), ', ' order by shard_no)
    from nightshift.shard where kind = 'items'";

/// The next lease, which asks for these items to be alone.
async fn claim(lab: &Lab, worker: WorkerId, alone: &[i64]) -> Lease {
    lab.advance(120).await; // beyond any pause
    let lease = lab.claim(worker).await;
    assert_eq!(lease.alone, alone);
    lease
}

/// The worker dies after it said that these items are done, and those in its slots.
async fn die(lab: &Lab, mut lease: Lease, done: &[i64], in_flight: &[i64]) {
    let last =
        Report { in_flight: in_flight.to_vec(), ..report(done.iter().copied().map(ok).collect()) };
    let verdict = lab.worker.progress(&mut lease, &last).await.unwrap();
    assert_eq!(verdict, Verdict::Continue);
    lab.advance(120).await;
    assert_eq!(lab.tick().await.expired, 1);
    assert_eq!(lab.tick().await.expired, 0);
    let late = lab.worker.progress(&mut lease, &last).await.unwrap();
    assert_eq!(late, Verdict::Stop);
}

/// Index and code of what failed.
async fn failed(lab: &Lab, job: i64) -> Vec<(i64, String)> {
    let items = lab.alice.items(job, &ItemFilter::default(), -1, 100).await;
    let code = |item: nightshift_store::ItemRow| Some((item.report.index, item.report.error_code?));
    items.unwrap().into_iter().filter_map(code).collect()
}

fn kills(index: i64) -> Vec<(i64, String)> {
    vec![(index, "kills_worker".to_owned())]
}

#[tokio::test]
async fn one_item_that_kills_workers_fails_and_the_others_of_its_shard_do_not() {
    let lab = Lab::new().await;
    let job = lab.ready(20, 10).await;
    let worker = lab.register("w").await;
    die(&lab, claim(&lab, worker, &[]).await, &[0, 1], &[2, 3]).await;
    assert_eq!(lab.text(SHARDS).await, "waiting 2/0 0 {2,3}");
    die(&lab, claim(&lab, worker, &[]).await, &[2], &[3, 4]).await;
    assert_eq!(lab.text(SHARDS).await, "waiting 3/0 0 {3,3,4}");
    die(&lab, claim(&lab, worker, &[3]).await, &[5], &[3]).await;
    assert_eq!(lab.text(SHARDS).await, "waiting 4/1 0 {4}");
    assert_eq!(failed(&lab, job).await, kills(3));
    let (item, event) = (
        lab.text("select error_message from nightshift.items where status = 'failed'"),
        lab.text("select message from nightshift.events where what = 'lease_lost' order by id desc limit 1"),
    );
    let (item, event) = (item.await, event.await);
    assert!(item.contains("while it was there alone"), "{item}");
    assert!(item.contains("retry with code:kills_worker"), "{item}");
    let end = "item 3 was alone in the engine and fails as kills_worker";
    assert!(event.ends_with(end), "{event}");

    let rest = claim(&lab, worker, &[]).await;
    assert_eq!((rest.shard, rest.attempt), (0, 4));
    let others = report([4, 6, 7, 8, 9].map(ok).to_vec());
    lab.worker.finish(&rest, &others).await.unwrap();
    lab.run_all(worker).await;
    assert_eq!(lab.text(SHARDS).await, "finished 9/1 0 {}, finished 10/0 0 {}");
    let view = lab.job(job).await;
    assert_eq!(view.state, JobState::FinishedWithErrors);
    assert_eq!((view.n_ok, view.n_failed), (19, 1));
}

#[tokio::test]
async fn the_last_open_item_of_a_job_may_be_the_one_that_kills() {
    let lab = Lab::new().await;
    let job = lab.ready(2, 2).await;
    let worker = lab.register("w").await;
    die(&lab, claim(&lab, worker, &[]).await, &[0], &[1]).await;
    die(&lab, claim(&lab, worker, &[]).await, &[], &[1]).await;
    die(&lab, claim(&lab, worker, &[1]).await, &[], &[1]).await;
    assert_eq!(lab.text(SHARDS).await, "finished 1/1 0 {}");
    assert_eq!(lab.job(job).await.state, JobState::Closing);
    // The closing is of all items and knows no suspects.
    let close = claim(&lab, worker, &[]).await;
    lab.worker.finish(&close, &all_ok(&close)).await.unwrap();
    assert_eq!(lab.job(job).await.state, JobState::FinishedWithErrors);
}

#[tokio::test]
async fn an_item_that_kills_workers_counts_against_the_limit_of_failed_items() {
    let lab = Lab::new().await;
    let limited = |plan| Plan { n_items: 8, max_failed_items: Some(0), ..plan };
    let job = lab.ready_with(limited).await;
    let worker = lab.register("w").await;
    die(&lab, claim(&lab, worker, &[]).await, &[], &[0]).await;
    die(&lab, claim(&lab, worker, &[]).await, &[], &[0]).await;
    assert_eq!(lab.job(job).await.state, JobState::Ready);
    die(&lab, claim(&lab, worker, &[0]).await, &[], &[0]).await;
    let view = lab.job(job).await;
    assert_eq!((view.state, view.n_failed), (JobState::Failed, 1));
    let why = "1 items failed, more than limits.max_failed_items = 0";
    assert_eq!(view.errors.as_deref(), Some(why));
}

#[tokio::test]
async fn a_loss_that_no_open_item_explains_spends_an_attempt() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    // Nothing in the slots; what is final; what is of another shard.
    die(&lab, claim(&lab, worker, &[]).await, &[], &[]).await;
    die(&lab, claim(&lab, worker, &[]).await, &[0], &[0]).await;
    assert_eq!(lab.text(SHARDS).await, "waiting 1/0 2 {}");
    die(&lab, claim(&lab, worker, &[]).await, &[], &[4, -1]).await;
    assert_eq!(lab.text(SHARDS).await, "dead 1/3 3 {}");
    let codes: Vec<_> = failed(&lab, job).await;
    assert!(codes.iter().all(|(_, code)| code == "attempts_exhausted"));
}

#[tokio::test]
async fn a_worker_that_runs_suspects_beside_others_spends_attempts_and_blames_nobody() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    for (alone, after) in [
        (vec![], "waiting 0/0 0 {0,1}"),
        (vec![], "waiting 0/0 0 {0,0,1,1}"),
        (vec![0, 1], "waiting 0/0 1 {0,0,0,1,1,1}"),
        (vec![0, 1], "waiting 0/0 2 {0,0,0,0,1,1,1,1}"),
    ] {
        die(&lab, claim(&lab, worker, &alone).await, &[], &[0, 1]).await;
        assert_eq!(lab.text(SHARDS).await, after);
    }
    die(&lab, claim(&lab, worker, &[0, 1]).await, &[], &[0, 1]).await;
    assert_eq!(failed(&lab, job).await.len(), 4);
    assert!(!failed(&lab, job).await.contains(&kills(0)[0]));
}

#[tokio::test]
async fn a_lease_that_is_given_back_makes_no_suspects_and_forgets_none() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    die(&lab, claim(&lab, worker, &[]).await, &[], &[1, 2]).await;
    die(&lab, claim(&lab, worker, &[]).await, &[], &[1, 2]).await;
    let flying = Report { in_flight: vec![1], ..Report::default() };
    let mut lease = claim(&lab, worker, &[1, 2]).await;
    lab.worker.progress(&mut lease, &flying).await.unwrap();
    lab.worker.release(&lease, &flying).await.unwrap();
    assert_eq!(lab.text(SHARDS).await, "waiting 0/0 0 {1,1,2,2}");
    // Cancelled while one runs alone and dies: the job ends, and what is known of the item stays known.
    let mut lease = claim(&lab, worker, &[1, 2]).await;
    lab.worker.progress(&mut lease, &flying).await.unwrap();
    assert!(lab.alice.cancel(job).await.unwrap());
    lab.advance(120).await;
    lab.tick().await;
    assert_eq!(lab.job(job).await.state, JobState::Cancelled);
    assert_eq!(failed(&lab, job).await, kills(1));
    assert_eq!(lab.text(SHARDS).await, "cancelled 0/1 0 {2,2}");
    // A retry runs both alone at once; one of them was innocent.
    assert_eq!(lab.alice.retry(job, &Only::Failed).await.unwrap(), 1);
    die(&lab, claim(&lab, worker, &[1, 2]).await, &[0, 3, 2], &[1]).await;
    assert_eq!(failed(&lab, job).await, kills(1));
    lab.run_all(worker).await;
    let view = lab.job(job).await;
    assert_eq!((view.n_ok, view.n_failed), (3, 1));
}
