//! What is stored, read back after every step: one query, everything about the jobs of one sequence.

use nightshift_store::{AttemptOutcome, ItemStatus, JobState, ShardKind, ShardState};
use serde::Deserialize;
use sqlx::PgConnection;

/// All that is stored about the jobs after a given one. Times are milliseconds of the database's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct World {
    pub(crate) jobs: Vec<Job>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) items: Vec<Item>,
    /// Workers that drain.
    pub(crate) draining: Vec<i64>,
    /// Rows of events and logs: a refused call must not even leave a trace.
    pub(crate) n_events: i64,
    pub(crate) n_logs: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) state: JobState,
    pub(crate) held: bool,
    pub(crate) round: i32,
    pub(crate) priority: i32,
    pub(crate) planned: bool,
    pub(crate) n_items: Option<i64>,
    pub(crate) max_attempts: Option<i32>,
    pub(crate) max_failed_items: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) next_item: i64,
    pub(crate) next_shard: i32,
    /// Counts of shards that have ended.
    pub(crate) n_ok: i64,
    pub(crate) n_failed: i64,
    pub(crate) n_skipped: i64,
    pub(crate) gpu_ms: i64,
    /// Whether a shard was ever claimed.
    pub(crate) started: bool,
    /// The least and the greatest number: never, and for ever.
    pub(crate) opens_at: i64,
    pub(crate) closes_at: i64,
    pub(crate) window_closes_at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Shard {
    pub(crate) job: i64,
    pub(crate) shard: i32,
    pub(crate) kind: ShardKind,
    pub(crate) state: ShardState,
    pub(crate) first_item: i64,
    pub(crate) end_item: i64,
    pub(crate) token: i64,
    pub(crate) worker: Option<i64>,
    pub(crate) leased_until: Option<i64>,
    pub(crate) ready_at: Option<i64>,
    pub(crate) n_failed_attempts: i32,
    pub(crate) n_lost_attempts: i32,
    pub(crate) n_ok: i64,
    pub(crate) n_failed: i64,
    pub(crate) n_skipped: i64,
    pub(crate) gpu_ms: i64,
    pub(crate) preempt: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) job: i64,
    pub(crate) shard: i32,
    pub(crate) attempt: i32,
    pub(crate) token: i64,
    pub(crate) worker: i64,
    pub(crate) outcome: Option<AttemptOutcome>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Item {
    pub(crate) job: i64,
    pub(crate) index: i64,
    pub(crate) status: ItemStatus,
    pub(crate) shard: i32,
    /// 0: failed by the store itself.
    pub(crate) attempt: i32,
}

const READ: &str = "
    select jsonb_build_object(
        'jobs', (select coalesce(jsonb_agg(jsonb_build_object('id', j.id, 'state', j.state, 'held', j.held, 'round', j.round,
            'priority', coalesce(j.priority, 0), 'planned', j.planned_at is not null, 'n_items', j.n_items, 'max_attempts', j.max_attempts,
            'max_failed_items', j.max_failed_items, 'finished_at', lab.ms(j.finished_at), 'next_item', coalesce(c.next_item, 0),
            'next_shard', coalesce(c.next_shard, 0), 'n_ok', coalesce(c.n_ok, 0), 'n_failed', coalesce(c.n_failed, 0),
            'n_skipped', coalesce(c.n_skipped, 0), 'gpu_ms', coalesce(c.gpu_ms, 0), 'started', j.started_at is not null,
            'opens_at', lab.ms(coalesce(j.opens_at, 'infinity')), 'closes_at', lab.ms(coalesce(j.closes_at, 'infinity')),
            'window_closes_at', lab.ms(coalesce(j.window_closes_at, 'infinity'))) order by j.id), '[]')
            from nightshift.job j left join nightshift.job_cursor c on c.job_id = j.id where j.id > $1),
        'shards', (select coalesce(jsonb_agg(jsonb_build_object('job', job_id, 'shard', shard_no, 'kind', kind, 'state', state,
            'first_item', first_item, 'end_item', end_item, 'token', token, 'worker', worker_id, 'leased_until', lab.ms(leased_until),
            'ready_at', lab.ms(ready_at), 'n_failed_attempts', n_failed_attempts, 'n_lost_attempts', n_lost_attempts,
            'n_ok', n_ok, 'n_failed', n_failed, 'n_skipped', n_skipped, 'gpu_ms', gpu_ms,
            'preempt', preempt) order by job_id, shard_no), '[]')
            from nightshift.shard where job_id > $1),
        'attempts', (select coalesce(jsonb_agg(jsonb_build_object('job', job_id, 'shard', shard_no, 'attempt', attempt,
            'token', token, 'worker', worker_id, 'outcome', outcome) order by token), '[]') from nightshift.attempt where job_id > $1),
        'items', (select coalesce(jsonb_agg(jsonb_build_object('job', job_id, 'index', index, 'status', status, 'shard', shard_no,
            'attempt', attempt) order by job_id, index), '[]') from nightshift.item where job_id > $1),
        'draining', (select coalesce(jsonb_agg(id order by id), '[]') from nightshift.worker where drain),
        'n_events', (select count(*) from nightshift.event where job_id > $1),
        'n_logs', (select count(*) from nightshift.attempt_log where job_id > $1))::text";

impl World {
    /// Everything about jobs with ids greater than `after_job`.
    pub(crate) async fn read(connection: &mut PgConnection, after_job: i64) -> Self {
        let text: String =
            sqlx::query_scalar(READ).bind(after_job).fetch_one(connection).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn job(&self, id: i64) -> &Job {
        self.jobs.iter().find(|job| job.id == id).expect("a job of this sequence")
    }

    pub(crate) fn shard(&self, job: i64, shard: i32) -> Option<&Shard> {
        self.shards.iter().find(|row| (row.job, row.shard) == (job, shard))
    }

    /// Shards of a job that may be claimed, or are.
    pub(crate) fn open_shards(&self, job: i64) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(move |shard| {
            shard.job == job && matches!(shard.state, ShardState::Waiting | ShardState::Leased)
        })
    }

    /// Whether something of a job waits for a worker that has the model, if the time is right.
    pub(crate) fn is_claimable(&self, job: &Job, now: i64) -> bool {
        matches!(job.state, JobState::Ready | JobState::Closing)
            && !job.held
            && (job.n_items.is_some_and(|n| job.next_item < n)
                || self.open_shards(job.id).any(|shard| shard.ready_at.is_some_and(|at| at <= now)))
    }

    /// Whether the window that is stored is open. Closing a job takes no window.
    pub(crate) fn is_open(&self, job: &Job, now: i64) -> bool {
        job.state == JobState::Closing || (job.opens_at..job.closes_at).contains(&now)
    }
}
