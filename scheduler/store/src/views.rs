//! The read API: the views of schema `nightshift`, under row-level security.

use serde::Serialize;

use crate::{AttemptOutcome, Error, JobState, ShardKind, ShardState, Store};

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only these states; empty: all.
    pub states: Vec<JobState>,
    /// Only of this tenant.
    pub tenant: Option<String>,
    /// Only with this name.
    pub name: Option<String>,
    /// Only ids below this one, for paging.
    pub before: Option<i64>,
}

/// A job, as in the view `jobs`.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    /// Its id.
    pub id: i64,
    /// The tenant's name.
    pub tenant: String,
    /// `metadata.name`; `None` before planning.
    pub name: Option<String>,
    /// Kind; `None` before planning.
    pub kind: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// Nobody may claim from it.
    pub held: bool,
    /// Why it waits, in words; `None` when it runs or has ended.
    pub reason: Option<String>,
    /// Higher goes first.
    pub priority: i32,
    /// 1, and one more after each retry.
    pub round: i32,
    /// Labels, JSON object.
    pub labels: serde_json::Value,
    /// Destination with trailing slash.
    pub dest: Option<String>,
    /// `"<model name>/<weights>/<kv_cache>"`.
    pub model_key: Option<String>,
    /// Fingerprint it is pinned to.
    pub fingerprint: Option<String>,
    /// Number of input rows.
    pub n_rows: Option<i64>,
    /// Number of items.
    pub n_items: Option<i64>,
    /// Items that are ok.
    pub n_ok: i64,
    /// Items that failed.
    pub n_failed: i64,
    /// Items left out on purpose.
    pub n_skipped: i64,
    /// Items in engine slots, by the workers' last reports.
    pub n_in_flight: i64,
    /// Shards leased now.
    pub n_leased: i64,
    /// Rejected: the mistakes with carets. Failed: why.
    pub errors: Option<String>,
    /// Warnings of the spec, rendered.
    pub warnings: Option<String>,
    /// Who submitted it.
    pub submitted_by: String,
    /// Its idempotency key.
    pub idempotency_key: Option<String>,
    /// When it was submitted.
    pub submitted_unix_ms: i64,
    /// When it became ready.
    pub planned_unix_ms: Option<i64>,
    /// When its first shard was claimed.
    pub started_unix_ms: Option<i64>,
    /// When it ended.
    pub finished_unix_ms: Option<i64>,
}

/// Something that happened, as in the view `events`.
#[derive(Debug, Clone, Serialize)]
pub struct EventView {
    /// Grows with time.
    pub id: i64,
    /// When.
    pub at_unix_ms: i64,
    /// The job, if it concerns one.
    pub job: Option<i64>,
    /// The shard, if it concerns one.
    pub shard: Option<i32>,
    /// The worker, if it concerns one.
    pub worker: Option<i64>,
    /// `submitted`, `ready`, `lease_lost`, ...
    pub what: String,
    /// One sentence.
    pub message: String,
}

/// A text of log lines of an attempt.
#[derive(Debug, Clone, Serialize)]
pub struct LogLine {
    /// Grows with time; pass the last one as `after`.
    pub id: i64,
    /// When the store got it.
    pub at_unix_ms: i64,
    /// Shard of the attempt.
    pub shard: i32,
    /// Number of the attempt.
    pub attempt: i32,
    /// The worker's lines, without a trailing newline.
    pub text: String,
}

/// A worker, as in the view `workers`.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerView {
    /// Its id.
    pub id: i64,
    /// Name for people.
    pub name: String,
    /// `live`, `draining` or `gone` (silent for a minute).
    pub state: String,
    /// Model keys to fingerprints.
    pub models: serde_json::Value,
    /// What it said about itself.
    pub info: serde_json::Value,
    /// Its last health.
    pub health: serde_json::Value,
    /// Shards it holds, of jobs one may see.
    pub n_leased: i64,
    /// When it registered.
    pub registered_unix_ms: i64,
    /// When it was last heard.
    pub seen_unix_ms: i64,
}

/// A shard that was carved, as in the view `shards`.
#[derive(Debug, Clone, Serialize)]
pub struct ShardView {
    /// Number within its job.
    pub shard: i32,
    /// What it asks for.
    pub kind: ShardKind,
    /// Where it stands.
    pub state: ShardState,
    /// First item index.
    pub first_item: i64,
    /// One past the last item index.
    pub end_item: i64,
    /// Attempts so far.
    pub attempt: i32,
    /// Failed attempts of this round.
    pub n_failed_attempts: i32,
    /// Lost attempts of this round.
    pub n_lost_attempts: i32,
    /// Items that are final.
    pub n_final: i64,
    /// Who holds it.
    pub worker: Option<i64>,
    /// When it may be claimed again, when it waits.
    pub ready_unix_ms: Option<i64>,
    /// Until when it is leased.
    pub leased_until_unix_ms: Option<i64>,
}

/// One lease of a shard, as in the view `attempts`.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptView {
    /// The shard.
    pub shard: i32,
    /// Number of the attempt.
    pub attempt: i32,
    /// Who had it.
    pub worker: i64,
    /// How it ended; `None` while it runs.
    pub outcome: Option<AttemptOutcome>,
    /// Error code, when failed or lost.
    pub code: Option<String>,
    /// Error in words.
    pub message: Option<String>,
    /// When it was claimed.
    pub started_unix_ms: i64,
    /// When it ended.
    pub ended_unix_ms: Option<i64>,
}

/// A stored object, as in the view `outputs`.
#[derive(Debug, Clone, Serialize)]
pub struct OutputView {
    /// Item index.
    pub index: i64,
    /// Hex id of the item.
    pub item_id: String,
    /// What it is.
    pub role: String,
    /// Destination and key.
    pub uri: String,
    /// Size in bytes.
    pub bytes: i64,
    /// Hex sha256.
    pub sha256: String,
}

impl Store {
    /// Jobs, newest first, at most `limit`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn jobs(&self, filter: &JobFilter, limit: i64) -> Result<Vec<JobView>, Error> {
        let _ = (filter, limit);
        todo!()
    }

    /// One job. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn job(&self, job: i64) -> Result<JobView, Error> {
        let _ = job;
        todo!()
    }

    /// The spec of a job as submitted. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn spec_text(&self, job: i64) -> Result<String, Error> {
        let _ = job;
        todo!()
    }

    /// The resolved spec of a job; `None` before planning. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn resolved(&self, job: i64) -> Result<Option<serde_json::Value>, Error> {
        let _ = job;
        todo!()
    }

    /// Events of a job (`None`: of all) with id > `after`, in order, at most `limit`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn events(
        &self,
        job: Option<i64>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventView>, Error> {
        let _ = (job, after, limit);
        todo!()
    }

    /// Log texts of a job (or of the shard that holds `item`) with id > `after`, in order, at most 1,000. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn logs(
        &self,
        job: i64,
        item: Option<i64>,
        after: i64,
    ) -> Result<Vec<LogLine>, Error> {
        let _ = (job, item, after);
        todo!()
    }

    /// Workers heard within the last day, newest first. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        todo!()
    }

    /// Carved shards of a job that are not finished, by number, at most 1,000. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn open_shards(&self, job: i64) -> Result<Vec<ShardView>, Error> {
        let _ = job;
        todo!()
    }

    /// Attempts of a job that did not simply finish, newest first, at most `limit`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn attempts(&self, job: i64, limit: i64) -> Result<Vec<AttemptView>, Error> {
        let _ = (job, limit);
        todo!()
    }

    /// Objects of ok items with item index > `after_index`, by index, of at most `limit` items. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn outputs(
        &self,
        job: i64,
        after_index: i64,
        limit: i64,
    ) -> Result<Vec<OutputView>, Error> {
        let _ = (job, after_index, limit);
        todo!()
    }
}
