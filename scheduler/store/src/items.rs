//! Items: one row per finished unit of output.

use serde::{Deserialize, Serialize};

use crate::state::states;
use crate::{Error, Store};

states! {
    /// How an item ended.
    ItemStatus {
        /// All of its objects exist with the recorded sizes and sha256.
        Ok = "ok",
        /// It has an error code and no object.
        Failed = "failed",
        /// Left out on purpose (`on_bad_input: skip`).
        Skipped = "skipped",
    }
}

/// A stored object of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is: `image`, `map`, `joint`, ...
    pub role: String,
    /// Key relative to the job's destination.
    pub key: String,
    /// Size in bytes.
    pub bytes: i64,
    /// Lower-case hex sha256 of the object.
    pub sha256: String,
}

/// A final item as a worker reports it; this is also the JSON that SQL by hand gives to `nightshift.progress(.., items, ..)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemReport {
    /// Index within the job.
    pub index: i64,
    /// How it ended.
    pub status: ItemStatus,
    /// Lower-case hex id; required when ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The seed, 0 to 2^63-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// The engine's fingerprint (hex); required when ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Stable code; required when failed or skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Its objects, the primary file first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Engine time of this item in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_ms: Option<i32>,
    /// Tokens generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i32>,
    /// Forward passes used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<i32>,
    /// Anything else worth keeping (given picture facts, crop box); JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<serde_json::Value>,
}

/// A final item as stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemRow {
    /// The job.
    pub job: i64,
    /// What the worker reported.
    #[serde(flatten)]
    pub report: ItemReport,
    /// The shard it belongs to.
    pub shard: i32,
    /// The attempt that reported it; 0 when the store itself failed it.
    pub attempt: i32,
    /// The worker that reported it.
    pub worker: Option<i64>,
    /// When it was recorded.
    pub finished_unix_ms: i64,
}

/// Which items to read.
#[derive(Debug, Clone, Default)]
pub struct ItemFilter {
    /// Only of this status.
    pub status: Option<ItemStatus>,
    /// Only with this error code.
    pub error_code: Option<String>,
}

impl Store {
    /// Final items of a job with index > `after_index`, by index, at most `limit` (1 to 10,000). Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`]. A job of somebody else has no rows.
    pub async fn items(
        &self,
        job: i64,
        filter: &ItemFilter,
        after_index: i64,
        limit: i64,
    ) -> Result<Vec<ItemRow>, Error> {
        sqlx::query_as!(
            StoredItem,
            r#"/* items */ select index as "index!", status::text as "status!: ItemStatus", item_id, seed, shard_no as "shard!", attempt as "attempt!",
                worker_id as worker, error_code, error_message, nightshift.artifacts_json(artifacts) as "artifacts!", gpu_ms, tokens, steps,
                fingerprint, info, floor(extract(epoch from finished_at) * 1000)::bigint as "finished_unix_ms!"
            from nightshift.items
            where job_id = $1 and index > $2 and ($3::text is null or status::text = $3) and ($4::text is null or error_code = $4)
            order by index limit $5"#,
            job,
            after_index,
            filter.status.map(ItemStatus::as_str),
            filter.error_code,
            limit.clamp(1, 10_000),
        )
        .fetch_all(&self.pool)
        .await?
        .into_iter()
        .map(|row| row.into_row(job))
        .collect()
    }
}

/// An item as the database sends it.
pub(crate) struct StoredItem {
    pub(crate) index: i64,
    pub(crate) status: ItemStatus,
    pub(crate) item_id: Option<String>,
    pub(crate) seed: Option<i64>,
    pub(crate) shard: i32,
    pub(crate) attempt: i32,
    pub(crate) worker: Option<i64>,
    pub(crate) error_code: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) artifacts: serde_json::Value,
    pub(crate) gpu_ms: Option<i32>,
    pub(crate) tokens: Option<i32>,
    pub(crate) steps: Option<i32>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) info: Option<serde_json::Value>,
    pub(crate) finished_unix_ms: i64,
}

impl StoredItem {
    pub(crate) fn into_row(self, job: i64) -> Result<ItemRow, Error> {
        Ok(ItemRow {
            job,
            report: ItemReport {
                index: self.index,
                status: self.status,
                item_id: self.item_id,
                seed: self.seed,
                fingerprint: self.fingerprint,
                error_code: self.error_code,
                error_message: self.error_message,
                artifacts: serde_json::from_value(self.artifacts)
                    .map_err(|e| Error::inconsistent("items.artifacts", e))?,
                gpu_ms: self.gpu_ms,
                tokens: self.tokens,
                steps: self.steps,
                info: self.info,
            },
            shard: self.shard,
            attempt: self.attempt,
            worker: self.worker,
            finished_unix_ms: self.finished_unix_ms,
        })
    }
}
