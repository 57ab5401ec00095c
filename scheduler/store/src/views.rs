//! Rows of the views of schema `nightshift`; `read` reads them.

use serde::Serialize;

use crate::{AttemptOutcome, JobState, ShardKind, ShardState};

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
    /// `metadata.name`; `None` before the scheduler has read the spec.
    pub name: Option<String>,
    /// Kind; `None` before the scheduler has read the spec.
    pub kind: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// Nobody may claim from it.
    pub held: bool,
    /// Why it waits, in words; `None` when it runs or has ended.
    pub reason: Option<String>,
    /// The SQL function that lets it go on, when it waits for its user.
    pub call: Option<String>,
    /// What that function takes: the job, or its schedule.
    pub call_id: Option<i64>,
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
    /// `live`, `draining` or `gone` (it left, or was silent for a minute).
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
