//! Every waiting job says why, in words: one test for each family of causes.

use nightshift_store::{NextWindow, Plan, Policy, Registration, Report, WorkerId};

use crate::lab::{LEASE, Lab, MODEL};

async fn why(lab: &Lab, job: i64) -> String {
    lab.job(job).await.reason.unwrap_or_default()
}

async fn with(lab: &Lab, policy: Policy) -> i64 {
    let policy = Policy { jitter: Some(false), ..policy };
    lab.ready_with(|plan| Plan { policy, ..plan }).await
}

async fn register(lab: &Lab, info: serde_json::Value) -> WorkerId {
    let registration = Registration {
        name: "w".to_owned(),
        models: [(MODEL.to_owned(), "f00d".to_owned())].into(),
        info,
    };
    lab.worker.register(&registration).await.unwrap()
}

#[tokio::test]
async fn the_time_is_not_right() {
    let lab = Lab::new().await;
    lab.register("w").await;
    // 2100-01-01T01:00Z
    let later = 4_102_448_400_000;
    let not_before = Policy { not_before_unix_ms: Some(later), ..Policy::default() };
    let job = with(&lab, not_before).await;
    assert_eq!(why(&lab, job).await, "starts not before 2100-01-01 01:00 UTC");
    let window = Policy {
        time_window: Some(
            serde_json::json!({"window": "22:00-06:00 Europe/Berlin", "when_closes": "pause"}),
        ),
        ..Policy::default()
    };
    let job = with(&lab, window.clone()).await;
    assert_eq!(
        why(&lab, job).await,
        "window 22:00-06:00 Europe/Berlin: the next opening is not computed yet"
    );
    let opens = |opens: i64| NextWindow {
        job,
        opens_unix_ms: Some(opens),
        closes_unix_ms: Some(opens + 3_600_000),
    };
    let stored = lab.scheduler.open_windows(&lab.term, &[opens(later)]).await;
    stored.unwrap();
    assert_eq!(
        why(&lab, job).await,
        "window 22:00-06:00 Europe/Berlin is closed until 2100-01-01 02:00 Europe/Berlin"
    );
    lab.sql("update nightshift.job set opens_at = '-infinity', closes_at = '-infinity' where time_window is not null")
        .await;
    assert_eq!(
        why(&lab, job).await,
        "window 22:00-06:00 Europe/Berlin closes at 2100-01-01 03:00 Europe/Berlin, before an item would be done"
    );
    let job = with(&lab, window).await;
    let never = NextWindow { job, opens_unix_ms: None, closes_unix_ms: None };
    let stored = lab.scheduler.open_windows(&lab.term, &[never]).await;
    stored.unwrap();
    assert_eq!(
        why(&lab, job).await,
        "window 22:00-06:00 Europe/Berlin does not open within a year"
    );
}

#[tokio::test]
async fn nobody_plans() {
    let lab = Lab::new().await;
    let job = lab.submitted().await;
    assert_eq!(why(&lab, job).await, "waits to be planned");
    lab.sql("update nightshift.leader set leads_until = '-infinity'").await;
    assert_eq!(why(&lab, job).await, "waits to be planned; no scheduler is running");
}

#[tokio::test]
async fn other_jobs_and_its_tenant_hold_it_back() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let first = lab.ready(2, 1).await;
    let policy = Policy { after: vec![first], ..Policy::default() };
    let behind = with(&lab, policy).await;
    assert_eq!(
        why(&lab, behind).await,
        format!("waits for job {first} (job-{first}), which is ready")
    );
    let urgent = lab.ready_with(|p| Plan { priority: 9, ..p }).await;
    assert_eq!(
        why(&lab, first).await,
        format!("waits for a free worker; job {urgent} of priority 9 goes before this one of 0")
    );
    lab.alice.cancel(urgent).await.unwrap();
    let second = lab.ready(2, 1).await;
    assert_eq!(
        why(&lab, second).await,
        format!("waits for a free worker; job {first} was there earlier")
    );
    // Of another tenant only that there is something.
    let foreign = lab.ready_of("blue", 1).await;
    lab.sql(&format!("update nightshift.job set priority = 7 where id = {foreign}")).await;
    assert_eq!(
        why(&lab, first).await,
        "waits for a free worker; a job of another tenant of priority 7 goes before this one of 0"
    );
    lab.sql(&format!(
        "update nightshift.job set priority = 0 where id = {foreign};
        update nightshift.share set usage = 1000 where tenant_id = (select id from nightshift.tenant where name = 'default')"
    ))
    .await;
    assert_eq!(
        why(&lab, first).await,
        "waits for a free worker; other tenants have had less of their share"
    );
    lab.sql("update nightshift.share set max_leased = 1").await;
    let leases = lab.worker.claim(worker, 2, LEASE).await.unwrap();
    assert_eq!(leases.len(), 2, "one of each tenant");
    assert_eq!(why(&lab, second).await, "tenant default has 1 shards leased, as many as it may");
    lab.sql("update nightshift.share set max_leased = null, max_gpu_ms = 7200000, month_gpu_ms = 7560000, month = '2100-01-01';
        create or replace function nightshift.clock() returns timestamptz language sql stable as $$ select timestamptz '2100-01-31 12:00Z' $$")
        .await;
    assert_eq!(
        why(&lab, second).await,
        "tenant default has used 2.1 of its 2 engine hours of this month; it goes on at 2100-02-01 00:00 UTC"
    );
}

#[tokio::test]
async fn no_worker_fits() {
    let lab = Lab::new().await;
    let policy = Policy {
        worker_labels: vec!["pool=night".to_owned()],
        min_memory_bytes: 40 << 30,
        ..Policy::default()
    };
    let job = with(&lab, policy).await;
    assert_eq!(why(&lab, job).await, "no worker is running");
    register(&lab, serde_json::json!({"labels": {"pool": "day"}})).await;
    let of_another_model = |plan| Plan { model_key: "other/int4/bf16".to_owned(), ..plan };
    let other = lab.ready_with(of_another_model).await;
    assert_eq!(why(&lab, other).await, "no running worker has model other/int4/bf16");
    assert_eq!(
        why(&lab, job).await,
        format!("no running worker with model {MODEL} has the labels pool=night")
    );
    let labels = serde_json::json!({"pool": "night"});
    register(&lab, serde_json::json!({"labels": labels})).await;
    assert_eq!(
        why(&lab, job).await,
        "needs 40 GB of memory; the largest worker that fits otherwise has not said how much it has"
    );
    let small = serde_json::json!({"labels": labels, "memory_bytes": 24_u64 << 30});
    register(&lab, small).await;
    assert_eq!(
        why(&lab, job).await,
        "needs 40 GB of memory; the largest worker that fits otherwise has 24 GB"
    );
    let large = serde_json::json!({"labels": labels, "memory_bytes": 80_u64 << 30});
    let large = register(&lab, large).await;
    assert_eq!(why(&lab, job).await, "waits for a free worker");
    lab.sql(&format!("update nightshift.worker set drain = true where id = {}", large.0)).await;
    assert_eq!(why(&lab, job).await, format!("every worker with model {MODEL} is draining"));
}

#[tokio::test]
async fn it_backs_off_or_is_pinned_to_an_engine() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let policy = Policy { backoff_ms: Some(30_000), ..Policy::default() };
    let policy = Policy { jitter: Some(false), ..policy };
    let one = |plan: Plan| Plan { n_items: 1, policy, ..plan };
    let job = lab.ready_with(one).await;
    let lease = lab.claim(worker).await;
    lab.worker.fail(&lease, &Report::default(), "oom", "no room").await.unwrap();
    assert!(why(&lab, job).await.starts_with("backs off until "));
    lab.advance(31).await;
    assert_eq!(why(&lab, job).await, "waits for a free worker");
    lab.advance(61).await;
    lab.register_with("other", "beef").await;
    assert_eq!(
        why(&lab, job).await,
        "pinned to engine f00d since its first shard; no running worker has it"
    );
}
