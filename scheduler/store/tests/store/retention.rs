//! Growth has an end: jobs are pruned whole and in bounded batches, events are dropped by the week.

use std::time::Duration;

use nightshift_store::{Error, JobFilter, JobState, Only, Plan, Pruned, Submission};
use sqlx::{Connection, PgConnection};

use crate::lab::{Lab, all_ok, plan};

const DAY: u32 = 86_400;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Moves the clock, and leads again: the term ran out meanwhile.
async fn later(lab: &mut Lab, days: u32) {
    lab.advance(days * DAY).await;
    let term = lab.scheduler.lead("test", Duration::from_secs(3600)).await;
    lab.term = term.unwrap().unwrap();
}

/// Rows of a job in every table that names jobs, but events.
async fn rows(lab: &Lab, job: i64) -> String {
    lab.text(&format!(
        "select string_agg(n::text, ' ') from (
            select count(*) n from nightshift.job where id = {job} union all select count(*) from nightshift.job_cursor where job_id = {job}
            union all select count(*) from nightshift.shard where job_id = {job} union all select count(*) from nightshift.attempt where job_id = {job}
            union all select count(*) from nightshift.item where job_id = {job} union all select count(*) from nightshift.job where id = {job} and owns_dest) x"
    ))
    .await
}

#[tokio::test]
async fn jobs_that_ended_long_ago_go_whole_and_in_batches() {
    let mut lab = Lab::new().await;
    let worker = lab.register("w").await;
    let old = lab.ready(10, 4).await;
    lab.run_all(worker).await;
    let waited_for = lab.ready(10, 4).await;
    lab.run_all(worker).await;
    let running = lab
        .ready_with(|mut plan| {
            plan.policy.after = vec![waited_for];
            plan
        })
        .await;
    lab.tick().await;
    lab.claim(worker).await;
    later(&mut lab, 8).await;
    let recent = lab.ready(10, 4).await;
    lab.worker.release(&lab.claim(worker).await, &crate::lab::report(Vec::new())).await.unwrap();
    lab.alice.cancel(recent).await.unwrap();
    let kept = (rows(&lab, running).await, rows(&lab, recent).await, rows(&lab, waited_for).await);
    assert_eq!(rows(&lab, old).await, "1 1 4 4 10 1");

    // Seven rows a call: ten items take two of them, and nobody may bring the job back meanwhile.
    let first = lab.admin.prune(WEEK, 7).await.unwrap();
    assert_eq!((first.items, first.jobs, first.more), (7, 0, true));
    let retried = lab.alice.retry(old, &Only::Failed).await;
    assert!(retried.is_err(), "{retried:?}");
    // Postgres says that a call failed before it gives up what the call had locked, and prune passes over a job that is locked: one
    // more call of the same login waits for that.
    assert!(matches!(lab.alice.job(old).await, Err(Error::NotFound { .. })));
    let mut removed = first;
    let mut calls = 1;
    while removed.more {
        let batch = lab.admin.prune(WEEK, 7).await.unwrap();
        let rows =
            batch.jobs + batch.items + batch.attempts + batch.shards + batch.logs + batch.chunks;
        assert!(rows <= 7, "{batch:?}");
        removed += batch;
        calls += 1;
    }
    assert_eq!(calls, 3, "19 rows, 7 in a call");
    assert_eq!((removed.jobs, removed.items, removed.attempts, removed.shards), (1, 10, 4, 4));
    assert_eq!(rows(&lab, old).await, "0 0 0 0 0 0");
    assert_eq!(
        (rows(&lab, running).await, rows(&lab, recent).await, rows(&lab, waited_for).await),
        kept,
        "running, recent, and one that a running job waits for"
    );
    let again = lab.admin.prune(WEEK, 7).await.unwrap();
    assert_eq!(again, Pruned::default());
    assert!(matches!(lab.admin.prune(WEEK, 0).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn what_is_young_is_not_pruned() {
    let lab = Lab::new().await;
    lab.register("gone").await;
    lab.advance(3_600).await;
    lab.register("running").await;
    for seconds in [0, 1, 3_599] {
        let error = lab.admin.prune(Duration::from_secs(seconds), 100).await;
        let Err(Error::Refused { message, .. }) = error else {
            panic!("{error:?}");
        };
        assert!(message.contains("at least an hour"), "{message}");
    }
    lab.advance(1).await;
    let removed = lab.admin.prune(Duration::from_secs(3_600), 100).await;
    assert_eq!(removed.unwrap().workers, 1);
    let left = lab.alice.workers().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].name, "running");
}

#[tokio::test]
async fn a_job_that_was_retried_in_time_stays() {
    let mut lab = Lab::new().await;
    let worker = lab.register("w").await;
    let job = lab.ready(4, 4).await;
    let lease = lab.claim(worker).await;
    let failed = (0..4).map(|index| crate::lab::failed(index, "x")).collect();
    lab.worker.finish(&lease, &crate::lab::report(failed)).await.unwrap();
    lab.run_all(worker).await;
    later(&mut lab, 30).await;
    lab.alice.retry(job, &Only::Failed).await.unwrap();
    assert_eq!(lab.admin.prune(WEEK, 100).await.unwrap().jobs, 0);
    assert_eq!(lab.job(job).await.state, JobState::Ready);
}

/// A job of four items that ended with a failure.
async fn failed(lab: &Lab, worker: nightshift_store::WorkerId) -> i64 {
    let job = lab.ready(4, 4).await;
    let lease = lab.claim(worker).await;
    let items = (0..4).map(|index| crate::lab::failed(index, "x")).collect();
    let report = crate::lab::report(items);
    lab.worker.finish(&lease, &report).await.unwrap();
    lab.run_all(worker).await;
    job
}

#[tokio::test]
async fn a_job_that_is_retried_while_an_older_one_goes_stays() {
    let mut lab = Lab::new().await;
    let worker = lab.register("w").await;
    let (oldest, old) = (failed(&lab, worker).await, failed(&lab, worker).await);
    later(&mut lab, 30).await;
    let mut holder = PgConnection::connect(&lab.url(None)).await.unwrap();
    let lock = format!("begin; select from nightshift.shard where job_id = {oldest} for update");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut holder).await.unwrap();
    let admin = lab.admin.clone();
    let pruning = tokio::spawn(async move { admin.prune(WEEK, 1_000).await });
    let waiting = "select count(*)::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while lab.text(waiting).await == "0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(lab.alice.retry(old, &Only::Failed).await.unwrap(), 4);
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    assert_eq!(pruning.await.unwrap().unwrap().jobs, 1);
    assert_eq!(rows(&lab, oldest).await, "0 0 0 0 0 0");
    assert_eq!(lab.job(old).await.state, JobState::Ready);
    lab.run_all(worker).await;
    assert_eq!(lab.job(old).await.state, JobState::Finished);
}

#[tokio::test]
async fn logs_inputs_and_workers_that_are_gone_go_too() {
    let mut lab = Lab::new().await;
    let worker = lab.register("gone").await;
    let job = lab.submitted().await;
    let chunk = lab.scheduler.add_chunk(&lab.term, job, 0, 4, b"rows");
    assert!(chunk.await.unwrap());
    let plan = Plan { n_rows: 4, n_items: 4, shard_items: Some(4), ..plan(job) };
    lab.scheduler.planned(&lab.term, job, &plan).await.unwrap();
    let lease = lab.claim(worker).await;
    let mut report = all_ok(&lease);
    report.log = Some("drawn".to_owned());
    lab.worker.finish(&lease, &report).await.unwrap();
    lab.run_all(worker).await;
    // A shard that is not over names a worker that was not seen since.
    let busy = lab.register("busy").await;
    lab.ready(4, 4).await;
    lab.claim(busy).await;
    later(&mut lab, 8).await;
    let gone = lab.admin.prune(WEEK, 1_000).await.unwrap();
    assert_eq!((gone.jobs, gone.logs, gone.chunks, gone.workers), (1, 1, 1, 1));
    let left = lab
        .text("select (select count(*) from nightshift.attempt_log) || ' ' || (select count(*) from nightshift.input_chunk)
            || ' ' || (select string_agg(name, ' ') from nightshift.worker)")
        .await;
    assert_eq!(left, "0 0 busy");
}

/// Partitions of events, the default one left out.
async fn weeks(lab: &Lab) -> usize {
    let names = lab
        .text("select string_agg(inhrelid::regclass::text, ' ') from pg_inherits where inhparent = 'nightshift.event'::regclass and inhrelid <> 'nightshift.event_rest'::regclass")
        .await;
    names.split_whitespace().count()
}

#[tokio::test]
async fn events_are_dropped_by_the_week_and_none_is_deleted() {
    let mut lab = Lab::new().await;
    let size = "select sum(pg_total_relation_size(inhrelid))::text from pg_inherits where inhparent = 'nightshift.event'::regclass";
    let mut sizes = Vec::new();
    for _ in 0..4 {
        // This week and the next have a partition; making them again does nothing.
        lab.scheduler.keep_events(&lab.term).await.unwrap();
        assert_eq!(lab.scheduler.keep_events(&lab.term).await.unwrap(), 0);
        lab.sql("insert into nightshift.event (tenant_id, job_id, what, message) select 1, i, 'x', repeat('y', 100) from generate_series(1, 5000) i").await;
        assert_eq!(lab.text("select count(*)::text from nightshift.event_rest").await, "0");
        sizes.push(lab.text(size).await.parse::<i64>().unwrap());
        later(&mut lab, 7).await;
        lab.admin.prune(Duration::from_secs(u64::from(DAY)), 1_000).await.unwrap();
        assert!(weeks(&lab).await <= 2, "a week goes when its last event is old enough");
    }
    // Fourfold the events, and no more room than a few weeks of them take.
    assert!(sizes[3] < 3 * sizes[0], "{sizes:?}");
    let dead = lab
        .text("select coalesce(sum(n_tup_del), 0)::text from pg_stat_user_tables where relname like 'event%'")
        .await;
    assert_eq!(dead, "0", "rows were deleted");
}

#[tokio::test]
async fn events_that_somebody_reads_go_another_time() {
    let mut lab = Lab::new().await;
    lab.scheduler.keep_events(&lab.term).await.unwrap();
    let before = weeks(&lab).await;
    later(&mut lab, 30).await;
    let mut reader = PgConnection::connect(&lab.url(Some("lab_user"))).await.unwrap();
    for statement in ["begin", "select count(*) from nightshift.events"] {
        sqlx::query(statement).execute(&mut reader).await.unwrap();
    }
    let day = Duration::from_secs(u64::from(DAY));
    let pruned = lab.admin.prune(day, 1_000).await.unwrap();
    assert_eq!((pruned.event_partitions, weeks(&lab).await), (0, before));
    reader.close().await.unwrap();
    let pruned = lab.admin.prune(day, 1_000).await.unwrap();
    assert!(pruned.event_partitions > 0);
}

#[tokio::test]
async fn events_of_a_week_that_nobody_prepared_move_into_their_partition() {
    let mut lab = Lab::new().await;
    later(&mut lab, 100).await;
    let job = lab.submitted().await;
    assert!(lab.alice.hold(job).await.unwrap());
    assert_eq!(lab.text("select count(*)::text from nightshift.event_rest").await, "1");
    assert_eq!(lab.scheduler.keep_events(&lab.term).await.unwrap(), 2);
    assert_eq!(lab.text("select count(*)::text from nightshift.event_rest").await, "0");
    let events = lab.alice.events(Some(job), 0, 10).await.unwrap();
    let whats: Vec<_> = events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(whats, ["submitted", "held"]);
}

#[tokio::test]
async fn a_spec_goes_with_the_last_job_that_has_it() {
    let mut lab = Lab::new().await;
    let submission = Submission { spec: "one".to_owned(), ..Submission::default() };
    let documents = "select count(*)::text from nightshift.document";
    for left in ["1", "0"] {
        let first = lab.alice.submit(&submission).await.unwrap();
        let second = lab.alice.submit(&submission).await.unwrap();
        assert!(lab.alice.cancel(first).await.unwrap());
        if left == "0" {
            assert!(lab.alice.cancel(second).await.unwrap());
            for job in lab.alice.jobs(&JobFilter::default(), 10).await.unwrap() {
                lab.alice.cancel(job.id).await.unwrap();
            }
        }
        later(&mut lab, 8).await;
        assert!(lab.admin.prune(WEEK, 1000).await.unwrap().jobs > 0);
        assert_eq!(lab.text(documents).await, left);
    }
}
