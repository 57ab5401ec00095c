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

/// A final item as a worker reports it; this is also the JSON of `nightshift.progress(.., items, ..)`.
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
        let _ = (job, filter, after_index, limit);
        todo!()
    }
}
