//! Who may write what: every write of a lease that is not live is refused, and every call may be repeated.

use nightshift_store::{
    DatabaseConfig, Error, Lease, Report, ShardState, Store, Verdict, WorkerId,
};

use crate::lab::{LEASE, Lab, all_ok, failed, ok, report};

/// None of the four writes moves anything.
async fn refused(lab: &Lab, store: &Store, lease: &Lease, why: &str) {
    let before = lab.text("select md5(string_agg(s::text, ',' order by s.job_id, s.shard_no)) from nightshift.shard s").await;
    let items = lab.text("select count(*)::text from nightshift.item").await;
    let attempts = lab
        .text("select md5(string_agg(a::text, ',' order by a::text)) from nightshift.attempt a")
        .await;
    let everything = report(vec![ok(lease.first_item)]);
    let trusted = lease.trusted_until;
    let mut lease = lease.clone();
    assert_eq!(
        store.progress(&mut lease, &everything).await.unwrap(),
        Verdict::Stop,
        "progress: {why}"
    );
    assert_eq!(lease.trusted_until, trusted, "a refused call renews no trust");
    assert!(
        matches!(store.finish(&lease, &all_ok(&lease)).await, Err(Error::LeaseLost)),
        "finish: {why}"
    );
    assert!(
        matches!(store.release(&lease, &everything).await, Err(Error::LeaseLost)),
        "release: {why}"
    );
    assert!(
        matches!(store.fail(&lease, &everything, "x", "y").await, Err(Error::LeaseLost)),
        "fail: {why}"
    );
    assert_eq!(before, lab.text("select md5(string_agg(s::text, ',' order by s.job_id, s.shard_no)) from nightshift.shard s").await, "{why}");
    assert_eq!(items, lab.text("select count(*)::text from nightshift.item").await, "{why}");
    assert_eq!(
        attempts,
        lab.text("select md5(string_agg(a::text, ',' order by a::text)) from nightshift.attempt a")
            .await,
        "{why}"
    );
}

#[tokio::test]
async fn a_stale_token_a_wrong_worker_and_a_wrong_login() {
    let lab = Lab::new().await;
    let _job = lab.ready(8, 4).await;
    let worker = lab.register("w").await;
    let lease = lab.claim(worker).await;
    let stale = Lease { token: lease.token - 1, ..lease.clone() };
    refused(&lab, &lab.worker, &stale, "stale token").await;
    let other = Lease { worker: lab.register("x").await, ..lease.clone() };
    refused(&lab, &lab.worker, &other, "another worker of the same login").await;
    let unknown = Lease { worker: WorkerId(999), ..lease.clone() };
    refused(&lab, &lab.worker, &unknown, "no such worker").await;
    let shard = Lease { shard: 1, ..lease.clone() };
    refused(&lab, &lab.worker, &shard, "another shard").await;
    let stranger =
        Store::connect(&DatabaseConfig::new(lab.url(Some("lab_worker2")))).await.unwrap();
    refused(&lab, &stranger, &lease, "another login").await;
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
}

#[tokio::test]
async fn after_expiry_before_and_after_the_tick() {
    let lab = Lab::new().await;
    let _job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    let zombie = lab.claim(worker).await;
    lab.advance(30).await;
    refused(&lab, &lab.worker, &zombie, "expired, not yet collected").await;
    lab.tick().await;
    refused(&lab, &lab.worker, &zombie, "expired").await;
    lab.advance(10).await;
    let heir = lab.claim(worker).await;
    refused(&lab, &lab.worker, &zombie, "claimed again by the same worker").await;
    lab.worker.finish(&heir, &all_ok(&heir)).await.unwrap();
    refused(&lab, &lab.worker, &zombie, "finished by another attempt").await;
}

#[tokio::test]
async fn after_a_release_that_was_claimed_by_another() {
    let lab = Lab::new().await;
    let _job = lab.ready(4, 4).await;
    let lease = lab.claim(lab.register("w").await).await;
    lab.worker.release(&lease, &Report::default()).await.unwrap();
    let other = lab.claim(lab.register("x").await).await;
    refused(&lab, &lab.worker, &lease, "claimed by another worker").await;
    lab.worker.finish(&other, &all_ok(&other)).await.unwrap();
}

#[tokio::test]
async fn after_cancel() {
    let lab = Lab::new().await;
    let job = lab.ready(8, 4).await;
    let worker = lab.register("w").await;
    let mut first = lab.claim(worker).await;
    let second = lab.claim(worker).await;
    lab.alice.cancel(job).await.unwrap();
    // Told, and what was done is still recorded.
    assert_eq!(
        lab.worker.progress(&mut first, &report(vec![ok(0)])).await.unwrap(),
        Verdict::Cancelled
    );
    lab.worker.release(&first, &report(vec![ok(1)])).await.unwrap();
    lab.worker.release(&second, &Report::default()).await.unwrap();
    assert_eq!(lab.job(job).await.n_ok, 2);
    for lease in [first, second] {
        let mut lease = lease;
        assert_eq!(
            lab.worker.progress(&mut lease, &report(vec![ok(2)])).await.unwrap(),
            Verdict::Stop
        );
        assert!(matches!(lab.worker.finish(&lease, &all_ok(&lease)).await, Err(Error::LeaseLost)));
    }
    assert_eq!(lab.text("select count(*)::text from nightshift.item").await, "2");
}

#[tokio::test]
async fn a_repeated_report_is_stored_once() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    let mut lease = lab.claim(worker).await;
    let said = Report {
        log: Some("12:00:01 started".to_owned()),
        ..report(vec![ok(0), failed(1, "bad")])
    };
    for _ in 0..2 {
        assert_eq!(lab.worker.progress(&mut lease, &said).await.unwrap(), Verdict::Continue);
    }
    // The first answer stands: an item is never rewritten.
    lab.worker.progress(&mut lease, &report(vec![failed(0, "late")])).await.unwrap();
    let view = lab.job(job).await;
    assert_eq!((view.n_ok, view.n_failed), (1, 1));
    assert_eq!(lab.alice.logs(job, None, 0).await.unwrap().len(), 1);
    assert_eq!(lab.alice.logs(job, Some(3), 0).await.unwrap()[0].text, "12:00:01 started");
    let rest = report(vec![ok(1), ok(2), ok(3)]);
    for _ in 0..2 {
        lab.worker.finish(&lease, &rest).await.unwrap();
    }
    let view = lab.job(job).await;
    assert_eq!((view.n_ok, view.n_failed), (3, 1));
}

#[tokio::test]
async fn repeated_release_and_fail_are_true_and_count_once() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    let lease = lab.claim(worker).await;
    for _ in 0..2 {
        lab.worker.release(&lease, &Report::default()).await.unwrap();
    }
    let lease = lab.claim(worker).await;
    for _ in 0..2 {
        lab.worker
            .fail(&lease, &Report::default(), "out_of_memory", "no memory left")
            .await
            .unwrap();
    }
    let shard = &lab.alice.open_shards(job).await.unwrap()[0];
    assert_eq!((shard.n_failed_attempts, shard.attempt, shard.state), (1, 2, ShardState::Waiting));
}

#[tokio::test]
async fn items_outside_of_the_shard_and_missing_items_are_refused() {
    let lab = Lab::new().await;
    let job = lab.ready(8, 4).await;
    let worker = lab.register("w").await;
    let mut lease = lab.claim(worker).await;
    for index in [-1, 4] {
        let error = lab.worker.progress(&mut lease, &report(vec![ok(index)])).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("1 of 1 reported items lie outside of shard 0 of job {job}")
        );
    }
    let error = lab.worker.finish(&lease, &report(vec![ok(0), ok(1), ok(2)])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("shard 0 of job {job} has 3 of 4 items"));
    // A refused call leaves nothing behind, and the lease is still good.
    assert_eq!(lab.job(job).await.n_ok, 0);
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
}

#[tokio::test]
async fn progress_renews_the_lease() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let mut lease = lab.claim(lab.register("w").await).await;
    let first = lease.trusted_until;
    for _ in 0..4 {
        lab.advance(20).await;
        let health = Report {
            health: Some(serde_json::json!({"slots": 2})),
            in_flight: vec![2, 3],
            ..Report::default()
        };
        assert_eq!(lab.worker.progress(&mut lease, &health).await.unwrap(), Verdict::Continue);
        assert_eq!(lab.tick().await.expired, 0);
    }
    assert!(lease.trusted_until > first);
    assert_eq!(lab.job(job).await.n_in_flight, 2);
    let worker = &lab.alice.workers().await.unwrap()[0];
    assert_eq!((worker.health["slots"].as_i64(), worker.n_leased), (Some(2), 1));
    assert_eq!(lab.worker.claim(lease.worker, 1, LEASE).await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_item_comes_back_as_it_was_reported() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let mut lease = lab.claim(lab.register("w").await).await;
    let mut given = ok(1);
    given.info = Some(serde_json::json!({"crop": [0, 1, 2, 3]}));
    lab.worker.progress(&mut lease, &report(vec![given.clone(), failed(0, "bad")])).await.unwrap();
    let rows = lab.worker.finished(&lease, -1, 10).await.unwrap();
    assert_eq!(rows[1].report, given);
    assert_eq!(rows[0].report.error_code.as_deref(), Some("bad"));
    assert_eq!(
        lab.alice.items(job, &nightshift_store::ItemFilter::default(), 0, 10).await.unwrap(),
        rows[1..]
    );
    assert_eq!(lab.worker.finished(&lease, 1, 10).await.unwrap(), []);
    let outputs = lab.alice.outputs(job, -1, 10).await.unwrap();
    assert_eq!(
        (outputs.len(), outputs[0].uri.as_str()),
        (1, format!("s3://out/{job}/1.png").as_str())
    );
}
