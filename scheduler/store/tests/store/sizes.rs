//! How many items a shard gets when its spec does not say.

use nightshift_store::{Lease, Plan, Registration, Report, WorkerId};
use serde_json::json;

use crate::lab::{LEASE, Lab, MODEL, all_ok};

pub(crate) async fn worker(lab: &Lab, slots: u32) -> WorkerId {
    let registration = Registration {
        name: format!("of-{slots}-slots"),
        models: [(MODEL.to_owned(), "f00d".to_owned())].into(),
        info: json!({"slots": slots}),
    };
    lab.worker.register(&registration).await.unwrap()
}

/// A ready job without a shard size.
pub(crate) async fn job(lab: &Lab, n_items: i64) -> i64 {
    lab.ready_with(|plan| Plan { n_items, shard_items: None, ..plan }).await
}

/// A worker says that it takes so long for an item of the lease's job, and has this in its slots.
pub(crate) async fn tell(lab: &Lab, lease: &mut Lease, ms: f64, in_slots: &[String]) {
    let said = Report {
        health: Some(json!({"items": in_slots, "item_ms": {lease.job.to_string(): ms}})),
        ..Report::default()
    };
    lab.worker.progress(lease, &said).await.unwrap();
}

pub(crate) fn len(lease: &Lease) -> i64 {
    lease.end_item - lease.first_item
}

#[tokio::test]
async fn a_shard_is_a_minute_of_the_worker_that_claims_it() {
    let lab = Lab::new().await;
    let job = job(&lab, 100_000_000).await;
    // An item in its slot takes a second, a few seconds, or longer than a shard should.
    for (slots, ms, items) in [
        (1, 1_000.0, 60),
        (8, 125.0, 480),
        (1, 7_000.0, 9),
        (2, 20_000.0, 3),
        (1, 200_000.0, 1),
        (8, 25_000.0, 8),
        (1, 2.5, 10_000),
    ] {
        let worker = worker(&lab, slots).await;
        let mut first = lab.claim(worker).await;
        assert_eq!(first.job, job);
        tell(&lab, &mut first, ms, &[]).await;
        let leases = lab.worker.claim(worker, 3, LEASE).await.unwrap();
        let got: Vec<_> = leases.iter().map(len).collect();
        assert_eq!(got, [items; 3], "{slots} slots, {ms} ms");
    }
    // One of another worker, which says nothing of this job, is small, whatever those had.
    let mut silent = lab.claim(worker(&lab, 8).await).await;
    let words = json!({"items": "none", "item_ms": {job.to_string(): "a second"}});
    let health = Some(words);
    let said = Report { health, ..Report::default() };
    lab.worker.progress(&mut silent, &said).await.unwrap();
    assert_eq!(len(&silent), 64);
    assert_eq!(len(&lab.claim(silent.worker).await), 64);
}

#[tokio::test]
async fn shards_are_small_until_something_was_measured() {
    let lab = Lab::new().await;
    let _job = job(&lab, 1_000_000).await;
    let new = worker(&lab, 4).await;
    let mut sizes = Vec::new();
    for _ in 0..8 {
        sizes.push(len(&lab.claim(new).await));
    }
    // All slots at first, then twice what shards had so far.
    assert_eq!(sizes, [4, 8, 12, 16, 20, 24, 28, 32]);
    for _ in 0..30 {
        lab.claim(new).await;
    }
    assert_eq!(len(&lab.claim(new).await), 64);
}

#[tokio::test]
async fn what_others_took_is_a_hint_for_a_worker_that_is_new_to_a_job() {
    let lab = Lab::new().await;
    let job = job(&lab, 1_000_000).await;
    lab.sql(&format!(
        "update nightshift.job_cursor set next_item = 6000, next_shard = 100, n_ok = 6000, gpu_ms = 6000 * 1000 where job_id = {job}"
    ))
    .await;
    assert_eq!(len(&lab.claim(worker(&lab, 1).await).await), 12);
    assert_eq!(len(&lab.claim(worker(&lab, 16).await).await), 16);
}

#[tokio::test]
async fn a_size_that_the_spec_gives_is_exact() {
    let lab = Lab::new().await;
    let _job = lab.ready(30, 7).await;
    let (one, other) = (worker(&lab, 16).await, worker(&lab, 1).await);
    let mut first = lab.claim(one).await;
    tell(&lab, &mut first, 1_000.0, &[]).await;
    let mut sizes = vec![len(&first)];
    for worker in [one, other, one, other] {
        sizes.push(len(&lab.claim(worker).await));
    }
    assert_eq!(sizes, [7, 7, 7, 7, 2]);
}

#[tokio::test]
async fn the_end_of_a_job_is_shared_by_those_that_can_take_part() {
    let lab = Lab::new().await;
    let job = job(&lab, 10_000).await;
    let mine = worker(&lab, 2).await;
    let mut first = lab.claim(mine).await;
    tell(&lab, &mut first, 100.0, &[]).await;
    let next = |left: i64| {
        let (lab, first) = (&lab, first.clone());
        async move {
            lab.sql(&format!(
                "update nightshift.job_cursor set next_item = 10000 - {left} where job_id = {job}"
            ))
            .await;
            let lease = lab.claim(first.worker).await;
            lab.worker.release(&lease, &Report::default()).await.unwrap();
            lab.sql("delete from nightshift.shard where state = 'waiting'").await;
            len(&lease)
        }
    };
    assert_eq!(next(1_000).await, 600, "alone it shares with nobody");

    // Three others: one has nothing in hand, one works at this job, twice as fast, one at another job.
    worker(&lab, 1).await;
    let mut fast = lab.claim(worker(&lab, 1).await).await;
    let drawing = [format!("{job}/{}", fast.first_item)];
    tell(&lab, &mut fast, 50.0, &drawing).await;
    let elsewhere = worker(&lab, 1).await;
    let mut lease = lab.claim(elsewhere).await;
    tell(&lab, &mut lease, 50.0, &["4711/3".to_owned()]).await;
    lab.worker.release(&lease, &Report::default()).await.unwrap();
    lab.sql("delete from nightshift.shard where state = 'waiting'").await;
    // A worker counts as one, so does one that said nothing; one twice as fast as two.
    assert_eq!(next(1_000).await, 125);
    assert_eq!(next(999).await, 125);
    assert_eq!(next(100).await, 13);
    assert_eq!(next(9).await, 2, "never less than its slots");
    assert_eq!(next(1).await, 1);

    // Who is draining, cannot run the model or was not heard for a minute takes no part.
    lab.sql("update nightshift.worker set drain = true where id = (select max(id) - 1 from nightshift.worker)")
        .await;
    assert_eq!(next(1_000).await, 250);
    lab.sql("update nightshift.worker set drain = false, models = '{\"big/int4/bf16\": \"f00d\"}' where id = (select max(id) - 1 from nightshift.worker)")
        .await;
    assert_eq!(next(1_000).await, 250);
    lab.register_with("of another engine", "beef").await;
    assert_eq!(next(1_000).await, 250);
    lab.advance(61).await;
    assert_eq!(next(1_000).await, 600);
}

/// Who is busy until when, in milliseconds.
struct Busy {
    until: i64,
    ms: i64,
    worker: WorkerId,
    lease: Option<Lease>,
}

#[tokio::test]
async fn unequal_workers_end_a_job_within_one_item_of_each_other() {
    let lab = Lab::new().await;
    const ITEMS: i64 = 1_000;
    let job = job(&lab, ITEMS).await;
    let mut all = Vec::new();
    for ms in [400, 500, 700, 1_000, 1_300, 2_000, 4_000] {
        let worker = worker(&lab, 1).await;
        let (until, lease) = (0, None);
        all.push(Busy { until, ms, worker, lease });
    }
    let (mut sizes, mut ends, mut closing) = (Vec::new(), Vec::new(), 0);
    // Whoever is done first reports and asks for more; time is only counted.
    while let Some(next) = (0..all.len()).min_by_key(|i| all[*i].until) {
        let busy = &mut all[next];
        if let Some(lease) = busy.lease.take() {
            let health = Some(json!({"items": [], "item_ms": {job.to_string(): busy.ms}}));
            let done = Report { health, ..all_ok(&lease) };
            lab.worker.finish(&lease, &done).await.unwrap();
        }
        match lab.worker.claim(busy.worker, 1, LEASE).await.unwrap().pop() {
            Some(lease) if lease.kind == nightshift_store::ShardKind::Items => {
                sizes.push((lease.first_item, len(&lease)));
                busy.until += len(&lease) * busy.ms;
                busy.lease = Some(lease);
            }
            more => {
                closing += usize::from(more.is_some());
                ends.push(busy.until);
                all.remove(next);
            }
        }
    }
    let mut carved = 0;
    for (first, n) in &sizes {
        assert_eq!(*first, carved, "every item is carved once");
        carved += n;
    }
    assert_eq!((carved, closing, lab.job(job).await.n_ok), (ITEMS, 1, ITEMS));
    let (least, most) = (*ends.iter().min().unwrap(), *ends.iter().max().unwrap());
    // Together they draw 8.448 items a second, so the last one cannot be done before 118,371 ms.
    assert!(most - least <= 4_000, "they end at {ends:?}");
    assert!(most <= 118_371 + 4_000, "they end at {ends:?}");
    assert!(sizes.len() <= 120, "{} shards: {sizes:?}", sizes.len());
}
