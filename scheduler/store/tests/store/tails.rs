//! The rest of a long shard, shared with workers that have nothing to do.

use nightshift_store::{AttemptOutcome, JobState, Lease, Plan, Report, ShardKind, Verdict};
use serde_json::json;

use crate::lab::{LEASE, Lab, all_ok, ok, report};
use crate::sizes::{job, len, tell, worker};

/// A worker holds all of a job but its first item, 60 items of a second; its first 10 are final.
async fn one_holds_all(lab: &Lab) -> Lease {
    let job = job(lab, 61).await;
    let only = worker(lab, 1).await;
    let mut first = lab.claim(only).await;
    tell(lab, &mut first, 1_000.0, &[]).await;
    lab.worker.finish(&first, &all_ok(&first)).await.unwrap();
    let mut long = lab.claim(only).await;
    assert_eq!((long.job, long.first_item, long.end_item), (job, 1, 61));
    let begun = Report { in_flight: vec![11], ..report((1..11).map(ok).collect()) };
    let verdict = lab.worker.progress(&mut long, &begun).await.unwrap();
    assert_eq!(verdict, Verdict::Continue);
    long
}

/// Leases whose holder is asked to give them back.
async fn asked_for(lab: &Lab) -> String {
    lab.tick().await;
    lab.text("select count(*)::text from nightshift.shard where preempt").await
}

#[tokio::test]
async fn an_idle_worker_gets_a_part_of_a_long_lease() {
    let lab = Lab::new().await;
    let mut long = one_holds_all(&lab).await;
    assert_eq!(asked_for(&lab).await, "0");
    let idle = worker(&lab, 1).await;
    assert!(lab.worker.claim(idle, 1, LEASE).await.unwrap().is_empty());
    assert_eq!(asked_for(&lab).await, "1");
    assert_eq!(asked_for(&lab).await, "1");
    let verdict = lab.worker.progress(&mut long, &Report::default()).await;
    assert_eq!(verdict.unwrap(), Verdict::Drain);
    let charged = "select sum(charged_ms)::text from nightshift.shard where kind = 'items'";
    let charge = lab.text(charged).await;
    lab.worker.release(&long, &report(vec![ok(11)])).await.unwrap();

    // Of the 49 items that nobody began, each gets half of its share of the rest.
    let mut ends = Vec::new();
    let mut parts = Vec::new();
    for n in 0..4 {
        let part = lab.claim(if n % 2 == 0 { idle } else { long.worker }).await;
        ends.push(part.end_item);
        parts.push(part);
    }
    assert_eq!(ends, [12 + 13, 25 + 9, 34 + 7, 41 + 5]);
    assert_eq!(parts[0].first_item, 1, "what was final stays where it was");
    assert_eq!(lab.text(charged).await, charge);
    for part in &parts {
        lab.worker.finish(part, &all_ok(part)).await.unwrap();
    }
    lab.run_all(idle).await;
    let view = lab.job(long.job).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 61));
    let gaps = "select count(*)::text from (select first_item - lag(end_item, 1, 0::bigint) over (order by first_item) as gap
        from nightshift.shard where kind = 'items') s where gap <> 0";
    assert_eq!(lab.text(gaps).await, "0", "shards that do not follow each other");
    let outcomes = lab.alice.attempts(long.job, 100).await.unwrap();
    let others = outcomes.iter().filter(|a| a.outcome != Some(AttemptOutcome::Finished));
    assert_eq!(others.count(), 1, "the one that was given back");
}

#[tokio::test]
async fn a_lease_is_asked_for_only_when_that_helps() {
    let lab = Lab::new().await;
    let mut long = one_holds_all(&lab).await;
    worker(&lab, 1).await;
    for (what, before, after) in [
        (
            "of a given size",
            "update nightshift.job_cursor set shard_items = 60",
            "update nightshift.job_cursor set shard_items = 0",
        ),
        (
            "still to be carved",
            "update nightshift.job_cursor set n_items = 62",
            "update nightshift.job_cursor set n_items = 61",
        ),
        (
            "of a held job",
            "update nightshift.job set held = true",
            "update nightshift.job set held = false",
        ),
        (
            "outside the window",
            "update nightshift.job_cursor set closes_at = nightshift.clock()",
            "update nightshift.job_cursor set closes_at = 'infinity'",
        ),
        (
            "of a tenant with its cap reached",
            "update nightshift.share set max_leased = 1",
            "update nightshift.share set max_leased = null",
        ),
        (
            "while the idle worker drains",
            "update nightshift.worker set drain = health = '{}'",
            "update nightshift.worker set drain = false",
        ),
        (
            "while the idle worker has another model",
            "update nightshift.worker set models = '{\"big\": \"f00d\"}' where health = '{}'",
            "update nightshift.worker set models = '{\"nano/int4/bf16\": \"f00d\"}'",
        ),
        (
            "while the idle worker is busy elsewhere",
            "update nightshift.worker set health = '{\"items\": [\"4711/3\"]}' where health = '{}'",
            "update nightshift.worker set health = '{}' where health ? 'items' and not health ? 'item_ms'",
        ),
        (
            "that would take less than 20 s",
            "update nightshift.worker set health = jsonb_set(health, '{item_ms}', '{\"1\": 408}') where health ? 'item_ms'",
            "update nightshift.worker set health = jsonb_set(health, '{item_ms}', '{\"1\": 409}') where health ? 'item_ms'",
        ),
        (
            "shorter than four times the slots",
            "update nightshift.worker set info = '{\"slots\": 13}' where health ? 'item_ms'",
            "update nightshift.worker set info = '{\"slots\": 12}' where health ? 'item_ms'",
        ),
    ] {
        let job = long.job.to_string();
        lab.sql(&before.replace("\"1\"", &format!("\"{job}\""))).await;
        assert_eq!(asked_for(&lab).await, "0", "a lease {what} was asked for");
        lab.sql(&after.replace("\"1\"", &format!("\"{job}\""))).await;
    }
    lab.advance(11).await;
    assert_eq!(asked_for(&lab).await, "0", "for a worker that is gone");
    let health = Some(json!({"items": [], "item_ms": {long.job.to_string(): 409}}));
    let alive = Report { health, in_flight: vec![11], ..Report::default() };
    assert_eq!(lab.worker.progress(&mut long, &alive).await.unwrap(), Verdict::Continue);
    worker(&lab, 1).await;
    assert_eq!(asked_for(&lab).await, "1");
}

#[tokio::test]
async fn a_shard_that_was_lost_stays_whole() {
    let lab = Lab::new().await;
    let long = one_holds_all(&lab).await;
    lab.advance(31).await;
    assert_eq!(lab.tick().await.expired, 1);
    lab.advance(61).await;
    let (one, other) = (worker(&lab, 1).await, worker(&lab, 1).await);
    let again = lab.claim(one).await;
    assert_eq!((again.first_item, again.end_item), (1, 61));
    assert!(lab.worker.claim(other, 1, LEASE).await.unwrap().is_empty());
    assert_eq!(again.job, long.job);
}

#[tokio::test]
async fn what_a_fast_worker_gave_back_is_cut_for_a_slow_one() {
    let lab = Lab::new().await;
    let job = lab.ready_with(|plan| Plan { n_items: 6_001, shard_items: None, ..plan }).await;
    let fast = worker(&lab, 1).await;
    let mut first = lab.claim(fast).await;
    tell(&lab, &mut first, 10.0, &[]).await;
    lab.worker.finish(&first, &all_ok(&first)).await.unwrap();
    let mut long = lab.claim(fast).await;
    assert_eq!(len(&long), 6_000);
    lab.admin.drain_worker(fast.0, true).await.unwrap();
    let verdict = lab.worker.progress(&mut long, &Report::default()).await;
    assert_eq!(verdict.unwrap(), Verdict::Drain);
    lab.worker.release(&long, &Report::default()).await.unwrap();
    let slow = worker(&lab, 1).await;
    let mut unknown = lab.claim(slow).await;
    assert_eq!(len(&unknown), 64);
    tell(&lab, &mut unknown, 1_000.0, &[]).await;
    let leases = [lab.claim(slow).await, lab.claim(slow).await];
    assert_eq!(leases.each_ref().map(len), [60, 60]);
    assert!(leases.iter().all(|lease| (lease.job, lease.kind) == (job, ShardKind::Items)));
}
