//! Leases: the right to work on a shard until a time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::items::StoredItem;
use crate::state::states;
use crate::{Error, ItemRow, ItemStatus, Store, WorkerId};

states! {
    /// What a shard asks for.
    ShardKind {
        /// Compute the items `first_item..end_item`.
        Items = "items",
        /// All items are final: write the job's metadata and `_SUCCESS`; `first_item..end_item` is the whole job.
        Close = "close",
    }
}

/// The right to work on one shard. Every write of a worker takes one.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Who holds it.
    pub worker: WorkerId,
    /// The job.
    pub job: i64,
    /// The shard's number within its job.
    pub shard: i32,
    /// What to do.
    pub kind: ShardKind,
    /// First item index.
    pub first_item: i64,
    /// One past the last item index.
    pub end_item: i64,
    /// The fence: new at every claim and at every expiry.
    pub token: i64,
    /// Number of this attempt at the shard, from 1; never used twice for a shard.
    pub attempt: i32,
    /// Items that must have the engine for themselves: workers died twice while they were in it.
    pub alone: Vec<i64>,
    /// How long the database grants the lease from each claim and each progress call.
    pub lease: Duration,
    /// Until when this process may act on the lease, by its own monotonic clock: two thirds of the lease, counted
    /// from before the last successful request was sent. Past it: stop, publish nothing.
    pub trusted_until: Instant,
}

impl Lease {
    /// Whether this process may still act on the lease.
    #[must_use]
    pub fn is_trusted(&self, now: Instant) -> bool {
        now < self.trusted_until
    }
}

/// What a worker needs to know of a job; immutable within a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobInfo {
    /// Id of the job.
    pub job: i64,
    /// Name from the spec.
    pub name: String,
    /// The tenant's name.
    pub tenant: String,
    /// Kind from the spec, for example `text_to_image`.
    pub kind: String,
    /// The resolved spec, as given to [`Store::planned`].
    pub resolved: serde_json::Value,
    /// The spec as submitted.
    pub spec_text: String,
    /// Hex sha256 of the spec text.
    pub spec_sha256: String,
    /// Rendered destination with trailing slash.
    pub dest: String,
    /// 1 at first, one more after each retry by a user.
    pub round: i32,
    /// Number of items of the job.
    pub n_items: i64,
    /// Number of input rows of the job.
    pub n_rows: i64,
    /// Template variable `run.date`, `YYYY-MM-DD`.
    pub run_date: String,
    /// Template variable `run.index`.
    pub run_index: i64,
    /// Time of submission.
    pub submitted_unix_ms: i64,
    /// Prefixes that inputs of this tenant may have.
    pub input_prefixes: Vec<String>,
    /// Prefixes that destinations of this tenant may have.
    pub dest_prefixes: Vec<String>,
    /// The fingerprint the job is pinned to; `None` when it allows mixed ones.
    pub fingerprint: Option<String>,
}

/// Consecutive input rows of a job, as the scheduler stored them.
#[derive(Debug, Clone)]
pub struct InputChunk {
    /// Index of the first row.
    pub first_row: i64,
    /// Number of rows.
    pub n_rows: i32,
    /// gzip of JSON lines, one `nightshift_jobs::InputRow` a line.
    pub data: Vec<u8>,
}

impl Store {
    /// Takes up to `n` (1 to 64) shards that this worker can run now. Role: worker. An empty list means: nothing
    /// to do, ask again after a pause or a [`crate::Notice::Work`].
    ///
    /// # Errors
    /// [`Error::UnknownWorker`], [`Error::Unreachable`].
    pub async fn claim(
        &self,
        worker: WorkerId,
        n: u32,
        lease: Duration,
    ) -> Result<Vec<Lease>, Error> {
        let lease_ms = millis(lease);
        let sent = Instant::now();
        let rows = sqlx::query!(
            r#"/* claim */ select job_id as "job!", shard_no as "shard!", kind::text as "kind!: ShardKind", first_item as "first_item!",
                end_item as "end_item!", token as "token!", attempt as "attempt!", alone as "alone!"
            from nightshift.claim($1, $2, $3)"#,
            worker.0,
            i32::try_from(n).unwrap_or(i32::MAX),
            lease_ms,
        )
        .fetch_all(&self.pool)
        .await?;
        assert!(rows.len() <= n as usize, "claim returned more shards than were asked for");
        Ok(rows
            .into_iter()
            .map(|row| Lease {
                worker,
                job: row.job,
                shard: row.shard,
                kind: row.kind,
                first_item: row.first_item,
                end_item: row.end_item,
                token: row.token,
                attempt: row.attempt,
                alone: row.alone,
                lease,
                trusted_until: trusted_until(sent, lease),
            })
            .collect())
    }

    /// The job behind a lease; ask once per job and round. Role: worker.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn job_info(&self, lease: &Lease) -> Result<JobInfo, Error> {
        let info = sqlx::query_scalar!(
            r#"/* job_info */ select nightshift.job_info($1, $2, $3, $4)"#,
            lease.worker.0,
            lease.job,
            lease.shard,
            lease.token,
        )
        .fetch_one(&self.pool)
        .await?;
        serde_json::from_value(info.ok_or(Error::LeaseLost)?)
            .map_err(|e| Error::inconsistent("job_info", e))
    }

    /// The chunks that hold input rows `from_row..to_row`, in order; the first and last may hold more. Role: worker.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn inputs(
        &self,
        lease: &Lease,
        from_row: i64,
        to_row: i64,
    ) -> Result<Vec<InputChunk>, Error> {
        Ok(sqlx::query_as!(
            InputChunk,
            r#"/* inputs */ select first_row as "first_row!", n_rows as "n_rows!", data as "data!"
            from nightshift.inputs($1, $2, $3, $4, $5, $6)"#,
            lease.worker.0,
            lease.job,
            lease.shard,
            lease.token,
            from_row,
            to_row,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Finished items of the shard's range (close: of the whole job) with index > `after_index`, by index, at most
    /// `limit` (1 to 10,000). Start with `after_index = -1`; an empty page is the end. Role: worker.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn finished(
        &self,
        lease: &Lease,
        after_index: i64,
        limit: i64,
    ) -> Result<Vec<ItemRow>, Error> {
        sqlx::query_as!(
            StoredItem,
            r#"/* finished */ select index as "index!", status as "status!: ItemStatus", item_id, seed, shard_no as "shard!", attempt as "attempt!",
                worker_id as worker, error_code, error_message, artifacts as "artifacts!", gpu_ms, tokens, steps, fingerprint, info,
                finished_unix_ms as "finished_unix_ms!"
            from nightshift.finished($1, $2, $3, $4, $5, $6)"#,
            lease.worker.0,
            lease.job,
            lease.shard,
            lease.token,
            after_index,
            i32::try_from(limit).unwrap_or(i32::MAX),
        )
        .fetch_all(&self.pool)
        .await?
        .into_iter()
        .map(|row| row.into_row(lease.job))
        .collect()
    }
}

/// Two thirds of the lease, counted from before the request was sent: whatever the network or this process's
/// scheduling adds makes the trust shorter, never longer.
pub(crate) fn trusted_until(sent: Instant, lease: Duration) -> Instant {
    sent + lease * 2 / 3
}

pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
