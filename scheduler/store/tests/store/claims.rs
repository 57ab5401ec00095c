//! Who gets which shard, and when.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nightshift_store::{AttemptOutcome, Error, JobState, Plan, Report, ShardKind, ShardState};

use crate::lab::{LEASE, Lab, all_ok, failed, ok, plan, report};

#[tokio::test]
async fn by_priority_then_age_then_shard() {
    let lab = Lab::new().await;
    let old = lab.ready(6, 4).await;
    let young = lab.ready(4, 4).await;
    let urgent = lab.ready_with(|plan| Plan { priority: 5, n_items: 4, ..plan }).await;
    let worker = lab.register("w").await;
    let before = Instant::now();
    let leases = lab.worker.claim(worker, 64, LEASE).await.unwrap();
    let got: Vec<_> =
        leases.iter().map(|l| (l.job, l.shard, l.first_item, l.end_item, l.attempt)).collect();
    assert_eq!(
        got,
        [(urgent, 0, 0, 4, 1), (old, 0, 0, 4, 1), (old, 1, 4, 6, 1), (young, 0, 0, 4, 1)]
    );
    let tokens: HashSet<_> = leases.iter().map(|l| l.token).collect();
    assert_eq!(tokens.len(), 4, "every lease has a token of its own");
    assert!(leases.iter().all(|l| l.trusted_until >= before + LEASE * 2 / 3));
    assert!(leases.iter().all(|l| l.trusted_until <= Instant::now() + LEASE * 2 / 3));
    assert!(lab.worker.claim(worker, 64, LEASE).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_shard_that_came_back_goes_before_new_ones() {
    let lab = Lab::new().await;
    let _job = lab.ready(12, 4).await;
    let worker = lab.register("w").await;
    let first = lab.claim(worker).await;
    lab.worker.release(&first, &Report::default()).await.unwrap();
    let again = lab.claim(worker).await;
    assert_eq!((again.shard, again.attempt), (0, 2));
    assert!(again.token > first.token);
}

#[tokio::test]
async fn only_to_workers_with_the_model_and_the_pinned_engine() {
    let lab = Lab::new().await;
    let other = lab.ready_with(|plan| Plan { model_key: "big/int4/bf16".to_owned(), ..plan }).await;
    let worker = lab.register("w").await;
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    assert_eq!(
        lab.job(other).await.reason.as_deref(),
        Some("no running worker has model big/int4/bf16")
    );
    lab.alice.cancel(other).await.unwrap();

    let job = lab.ready(12, 4).await;
    assert_eq!(lab.claim(worker).await.job, job);
    assert_eq!(lab.job(job).await.fingerprint.as_deref(), Some("f00d"));
    let stranger = lab.register_with("x", "beef").await;
    assert!(lab.worker.claim(stranger, 1, LEASE).await.unwrap().is_empty(), "pinned to f00d");
    assert_eq!(lab.claim(worker).await.job, job);

    let mixed = lab.ready_with(|plan| Plan { allow_mixed: true, ..plan }).await;
    assert_eq!(lab.claim(stranger).await.job, mixed);
    lab.alice.hold(job).await.unwrap();
    assert_eq!(lab.claim(worker).await.job, mixed);
    assert_eq!(lab.job(mixed).await.fingerprint, None);
}

#[tokio::test]
async fn a_pinned_job_says_what_it_waits_for() {
    let lab = Lab::new().await;
    let job = lab.ready(12, 4).await;
    let lease = lab.claim(lab.register("w").await).await;
    lab.worker.release(&lease, &Report::default()).await.unwrap();
    assert_eq!(lab.job(job).await.reason.as_deref(), Some("waits for a free worker"));
    lab.advance(61).await;
    assert_eq!(lab.job(job).await.reason.as_deref(), Some("no worker is running"));
    lab.register_with("x", "beef").await;
    assert_eq!(
        lab.job(job).await.reason.as_deref(),
        Some("pinned to engine f00d since its first shard; no running worker has it")
    );
    let states: Vec<_> = lab.alice.workers().await.unwrap().into_iter().map(|w| w.state).collect();
    assert_eq!(states, ["live", "gone"]);
}

#[tokio::test]
async fn a_worker_that_left_is_gone_at_once_and_comes_back_as_another() {
    let lab = Lab::new().await;
    let job = lab.ready(8, 4).await;
    let live = async || lab.alice.queue().await.unwrap()[0].n_live;
    let (first, second) = (lab.register("w").await, lab.register("w").await);
    assert_eq!(live().await, 2);
    assert!(lab.worker.leave(second).await.unwrap());
    assert_eq!(live().await, 1);
    assert!(lab.worker.leave(first).await.unwrap());
    assert_eq!(
        (live().await, lab.job(job).await.reason.as_deref()),
        (0, Some("no worker is running"))
    );
    let third = lab.register("w").await;
    assert_eq!(live().await, 1);
    assert_eq!(lab.worker.claim(third, 1, LEASE).await.unwrap().len(), 1);
    let unknown = nightshift_store::WorkerId(third.0 + 1);
    assert!(!lab.worker.leave(unknown).await.unwrap());
}

#[tokio::test]
async fn nothing_for_a_draining_or_unknown_worker() {
    let lab = Lab::new().await;
    let job = lab.ready(8, 4).await;
    let worker = lab.register("w").await;
    let mut lease = lab.claim(worker).await;
    lab.admin.drain_worker(worker.0, true).await.unwrap();
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    let verdict = lab.worker.progress(&mut lease, &Report::default()).await.unwrap();
    assert_eq!(verdict, nightshift_store::Verdict::Drain);
    lab.worker.release(&lease, &Report::default()).await.unwrap();
    assert_eq!(
        lab.job(job).await.reason.as_deref(),
        Some("every worker with model nano/int4/bf16 is draining")
    );
    let unknown = nightshift_store::WorkerId(worker.0 + 1);
    assert!(matches!(lab.worker.claim(unknown, 1, LEASE).await, Err(Error::UnknownWorker)));
    // The id of another login's worker is as good as unknown.
    let other = nightshift_store::Store::connect(&nightshift_store::DatabaseConfig::new(
        lab.url(Some("lab_worker2")),
    ))
    .await
    .unwrap();
    assert!(matches!(other.claim(worker, 1, LEASE).await, Err(Error::UnknownWorker)));
}

#[tokio::test]
async fn not_from_a_tenant_that_lost_its_prefix() {
    let lab = Lab::new().await;
    let job = lab.ready(8, 4).await;
    let worker = lab.register("w").await;
    lab.admin.set_prefixes("default", &[], &["s3://elsewhere/".to_owned()]).await.unwrap();
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    let reason = lab.job(job).await.reason.unwrap();
    assert_eq!(
        reason,
        format!(
            "output.dest: tenant default may not write to s3://out/{job}/; allowed: s3://elsewhere/"
        )
    );
}

#[tokio::test]
async fn concurrent_claims_never_share_a_shard() {
    let lab = Lab::new().await;
    // Three jobs of one priority and several sizes of claims, so that claims cross several cursors.
    for _ in 0..3 {
        lab.ready(400, 4).await;
    }
    let worker = lab.register("w").await;
    let run = |n: u32| {
        let store = lab.worker.clone();
        async move {
            let mut got = Vec::new();
            loop {
                let leases = store.claim(worker, n, LEASE).await.unwrap();
                if leases.is_empty() {
                    return got;
                }
                got.extend(leases.into_iter().map(|l| (l.job, l.shard, l.token)));
            }
        }
    };
    let got: Vec<_> =
        futures::future::join_all([1, 3, 7, 16].map(run)).await.into_iter().flatten().collect();
    let shards: HashSet<_> = got.iter().map(|(job, shard, _)| (job, shard)).collect();
    let tokens: HashSet<_> = got.iter().map(|(_, _, token)| token).collect();
    assert_eq!((got.len(), shards.len(), tokens.len()), (300, 300, 300));
}

#[tokio::test]
async fn concurrent_finishes_and_claims_all_end() {
    let lab = Lab::new().await;
    let jobs = [lab.ready(60, 2).await, lab.ready(60, 2).await];
    let worker = lab.register("w").await;
    futures::future::join_all((0..4).map(|_| lab.run_all(worker))).await;
    // A racer may have seen nothing to do while the closing shard was being made.
    lab.run_all(worker).await;
    for job in jobs {
        let view = lab.job(job).await;
        assert_eq!((view.state, view.n_ok, view.n_failed), (JobState::Finished, 60, 0));
    }
    assert_eq!(lab.text("select count(*)::text from nightshift.item").await, "120");
}

#[tokio::test]
async fn an_expired_lease_is_claimed_again_after_a_pause() {
    let lab = Lab::new().await;
    // Long enough for the slowest machine: the clock of this database goes on by itself, too.
    let policy = nightshift_store::Policy {
        backoff_ms: Some(60_000),
        jitter: Some(false),
        ..nightshift_store::Policy::default()
    };
    let job = lab
        .ready_with(|plan| nightshift_store::Plan {
            n_items: 4,
            shard_items: Some(4),
            policy,
            ..plan
        })
        .await;
    let worker = lab.register("w").await;
    let mut first = lab.claim(worker).await;
    lab.worker.progress(&mut first, &report(vec![ok(0)])).await.unwrap();
    lab.advance(31).await;
    assert_eq!(lab.tick().await.expired, 1);
    assert_eq!(lab.tick().await.expired, 0);
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty(), "lost attempts back off");
    assert!(lab.job(job).await.reason.unwrap().starts_with("backs off until "));
    lab.advance(61).await;
    let second = lab.claim(worker).await;
    assert_eq!((second.shard, second.attempt), (0, 2));
    assert!(second.token > first.token + 1, "one token for the expiry, one for the claim");
    let attempts = lab.alice.attempts(job, 10).await.unwrap();
    let lost = attempts.iter().find(|a| a.attempt == 1).unwrap();
    assert_eq!(
        (lost.outcome, lost.code.as_deref()),
        (Some(AttemptOutcome::Lost), Some("lease_lost"))
    );
    // What was recorded stays.
    assert_eq!(lab.worker.finished(&second, -1, 10).await.unwrap().len(), 1);
    lab.worker.finish(&second, &report((1..4).map(ok).collect())).await.unwrap();
    assert_eq!(lab.job(job).await.n_ok, 4);
}

#[tokio::test]
async fn lost_and_failed_attempts_are_counted_apart() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    for _ in 0..2 {
        let lost = lab.claim(worker).await;
        assert_eq!(lost.shard, 0);
        lab.advance(60).await;
        assert_eq!(lab.tick().await.expired, 1);
        lab.advance(60).await;
        let broken = lab.claim(worker).await;
        lab.worker
            .fail(&broken, &Report::default(), "out_of_memory", "no memory left")
            .await
            .unwrap();
        lab.advance(60).await;
    }
    let shard = &lab.alice.open_shards(job).await.unwrap()[0];
    assert_eq!(
        (shard.n_lost_attempts, shard.n_failed_attempts, shard.state),
        (2, 2, ShardState::Waiting)
    );
    let third = lab.claim(worker).await;
    lab.worker
        .fail(
            &third,
            &report(vec![ok(0), failed(1, "bad_prompt")]),
            "out_of_memory",
            "no memory left",
        )
        .await
        .unwrap();
    let items =
        lab.alice.items(job, &nightshift_store::ItemFilter::default(), -1, 10).await.unwrap();
    let codes: Vec<_> =
        items.iter().map(|i| i.report.error_code.as_deref().unwrap_or("ok")).collect();
    assert_eq!(codes, ["ok", "bad_prompt", "out_of_memory", "out_of_memory"]);
    assert_eq!(lab.alice.open_shards(job).await.unwrap()[0].state, ShardState::Dead);
    assert_eq!(lab.claim(worker).await.kind, ShardKind::Close);
}

#[tokio::test]
async fn a_shard_lost_too_often_ends_as_attempts_exhausted() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    for _ in 0..3 {
        lab.claim(worker).await;
        lab.advance(120).await;
        lab.tick().await;
        lab.advance(120).await;
    }
    let items =
        lab.alice.items(job, &nightshift_store::ItemFilter::default(), -1, 10).await.unwrap();
    assert!(items.iter().all(|i| i.report.error_code.as_deref() == Some("attempts_exhausted")));
    assert_eq!(items.len(), 4);
    lab.run_all(worker).await;
    assert_eq!(lab.job(job).await.state, JobState::FinishedWithErrors);
}

#[tokio::test]
async fn a_released_attempt_costs_nothing() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    for _ in 0..6 {
        let lease = lab.claim(worker).await;
        lab.worker.release(&lease, &Report::default()).await.unwrap();
    }
    lab.run_all(worker).await;
    assert_eq!(lab.job(job).await.state, JobState::Finished);
}

#[tokio::test]
async fn a_lease_gives_its_job_and_inputs() {
    let lab = Lab::new().await;
    let job = lab.submitted().await;
    for (first_row, n_rows) in [(0, 1000), (1000, 1000), (2000, 500)] {
        assert!(
            lab.scheduler.add_chunk(&lab.term, job, first_row, n_rows, &[7; 16]).await.unwrap()
        );
    }
    let planned = Plan { n_rows: 2500, n_items: 2500, shard_items: Some(500), ..plan(job) };
    lab.scheduler.planned(&lab.term, job, &planned).await.unwrap();
    let lease = lab.claim(lab.register("w").await).await;
    let info = lab.worker.job_info(&lease).await.unwrap();
    assert_eq!(
        (info.name, info.tenant, info.round),
        (format!("job-{job}"), "default".to_owned(), 1)
    );
    assert_eq!((info.dest, info.n_rows, info.resolved), (planned.dest, 2500, planned.resolved));
    let rows = |from, to| {
        let (store, lease) = (lab.worker.clone(), lease.clone());
        async move {
            store
                .inputs(&lease, from, to)
                .await
                .unwrap()
                .into_iter()
                .map(|c| c.first_row)
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(rows(0, 1).await, [0]);
    assert_eq!(rows(999, 1000).await, [0]);
    assert_eq!(rows(999, 1001).await, [0, 1000]);
    assert_eq!(rows(1000, 1001).await, [1000]);
    assert_eq!(rows(0, 2500).await, [0, 1000, 2000]);
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    assert!(matches!(lab.worker.job_info(&lease).await, Err(Error::LeaseLost)));
    assert!(matches!(lab.worker.inputs(&lease, 0, 1).await, Err(Error::LeaseLost)));
    assert!(matches!(lab.worker.finished(&lease, -1, 1).await, Err(Error::LeaseLost)));
    let short = lab.worker.claim(lease.worker, 1, Duration::from_millis(1)).await;
    assert!(matches!(short, Err(Error::Refused { .. })), "a lease has a least length");
}
