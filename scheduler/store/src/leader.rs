//! What the leading scheduler writes. Every call carries the leader's term.

use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::leases::{millis, trusted_until};
use crate::{Error, Store};

/// Proof of leadership; needed by every call of a scheduler.
#[derive(Debug, Clone)]
pub struct LeaderTerm {
    /// Number of the term; grows with every change of leader.
    pub term: i64,
    /// Until when this process may believe it, by its own monotonic clock (two thirds of the ttl, counted from
    /// before the request was sent). The database checks the term at every call anyway.
    pub trusted_until: Instant,
}

/// A job that waits to be planned.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Its id.
    pub job: i64,
    /// The tenant's name.
    pub tenant: String,
    /// The YAML (or JSON) text.
    pub spec_text: String,
    /// Template variable `run.date`, `YYYY-MM-DD` (UTC day of the submission).
    pub run_date: String,
    /// Template variable `run.index`.
    pub run_index: i64,
    /// Prefixes that inputs of this tenant may have.
    pub input_prefixes: Vec<String>,
    /// Prefixes that destinations of this tenant may have.
    pub dest_prefixes: Vec<String>,
    /// It is a run of a schedule.
    pub scheduled: bool,
}

/// What planning found out; this is also the JSON of `nightshift.planned(term, job, plan)`.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// `metadata.name`.
    pub name: String,
    /// `text_to_image`, ...
    pub kind: String,
    /// `metadata.labels`, JSON object of strings.
    pub labels: serde_json::Value,
    /// The resolved spec; workers get it back unchanged.
    pub resolved: serde_json::Value,
    /// Warnings to show with the job, rendered; empty when none.
    pub warnings: String,
    /// Rendered destination with trailing slash, `s3://bucket/prefix/`.
    pub dest: String,
    /// `refuse`, `resume` or `overwrite`.
    pub on_existing: String,
    /// Every URI or prefix that inputs are read from (manifest, prefix; not each object); checked against the tenant's.
    pub inputs: Vec<String>,
    /// `"<model name>/<weights>/<kv_cache>"`; a worker must have announced it.
    pub model_key: String,
    /// Whether workers with different fingerprints may share the job.
    pub allow_mixed: bool,
    /// Higher goes first.
    pub priority: i32,
    /// Number of input rows; the chunks stored by [`Store::add_chunk`] must hold exactly these.
    pub n_rows: i64,
    /// Number of items.
    pub n_items: i64,
    /// Items a shard, 1 to 100,000; `None`: as many as take the worker that claims it about a minute.
    #[serde(serialize_with = "zero_for_none")]
    pub shard_items: Option<i32>,
    /// How many failed, and apart from it how many lost attempts a shard may have.
    pub max_attempts: i32,
    /// More failed items than this stop the job; `None`: never.
    pub max_failed_items: Option<i64>,
    /// Where and when it may run.
    #[serde(flatten)]
    pub policy: Policy,
}

/// The database keeps a number in any case.
#[expect(clippy::ref_option, reason = "serde calls it so")]
fn zero_for_none<S: Serializer>(items: &Option<i32>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i32(items.unwrap_or(0))
}

/// Where and when a job may run, and how its failures are tried again. The default is: anywhere, at any time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Policy {
    /// Labels `key=value` that a worker must have.
    pub worker_labels: Vec<String>,
    /// Memory that a worker's device must have, in bytes.
    pub min_memory_bytes: i64,
    /// Engine milliseconds after which the job stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gpu_ms: Option<i64>,
    /// When the job stops, finished or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_at_unix_ms: Option<i64>,
    /// Before this nothing starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before_unix_ms: Option<i64>,
    /// Jobs that must have finished before it starts.
    pub after: Vec<i64>,
    /// Whether somebody must release it first.
    pub hold: bool,
    /// `schedule.window`, its days and `when_window_closes`, kept so that the next window can be computed from the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_window: Option<serde_json::Value>,
    /// Begin of the current or next window; without it a job with a window waits until [`Store::open_windows`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at_unix_ms: Option<i64>,
    /// End of that window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closes_at_unix_ms: Option<i64>,
    /// Pause after the first failed attempt of a shard, in milliseconds; it doubles. `None`: a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<i32>,
    /// Longest such pause. `None`: a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff_ms: Option<i32>,
    /// Whether a pause is drawn between nothing and its length. `None`: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<bool>,
    /// Classes of failed attempts that are tried again. `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_classes: Option<Vec<String>>,
}

/// Why a spec is not planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The key of the spec that it is about: `input`, `output.dest`, `schedule.after`, `notify`.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do, or what is allowed.
    pub hint: Option<String>,
}

impl Refusal {
    /// From the fields of an answer; nothing is refused where they are null.
    pub(crate) fn read(
        place: Option<String>,
        message: Option<String>,
        hint: Option<String>,
    ) -> Option<Self> {
        Some(Self { place: place?, message: message?, hint })
    }
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// The job may be claimed now.
    Ready,
    /// The destination or an input is not allowed, or belongs to another job: say so with [`Store::rejected`].
    Refused(Refusal),
    /// The job is not `submitted` any more (cancelled, or planned before): nothing was done.
    Gone,
}

/// What a tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TickCounts {
    /// Leases that ran out.
    pub expired: i64,
    /// Jobs that reached a final state.
    pub settled: i64,
    /// Close shards made.
    pub closing: i64,
    /// Jobs that still wait to be planned.
    pub submitted: i64,
    /// Jobs that are neither final nor submitted.
    pub active: i64,
}

impl Store {
    /// Becomes or stays leader for `ttl`. `None`: another one leads. Call it again well before two thirds of `ttl`. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn lead(&self, holder: &str, ttl: Duration) -> Result<Option<LeaderTerm>, Error> {
        let sent = Instant::now();
        let term =
            sqlx::query_scalar!("/* lead */ select nightshift.lead($1, $2)", holder, millis(ttl))
                .fetch_one(&self.pool)
                .await?;
        Ok(term.map(|term| LeaderTerm { term, trusted_until: trusted_until(sent, ttl) }))
    }

    /// Gives leadership back at once, so that another scheduler need not wait for the ttl. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn resign(&self, term: &LeaderTerm) -> Result<(), Error> {
        sqlx::query!("/* resign */ select nightshift.resign($1)", term.term)
            .fetch_one(&self.pool)
            .await?;
        Ok(())
    }

    /// Jobs that wait to be planned, oldest first, at most `limit`. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn submitted(&self, term: &LeaderTerm, limit: i64) -> Result<Vec<Submitted>, Error> {
        Ok(sqlx::query_as!(
            Submitted,
            r#"/* submitted */ select job_id as "job!", tenant as "tenant!", spec_text as "spec_text!", run_date::text as "run_date!",
                run_index as "run_index!", input_prefixes as "input_prefixes!", dest_prefixes as "dest_prefixes!", scheduled as "scheduled!"
            from nightshift.submitted($1, $2)"#,
            term.term,
            i32::try_from(limit).unwrap_or(i32::MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Stores input rows `first_row..first_row + n_rows` (gzip of JSON lines; at most 1,000 rows). Start at 0: that
    /// drops the chunks of an earlier, unfinished planning. `false`: the job is not `submitted` any more. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn add_chunk(
        &self,
        term: &LeaderTerm,
        job: i64,
        first_row: i64,
        n_rows: i32,
        data: &[u8],
    ) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"/* add_chunk */ select nightshift.add_chunk($1, $2, $3, $4, $5) as "stored!""#,
            term.term,
            job,
            first_row,
            n_rows,
            data,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Makes a job ready. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`]; [`Error::Refused`] when the chunks do not hold `n_rows` rows (a bug of the scheduler).
    pub async fn planned(
        &self,
        term: &LeaderTerm,
        job: i64,
        plan: &Plan,
    ) -> Result<Planned, Error> {
        let plan =
            serde_json::to_value(plan).map_err(|e| Error::inconsistent("planned.plan", e))?;
        let row = sqlx::query!(
            r#"/* planned */ select outcome as "outcome!", (refused).place, (refused).message, (refused).hint from nightshift.planned($1, $2, $3)"#,
            term.term,
            job,
            plan,
        )
        .fetch_one(&self.pool)
        .await?;
        match row.outcome.as_str() {
            "ready" => Ok(Planned::Ready),
            "refused" => Refusal::read(row.place, row.message, row.hint)
                .map(Planned::Refused)
                .ok_or_else(|| Error::inconsistent("planned.refused", "null")),
            "gone" => Ok(Planned::Gone),
            other => Err(Error::inconsistent("planned.outcome", other)),
        }
    }

    /// Rejects a job; `errors` is the rendered text with carets, name and kind are those that its spec shows. `false`: not `submitted`
    /// any more. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn rejected(
        &self,
        term: &LeaderTerm,
        job: i64,
        errors: &str,
        name: Option<&str>,
        kind: Option<&str>,
    ) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"/* rejected */ select nightshift.rejected($1, $2, $3, $4, $5) as "done!""#,
            term.term,
            job,
            errors,
            name,
            kind,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Expires leases, settles jobs, makes close shards; level-triggered, about once a second. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn tick(&self, term: &LeaderTerm) -> Result<TickCounts, Error> {
        Ok(sqlx::query_as!(
            TickCounts,
            r#"/* tick */ select expired as "expired!", settled as "settled!", closing as "closing!", submitted as "submitted!", active as "active!"
            from nightshift.tick($1)"#,
            term.term,
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
