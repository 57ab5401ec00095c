//! Workers that come back after their lease ran out, and write. No such write is accepted, whatever they say, whoever's token they
//! show, and whatever the heirs of their shards do meanwhile.
//!
//! A wave is one job: its shards are claimed, run out, are collected, claimed by heirs who work on them, and finished. At each of
//! these moments zombies say everything that a worker can say about every shard. All they say carries a mark, which must not be found
//! in any table; while nobody else works, no row of a shard or attempt may change either.

use std::time::Duration;

use nightshift_store::{ItemStatus, Lease, Planned, Report, Submission, WorkerId};
use sqlx::PgConnection;

use crate::lab::{Lab, plan};
use crate::workers::report_of;

/// Longer than the lease and than the pause after a lost attempt.
const LEASE: Duration = Duration::from_secs(10);
const ITEMS_PER_SHARD: i64 = 2;
/// Attempts in one statement.
const BATCH: usize = 400;
const WHATS: [&str; 5] = ["progress", "finish", "release", "fail", "report"];

/// Says what is asked about each lease; counts what was not refused.
const SPEAK: &str = r#"
    select count(*) from (
        select case what
            when 'progress' then nightshift.progress(worker, job, shard, token, items, array[first], 'zombie', '{"zombie": true}')
            when 'finish' then nightshift.finish(worker, job, shard, token, items, 'zombie')::text
            when 'release' then nightshift.release(worker, job, shard, token, items, 'zombie')::text
            when 'fail' then nightshift.fail(worker, job, shard, token, 'zombie', 'zombie', items, 'zombie')::text
            when 'report' then (nightshift.report(worker, jsonb_build_array(jsonb_build_object('what', 'finish', 'job', job, 'shard', shard,
                'token', token, 'items', items, 'log', 'zombie', 'health', '{"zombie": true}'::jsonb))))[1] end as answer
        from (select *, jsonb_build_array(
                jsonb_build_object('index', first, 'status', 'failed', 'error_code', 'zombie', 'error_message', 'zombie'),
                jsonb_build_object('index', first + 1, 'status', 'failed', 'error_code', 'zombie', 'error_message', 'zombie')) as items
            from unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::text[]) as c (worker, job, shard, token, first, what)) calls
    ) said where answer is null or answer not in ('stop', 'false')"#;

/// Traces of zombies in any table.
const MARKS: &str = "select (select count(*) from nightshift.item where error_code = 'zombie')
    + (select count(*) from nightshift.attempt_log where text = 'zombie')
    + (select count(*) from nightshift.attempt where code = 'zombie' or message = 'zombie')
    + (select count(*) from nightshift.event where message like '%zombie%')
    + (select count(*) from nightshift.worker where health ? 'zombie')";

/// Everything about shards and attempts, in one number.
const FINGERPRINT: &str = "select hashtextextended((select string_agg(s::text, ',' order by job_id, shard_no) from nightshift.shard s)
    || (select string_agg(a::text, ',' order by job_id, shard_no, attempt) from nightshift.attempt a), 0)";

/// One attempt to write.
#[derive(Debug, Clone)]
struct Attempt {
    worker: WorkerId,
    job: i64,
    shard: i32,
    token: i64,
    first: i64,
    what: &'static str,
}

/// Connections of zombies: three of the workers' login, one of another.
struct Zombies {
    own: [PgConnection; 3],
    stranger: PgConnection,
    attempts: usize,
    accepted: i64,
}

#[tokio::test]
async fn no_write_of_a_zombie_is_accepted() {
    let (waves, shards) = if crate::is_full() { (5, 256) } else { (1, 48) };
    let mut lab = Lab::new().await;
    let mut zombies = Zombies {
        own: [
            lab.connection("lab_worker").await,
            lab.connection("lab_worker").await,
            lab.connection("lab_worker").await,
        ],
        stranger: lab.connection("lab_worker2").await,
        attempts: 0,
        accepted: 0,
    };
    for _ in 0..waves {
        wave(&mut lab, &mut zombies, shards).await;
    }
    let enough = if crate::is_full() { 100_000 } else { 4_000 };
    assert!(zombies.attempts >= enough, "only {} attempts", zombies.attempts);
    assert_eq!(zombies.accepted, 0, "of {} attempts", zombies.attempts);
    assert_eq!(lab.number(MARKS).await, 0, "a refused call left a trace");
}

async fn wave(lab: &mut Lab, zombies: &mut Zombies, shards: usize) {
    let term = lab.scheduler.lead("zombies", Duration::from_secs(3600)).await.unwrap().unwrap();
    let job = lab
        .user
        .submit(&Submission { spec: "{}".to_owned(), ..Submission::default() })
        .await
        .unwrap();
    let n_items = shards as i64 * ITEMS_PER_SHARD;
    let planned =
        lab.scheduler.planned(&term, job, &plan(job, n_items, ITEMS_PER_SHARD as i32)).await;
    assert_eq!(planned.unwrap(), Planned::Ready);
    let (dying, heir) = (lab.register("dying").await, lab.register("heir").await);
    let late = claim_all(lab, dying, shards).await;
    // Half of them said something while they were alive: half of each shard.
    for lease in late.iter().step_by(2) {
        let half = report(lease.first_item..lease.first_item + 1);
        lab.worker.progress(&mut lease.clone(), &half).await.unwrap();
    }

    lab.forward(LEASE.as_millis() as i64).await;
    zombies.attack(lab, &late, &late, heir, "run out").await;
    let expired = lab.scheduler.tick(&term).await.unwrap().expired;
    assert_eq!(expired, shards as i64);
    zombies.attack(lab, &late, &late, heir, "collected").await;

    lab.forward(LEASE.as_millis() as i64 / 2).await;
    let mut heirs = claim_all(lab, heir, shards).await;
    heirs.sort_by_key(|lease| lease.shard);
    zombies.attack(lab, &late, &heirs, heir, "inherited").await;
    let calls = calls(&late, &heirs, heir);
    let worker = lab.worker.clone();
    let work = async {
        for lease in &mut heirs {
            let first = report(lease.first_item..lease.first_item + 1);
            worker.progress(lease, &first).await.unwrap();
            worker.finish(lease, &report(lease.first_item..lease.end_item)).await.unwrap();
        }
    };
    tokio::join!(work, zombies.speak(calls));
    zombies.attack(lab, &late, &heirs, heir, "finished").await;

    let done = lab.user.job(job).await.unwrap();
    assert_eq!((done.n_ok, done.n_failed), (n_items, 0));
    let mut close = lab.worker.claim(heir, 1, LEASE).await.unwrap();
    lab.worker.finish(&close.pop().expect("the closing"), &Report::default()).await.unwrap();
}

impl Zombies {
    /// Everything about every shard, while nobody else does anything.
    async fn attack(
        &mut self,
        lab: &mut Lab,
        late: &[Lease],
        current: &[Lease],
        heir: WorkerId,
        when: &str,
    ) {
        let before = lab.number(FINGERPRINT).await;
        self.speak(calls(late, current, heir)).await;
        assert_eq!(self.accepted, 0, "writes were accepted on leases that were {when}");
        assert_eq!(
            lab.number(FINGERPRINT).await,
            before,
            "refused writes changed shards or attempts that were {when}"
        );
    }

    /// Own calls by several connections at a time, those of the stranger by another.
    async fn speak(&mut self, (own, strange): (Vec<Attempt>, Vec<Attempt>)) {
        self.attempts += own.len() + strange.len();
        let third = own.len().div_ceil(3);
        let [a, b, c] = &mut self.own;
        let (a, b, c, d) = tokio::join!(
            speak(a, &own[..third]),
            speak(b, &own[third..2 * third]),
            speak(c, &own[2 * third..]),
            speak(&mut self.stranger, &strange),
        );
        self.accepted += a + b + c + d;
    }
}

/// By the workers' login, and by another: each shard, each call, each credential that is not the right one.
fn calls(late: &[Lease], current: &[Lease], heir: WorkerId) -> (Vec<Attempt>, Vec<Attempt>) {
    let newest = current.iter().chain(late).map(|lease| lease.token).max().expect("some leases");
    let (mut own, mut strange) = (Vec::new(), Vec::new());
    for (i, lease) in late.iter().enumerate() {
        // `current` is in the order of the shards, as `late` is.
        let (live, neighbour) = (current[i].token, current[(i + 1) % current.len()].token);
        for what in WHATS {
            let attempt = |worker, token| Attempt {
                worker,
                job: lease.job,
                shard: lease.shard,
                token,
                first: lease.first_item,
                what,
            };
            own.push(attempt(lease.worker, lease.token)); // its old token
            // A guess: the next tokens, with which the tick marked the shards, among them the right one.
            own.push(attempt(lease.worker, newest + 1 + i as i64));
            own.push(attempt(lease.worker, live)); // the lease of another
            own.push(attempt(heir, lease.token)); // as another, with its old token
            own.push(attempt(heir, neighbour)); // as another, with the token of another lease
            strange.push(attempt(heir, live)); // everything right but the login
        }
    }
    (own, strange)
}

async fn speak(connection: &mut PgConnection, attempts: &[Attempt]) -> i64 {
    let mut accepted = 0;
    for batch in attempts.chunks(BATCH) {
        let count: i64 = sqlx::query_scalar(SPEAK)
            .bind(batch.iter().map(|attempt| attempt.worker.0).collect::<Vec<_>>())
            .bind(batch.iter().map(|attempt| attempt.job).collect::<Vec<_>>())
            .bind(batch.iter().map(|attempt| attempt.shard).collect::<Vec<_>>())
            .bind(batch.iter().map(|attempt| attempt.token).collect::<Vec<_>>())
            .bind(batch.iter().map(|attempt| attempt.first).collect::<Vec<_>>())
            .bind(batch.iter().map(|attempt| attempt.what.to_owned()).collect::<Vec<_>>())
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        accepted += count;
    }
    accepted
}

/// Claims until it has `shards` leases, in the order of the shards.
async fn claim_all(lab: &Lab, worker: WorkerId, shards: usize) -> Vec<Lease> {
    let mut leases = Vec::new();
    while leases.len() < shards {
        let more = lab.worker.claim(worker, 64, LEASE).await.unwrap();
        assert!(!more.is_empty(), "{} of {shards} shards could be claimed", leases.len());
        leases.extend(more);
    }
    leases.sort_by_key(|lease| lease.shard);
    leases
}

/// These items, ok.
fn report(indices: std::ops::Range<i64>) -> Report {
    report_of(&indices.map(|index| (index, ItemStatus::Ok)).collect::<Vec<_>>())
}
