//! Who is served: shares, caps, labels, memory, budgets, dependencies, windows, preemption; and reports about several leases.

use std::collections::BTreeMap;

use nightshift_store::{
    Answer, Call, JobState, NextWindow, Plan, Planned, Policy, Registration, Report, Verdict,
    WorkerId,
};

use crate::lab::{LEASE, Lab, MODEL, all_ok, ok, report};

/// Jobs of the next `n` shards, claimed one by one; each is finished at once.
async fn served(lab: &Lab, worker: WorkerId, n: usize) -> BTreeMap<i64, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..n {
        let lease = lab.claim(worker).await;
        *served.entry(lease.job).or_insert(0) += 1;
        lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    }
    served
}

#[tokio::test]
async fn tenants_of_equal_weight_take_turns_and_a_heavy_one_gets_its_multiple() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let (blue, green) = (lab.ready_of("blue", 1000).await, lab.ready_of("green", 1000).await);
    // Three jobs of one tenant are no reason to give it more.
    for _ in 0..3 {
        lab.ready_of("green", 1000).await;
    }
    let turns = served(&lab, worker, 20).await;
    assert_eq!((turns[&blue], turns.values().sum::<usize>()), (10, 20));
    lab.sql("update nightshift.share set weight = 3 where tenant_id = (select id from nightshift.tenant where name = 'blue');
        update nightshift.share set usage = 0")
        .await;
    let turns = served(&lab, worker, 40).await;
    assert_eq!((turns[&blue], turns[&green]), (30, 10));
}

#[tokio::test]
async fn an_entry_is_charged_at_claim_and_settled_at_the_end() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    lab.ready(4, 2).await;
    let usage =
        "select round((usage / nightshift.charge_factor(nightshift.clock()))::numeric, 2)::text
        from nightshift.share join nightshift.tenant on id = tenant_id where name = 'default'";
    let lease = lab.claim(worker).await;
    assert_eq!(lab.text(usage).await, "20.00", "two items of ten seconds");
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    // 12 ms an item were used. The next claim charges as much for each of its two items.
    assert_eq!(lab.text(usage).await, "0.02");
    lab.claim(worker).await;
    assert_eq!(lab.text(usage).await, "0.05");
}

#[tokio::test]
async fn a_higher_priority_goes_first_whoever_waits() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    lab.ready_of("blue", 5).await;
    let urgent = lab.ready_with(|p| Plan { priority: 9, ..p }).await;
    assert_eq!(served(&lab, worker, 3).await[&urgent], 3);
}

#[tokio::test]
async fn caps_and_quotas_of_a_tenant_hold() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    lab.ready_of("blue", 100).await;
    lab.sql("update nightshift.share set max_leased = 3").await;
    let leases = lab.worker.claim(worker, 10, LEASE).await.unwrap();
    assert_eq!(leases.len(), 3);
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    lab.worker.finish(&leases[0], &all_ok(&leases[0])).await.unwrap();
    assert_eq!(lab.worker.claim(worker, 10, LEASE).await.unwrap().len(), 1);
    lab.sql("update nightshift.share set max_leased = null, max_gpu_ms = 1").await;
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
}

#[tokio::test]
async fn labels_and_memory_must_fit() {
    let lab = Lab::new().await;
    let plain = lab.register("plain").await;
    let policy = Policy {
        worker_labels: vec!["pool=night".to_owned()],
        min_memory_bytes: 40 << 30,
        ..Policy::default()
    };
    let job = lab.ready_with(|plan| Plan { policy, ..plan }).await;
    assert!(lab.worker.claim(plain, 1, LEASE).await.unwrap().is_empty());
    let register = async |memory: i64| {
        let registration = Registration {
            name: "labelled".to_owned(),
            models: [(MODEL.to_owned(), "f00d".to_owned())].into(),
            info: serde_json::json!({"labels": {"pool": "night", "rack": "7"}, "memory_bytes": memory}),
        };
        lab.worker.register(&registration).await.unwrap()
    };
    let small = register(24 << 30).await;
    assert!(lab.worker.claim(small, 1, LEASE).await.unwrap().is_empty());
    let large = register(80 << 30).await;
    assert_eq!(lab.claim(large).await.job, job);
}

#[tokio::test]
async fn a_worker_of_two_models_goes_on_with_the_loaded_one() {
    let lab = Lab::new().await;
    let registration = Registration {
        name: "two".to_owned(),
        models: [
            (MODEL.to_owned(), "f00d".to_owned()),
            ("other/int4/bf16".to_owned(), "beef".to_owned()),
        ]
        .into(),
        info: serde_json::json!({}),
    };
    let worker = lab.worker.register(&registration).await.unwrap();
    let one = |plan: Plan| Plan { n_items: 4, shard_items: Some(1), ..plan };
    let first = lab.ready_with(one).await;
    let other = |plan| Plan { model_key: "other/int4/bf16".to_owned(), ..one(plan) };
    let second = lab.ready_with(other).await;
    let third = lab.ready_with(one).await;
    let mut order = Vec::new();
    for _ in 0..12 {
        let lease = lab.claim(worker).await;
        if order.last() != Some(&lease.job) {
            order.push(lease.job);
        }
    }
    assert_eq!(order, [first, third, second]);
}

#[tokio::test]
async fn a_budget_stops_a_job() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let policy = Policy { max_gpu_ms: Some(20), ..Policy::default() };
    let job = lab.ready_with(|plan| Plan { policy, ..plan }).await;
    let mut lease = lab.claim(worker).await;
    let one = lab.worker.progress(&mut lease, &report(vec![ok(0)])).await;
    assert_eq!(one.unwrap(), Verdict::Continue);
    let two = lab.worker.progress(&mut lease, &report(vec![ok(1)])).await;
    assert_eq!(two.unwrap(), Verdict::Cancelled, "24 of 20 ms");
    lab.worker.release(&lease, &Report::default()).await.unwrap();
    let ended = lab.job(job).await;
    assert_eq!(ended.state, JobState::Failed);
    assert!(ended.errors.unwrap().contains("limits.max_gpu_hours"));
}

#[tokio::test]
async fn a_job_waits_for_the_jobs_before_it() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let first = lab.ready(1, 1).await;
    let after = |after| Policy { after: vec![after], ..Policy::default() };
    let second = lab.ready_with(|plan| Plan { policy: after(first), ..plan }).await;
    assert_eq!(served(&lab, worker, 2).await[&first], 2, "with its closing");
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    lab.tick().await;
    assert_eq!(lab.claim(worker).await.job, second);
    // One that will never finish takes along what waits for it.
    let third = lab.ready_with(|plan| Plan { policy: after(second), ..plan }).await;
    lab.alice.cancel(second).await.unwrap();
    lab.sql("update nightshift.job set state = 'cancelled', finished_at = nightshift.clock() where state = 'cancelling'")
        .await;
    lab.tick().await;
    assert_eq!(lab.job(third).await.state, JobState::Failed);
}

#[tokio::test]
async fn nothing_starts_outside_its_window_and_what_runs_is_drained() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let now = lab
        .text("select floor(extract(epoch from nightshift.clock()) * 1000)::text")
        .await
        .parse::<i64>()
        .unwrap();
    let policy = Policy {
        opens_at_unix_ms: Some(now + 3_600_000),
        closes_at_unix_ms: Some(now + 7_200_000),
        ..Policy::default()
    };
    lab.ready_with(|plan| Plan { policy, ..plan }).await;
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    lab.advance(3601).await;
    let mut lease = lab.claim(worker).await;
    lab.sql("update nightshift.shard set leased_until = leased_until + interval '2 hours'").await;
    lab.advance(3600).await;
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    let told = lab.worker.progress(&mut lease, &Report::default()).await;
    assert_eq!(told.unwrap(), Verdict::Drain);
}

/// A policy without chance.
fn certain() -> Policy {
    Policy { jitter: Some(false), ..Policy::default() }
}

#[tokio::test]
async fn nothing_starts_before_it_may_or_while_it_is_held() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let now = "select floor(extract(epoch from nightshift.clock()) * 1000)::text";
    let now: i64 = lab.text(now).await.parse().unwrap();
    let policy = Policy { not_before_unix_ms: Some(now + 3_600_000), hold: true, ..certain() };
    let job = lab.ready_with(|plan| Plan { policy, ..plan }).await;
    assert!(lab.job(job).await.held);
    lab.alice.unhold(job).await.unwrap();
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    lab.advance(3601).await;
    assert_eq!(lab.claim(worker).await.job, job);
}

#[tokio::test]
async fn a_window_is_closed_until_the_scheduler_computes_it() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let policy = Policy {
        time_window: Some(serde_json::json!({"window": "22:00-06:00 UTC", "when_closes": "pause"})),
        ..certain()
    };
    let job = lab.ready_with(|plan| Plan { policy, ..plan }).await;
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    let due = lab.scheduler.windows_due(&lab.term).await.unwrap();
    assert_eq!((due.len(), due[0].job, due[0].busy), (1, job, false));
    let open = async |minutes: i64| {
        let window = NextWindow {
            job,
            opens_unix_ms: Some(due[0].now_unix_ms - 1_000),
            closes_unix_ms: Some(due[0].now_unix_ms + minutes * 60_000),
        };
        let stored = lab.scheduler.open_windows(&lab.term, &[window]).await;
        stored.unwrap();
    };
    open(30).await;
    let due_now = lab.scheduler.windows_due(&lab.term).await.unwrap();
    assert!(due_now.is_empty());
    // A second opinion about a window that has not passed changes nothing.
    open(90).await;
    let lease = lab.claim(worker).await;
    lab.sql("update nightshift.shard set leased_until = leased_until + interval '2 hours'").await;
    lab.advance(1_801).await;
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    let due_now = lab.scheduler.windows_due(&lab.term).await.unwrap();
    assert_eq!((due_now.len(), due_now[0].busy), (1, true));
    lab.worker.release(&lease, &Report::default()).await.unwrap();
    let due_now = lab.scheduler.windows_due(&lab.term).await.unwrap();
    assert!(!due_now[0].busy);
}

#[tokio::test]
async fn only_the_named_failures_are_tried_again() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let policy = Policy {
        retry_classes: Some(vec!["worker_lost".to_owned(), "storage".to_owned()]),
        backoff_ms: Some(0),
        ..certain()
    };
    let job = lab.ready_with(|plan| Plan { policy, n_items: 8, ..plan }).await;
    let states =
        "select string_agg(state || ':' || n_failed, ' ' order by shard_no) from nightshift.shard";
    let [storage, oom] = [lab.claim(worker).await, lab.claim(worker).await];
    let fail = async |lease, code| {
        lab.worker.fail(lease, &Report::default(), code, "it did not work").await.unwrap();
    };
    fail(&storage, "storage").await;
    assert_eq!(lab.text(states).await, "waiting:0 leased:0");
    lab.worker.fail(&oom, &report(vec![ok(4)]), "oom", "no room").await.unwrap();
    assert_eq!(lab.text(states).await, "waiting:0 dead:3");
    assert_eq!(
        lab.text("select string_agg(distinct error_code, ' ') from nightshift.item").await,
        "oom"
    );
    // A lost lease is of a class that is tried again.
    let again = lab.claim(worker).await;
    assert_eq!(again.shard, storage.shard);
    lab.advance(31).await;
    lab.tick().await;
    assert_eq!(lab.text(states).await, "waiting:0 dead:3");
    lab.run_all(worker).await;
    let view = lab.job(job).await;
    assert_eq!(view.state, JobState::FinishedWithErrors);
    assert_eq!((view.n_ok, view.n_failed), (5, 3));
}

#[tokio::test]
async fn a_job_waits_only_for_earlier_jobs_of_its_tenant() {
    let lab = Lab::new().await;
    let other = lab.ready_of("blue", 1).await;
    let job = lab.submitted().await;
    for wrong in [other, job, job + 1, 1_000_000] {
        let policy = Policy { after: vec![wrong], ..certain() };
        let plan = Plan { policy, ..crate::lab::plan(job) };
        match lab.scheduler.planned(&lab.term, job, &plan).await.unwrap() {
            Planned::Refused(refusal) => assert_eq!(refusal.place, "schedule.after"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_job_that_nobody_began_gets_a_shard_of_less_urgent_work() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    lab.ready(10, 1).await;
    let mut leases = lab.worker.claim(worker, 2, LEASE).await.unwrap();
    let urgent = lab.ready_with(|p| Plan { priority: 9, ..p }).await;
    lab.advance(3).await;
    lab.tick().await;
    lab.tick().await;
    let mut told = Vec::new();
    for lease in &mut leases {
        let verdict = lab.worker.progress(lease, &Report::default()).await;
        told.push(verdict.unwrap());
    }
    assert_eq!(told, [Verdict::Continue, Verdict::Drain], "one is enough");
    lab.worker.release(&leases[1], &Report::default()).await.unwrap();
    assert_eq!(lab.claim(worker).await.job, urgent);
    assert_eq!(
        lab.text("select max(n_failed_attempts + n_lost_attempts)::text from nightshift.shard")
            .await,
        "0"
    );
}

#[tokio::test]
async fn one_report_speaks_for_many_leases_and_each_is_fenced() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    lab.ready(4, 1).await;
    let mut leases = lab.worker.claim(worker, 4, LEASE).await.unwrap();
    let reports: Vec<Report> = leases.iter().map(all_ok).collect();
    leases[1].token += 1_000_000;
    let what = [
        Call::Finish,
        Call::Finish,
        Call::Release,
        Call::Fail { code: "oom".to_owned(), message: "no room".to_owned() },
    ];
    let given = [reports[0].clone(), reports[1].clone(), Report::default(), Report::default()];
    // In another order than that of the shards: answers come in the order of the calls.
    let mut calls: Vec<_> = what
        .into_iter()
        .zip(leases.iter_mut())
        .zip(given)
        .map(|((call, lease), report)| (call, lease, report))
        .rev()
        .collect();
    let answers = lab.worker.report(worker, &mut calls).await.unwrap();
    let lost = Answer::Verdict(Verdict::Stop);
    assert_eq!(answers, [Answer::Done, Answer::Done, lost, Answer::Done]);
    let states = lab
        .text("select string_agg(state::text, ' ' order by shard_no) from nightshift.shard")
        .await;
    assert_eq!(states, "finished leased waiting waiting");
    assert_eq!(
        lab.text("select count(*)::text from nightshift.item").await,
        "1",
        "nothing was stored for the lost lease"
    );
}
