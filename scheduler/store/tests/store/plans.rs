//! Hot statements use their partial indexes when there is much to look through.

use nightshift_store::{Report, Verdict};

use crate::lab::{LEASE, Lab, ok, report};

/// Rows read by sequential scans of the hot tables.
async fn scanned(lab: &Lab) -> i64 {
    // Counters of other sessions arrive when those are idle; force them out of every pool by asking until they stand still.
    lab.text("select sum(seq_tup_read)::text from pg_stat_user_tables where schemaname = 'nightshift' and relname in ('job', 'shard', 'job_cursor', 'item', 'attempt')")
        .await
        .parse()
        .unwrap()
}

#[tokio::test]
async fn claim_progress_finish_and_tick_never_scan_a_hot_table() {
    let lab = Lab::new().await;
    let job = lab.ready(1_000_000, 4).await;
    // 100,000 ended jobs and shards around it, 1,000 ready jobs of another model.
    lab.sql("
        insert into nightshift.job (tenant_id, state, submitted_by, planned_at, finished_at, run_date, n_rows, n_items, shard_items, max_attempts, name, kind,
                model_key, dest, spec_id, resolved_id, allow_mixed, on_existing, priority, inputs,
                labels, warnings, worker_labels, min_memory_bytes, after, opens_at, closes_at, window_closes_at, backoff_ms, max_backoff_ms, jitter)
            select tenant_id, case when g <= 100000 then 'finished' else 'ready' end::nightshift.job_state, submitted_by, planned_at,
                case when g <= 100000 then planned_at end, run_date, n_rows, n_items, shard_items, max_attempts, name, kind,
                'other/int4/bf16', 's3://other/' || g || '/', spec_id, resolved_id, allow_mixed, on_existing, priority, inputs,
                labels, warnings, worker_labels, min_memory_bytes, after, opens_at, closes_at, window_closes_at, backoff_ms, max_backoff_ms, jitter
            from nightshift.job, generate_series(1, 101000) g;
        insert into nightshift.job_cursor (job_id) select id from nightshift.job on conflict do nothing;
        insert into nightshift.shard (job_id, shard_no, tenant_id, kind, state, first_item, end_item, token, finished_at)
            select j.id, g, j.tenant_id, 'items', 'finished', g * 4, g * 4 + 4, 0, j.planned_at
            from (select * from nightshift.job order by id limit 1) j, generate_series(0, 99999) g;
        update nightshift.job_cursor set next_shard = 100000, next_item = 400000 where job_id = (select min(id) from nightshift.job);
        analyze nightshift.job; analyze nightshift.shard; analyze nightshift.job_cursor")
        .await;
    let worker = lab.register("w").await;
    // One connection, so that plans are cached and become generic after five calls: the trap is in the generic plan.
    let store = nightshift_store::Store::connect(&nightshift_store::DatabaseConfig {
        max_connections: 1,
        ..nightshift_store::DatabaseConfig::new(lab.url(Some("lab_worker")))
    })
    .await
    .unwrap();
    // Sessions report what they did when they end: what planning read must not be counted below.
    lab.sql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'lab_scheduler' and datname = current_database()")
        .await;
    let before = scanned(&lab).await;
    for round in 0..12 {
        let mut leases = store.claim(worker, 3, LEASE).await.unwrap();
        assert!(leases.len() == 3 && leases.iter().all(|l| l.job == job));
        let index = leases[0].first_item;
        assert_eq!(
            store.progress(&mut leases[0], &report(vec![ok(index)])).await.unwrap(),
            Verdict::Continue
        );
        let all = crate::lab::all_ok(&leases[1]);
        store.finish(&leases[1], &all).await.unwrap();
        store.release(&leases[2], &Report::default()).await.unwrap();
        store.fail(&leases[0], &Report::default(), "x", "y").await.unwrap();
        let _ = round;
    }
    lab.tick().await;
    // Closing the pools makes their sessions report what they did.
    store.close().await;
    lab.scheduler.close().await;
    let after = wait_for_statistics(&lab).await;
    assert_eq!(after - before, 0, "rows read by sequential scans");
}

/// The scans are known once the finished calls show up in the index counters.
async fn wait_for_statistics(lab: &Lab) -> i64 {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let seen = lab
            .text("select idx_scan::text from pg_stat_user_indexes where schemaname = 'nightshift' and indexrelname = 'shard_waiting'")
            .await;
        if seen.parse::<i64>().unwrap() > 0 {
            return scanned(lab).await;
        }
        assert!(std::time::Instant::now() < deadline, "no statistics arrived");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// What a counter of the statistics says once the sessions that moved it have ended.
async fn counter(lab: &Lab, query: &str, at_least: i64) -> i64 {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let seen = lab.text(query).await.parse().unwrap();
        if seen >= at_least {
            return seen;
        }
        assert!(std::time::Instant::now() < deadline, "{query} says {seen}, less than {at_least}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_claim_reads_one_job_however_many_wait() {
    let lab = Lab::new().await;
    lab.ready(1_000_000, 4).await;
    // 2,000 more of the same tenant and model, and statistics that know of them: a plan that sorts would read them all.
    lab.sql("
        insert into nightshift.job (tenant_id, state, submitted_by, planned_at, run_date, n_rows, n_items, shard_items, max_attempts, name, kind,
                model_key, dest, spec_id, resolved_id, allow_mixed, on_existing, priority, inputs,
                labels, warnings, worker_labels, min_memory_bytes, after, opens_at, closes_at, window_closes_at, backoff_ms, max_backoff_ms, jitter)
            select tenant_id, state, submitted_by, planned_at, run_date, n_rows, n_items, shard_items, max_attempts, name, kind,
                model_key, dest || g || '/', spec_id, resolved_id, allow_mixed, on_existing, priority, inputs,
                labels, warnings, worker_labels, min_memory_bytes, after, opens_at, closes_at, window_closes_at, backoff_ms, max_backoff_ms, jitter
            from nightshift.job, generate_series(1, 2000) g;
        insert into nightshift.job_cursor (job_id) select id from nightshift.job on conflict do nothing;
        set search_path = nightshift; select mark_job(id) from job;
        analyze nightshift.job; analyze nightshift.job_cursor; analyze nightshift.share; analyze nightshift.lane")
        .await;
    let worker = lab.register("w").await;
    let read = "select idx_tup_read::text from pg_stat_user_indexes where schemaname = 'nightshift' and indexrelname = 'job_cursor_open'";
    let before = counter(&lab, read, 0).await;
    for _ in 0..20 {
        assert_eq!(lab.worker.claim(worker, 1, LEASE).await.unwrap().len(), 1);
    }
    lab.worker.close().await;
    let read = counter(&lab, read, before + 20).await - before;
    // One each, and what is left of the cursor's earlier versions until the index is cleaned.
    assert!(read <= 100, "20 claims read {read} entries of job_cursor_open");
}

#[tokio::test]
async fn the_size_of_a_shard_asks_a_bounded_number_of_workers() {
    let lab = Lab::new().await;
    lab.ready_with(|plan| nightshift_store::Plan { n_items: 10_000, shard_items: None, ..plan })
        .await;
    let worker = lab.register("w").await;
    lab.sql("
        insert into nightshift.worker (login, name, protocol, schema, models, info)
            select login, name, protocol, schema, models, info from nightshift.worker, generate_series(1, 5000);
        analyze nightshift.worker")
        .await;
    let by = |column: &str| {
        format!(
            "select ({column})::text from pg_stat_user_tables where schemaname = 'nightshift' and relname = 'worker'"
        )
    };
    // The insert above has read the one row that was there; a session's counts arrive when it has ended.
    let before = counter(&lab, &by("seq_tup_read"), 1).await;
    let before_by_index = counter(&lab, &by("idx_tup_fetch"), 0).await;
    for _ in 0..20 {
        assert_eq!(lab.worker.claim(worker, 1, LEASE).await.unwrap().len(), 1);
    }
    lab.worker.close().await;
    // A thousand each, from the fifth on: the job is more than 2,048 of the first shards.
    let read = counter(&lab, &by("idx_tup_fetch"), before_by_index + 16_000).await;
    let read = read - before_by_index;
    assert!(read <= 16_100, "20 claims read {read} workers");
    assert_eq!(counter(&lab, &by("seq_tup_read"), 0).await, before);
}

#[tokio::test]
async fn renewals_change_no_index() {
    let lab = Lab::new().await;
    lab.ready(400, 4).await;
    let worker = lab.register("w").await;
    // One row, so that every version of it has room on its page even while nothing may be cleaned.
    let mut leases = lab.worker.claim(worker, 1, LEASE).await.unwrap();
    for _ in 0..10 {
        for lease in &mut leases {
            let beat = Report { in_flight: vec![lease.first_item], ..Report::default() };
            lab.worker.progress(lease, &beat).await.unwrap();
        }
    }
    lab.worker.close().await;
    let of_shard = |column: &str| {
        format!(
            "select ({column})::text from pg_stat_user_tables where schemaname = 'nightshift' and relname = 'shard'"
        )
    };
    let renewals = 10 * i64::try_from(leases.len()).unwrap();
    assert_eq!(counter(&lab, &of_shard("n_tup_upd"), renewals).await, renewals);
    let other_page = counter(&lab, &of_shard("n_tup_upd - n_tup_hot_upd"), 0).await;
    assert_eq!(other_page, 0, "renewals that changed an index");
}
