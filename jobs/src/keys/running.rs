//! `schedule`, `resources`, `retry`, `limits`, `notify`: when and where a job runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::keys::schema;
use crate::spec::notify::NotifyEvent;
use crate::words::{Day, RetryClass, WhenStillRunning, WhenWindowCloses};

/// When the job may run.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSchedule {
    /// For example `"22:00-06:00 Europe/Berlin"`.
    pub(crate) window: Option<String>,
    /// The days on which the window opens.
    pub(crate) days: Option<Vec<Day>>,
    pub(crate) when_window_closes: Option<WhenWindowCloses>,
    /// Nothing starts before, for example `"2026-11-25T22:00 Europe/Berlin"`.
    pub(crate) not_before: Option<String>,
    /// Ids of jobs that must have finished before this one starts.
    #[schemars(length(max = 64), inner(range(min = 1)))]
    pub(crate) after: Option<Vec<i64>>,
    /// Whether it waits until somebody releases it.
    pub(crate) hold: Option<bool>,
    /// Five fields and a time zone, for example `"0 21 * * 1-5 Europe/Berlin"`.
    pub(crate) cron: Option<String>,
    /// What becomes of a run that is due while an earlier one is not over.
    pub(crate) when_still_running: Option<WhenStillRunning>,
}

/// What the job needs.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawResources {
    pub(crate) gpu: Option<RawGpu>,
    /// Higher runs first; default 50.
    #[schemars(range(min = 0, max = 100))]
    pub(crate) priority: Option<i32>,
    /// Labels that a worker must have.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// Whether workers of different engine fingerprints may share the job.
    pub(crate) allow_mixed: Option<bool>,
    /// Items that are leased together, exactly; without it as many as take the worker that leases them about a minute, and fewer near the end.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) shard_items: Option<u64>,
}

/// What the job needs of a GPU.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGpu {
    /// For example `40GiB`.
    pub(crate) min_memory: Option<String>,
}

/// How failures are tried again.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetry {
    /// How often a shard is tried; default 3.
    #[schemars(range(min = 1, max = 20))]
    pub(crate) max_attempts: Option<u32>,
    pub(crate) backoff: Option<RawBackoff>,
    /// What is tried again.
    pub(crate) errors: Option<Vec<RetryClass>>,
}

/// How long to wait before the next try.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBackoff {
    /// For example `10s`.
    pub(crate) initial: Option<String>,
    /// For example `10m`.
    pub(crate) max: Option<String>,
    pub(crate) jitter: Option<Jitter>,
}

/// How waiting times are spread.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Jitter {
    Full,
    None,
}

/// When the job stops by itself.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimits {
    #[schemars(range(min = 0))]
    pub(crate) max_gpu_hours: Option<f64>,
    /// A job with more items is refused.
    #[schemars(range(min = 1))]
    pub(crate) max_items: Option<u64>,
    /// A number, or a share such as `5%`.
    #[schemars(schema_with = "schema::count_or_share")]
    pub(crate) max_failed_items: Option<Value>,
    /// An item that takes longer in the engine fails, for example `10m`.
    pub(crate) item_timeout: Option<String>,
    /// For example `"2026-11-25T06:00 Europe/Berlin"`.
    pub(crate) stop_at: Option<String>,
}

/// Who is told of what.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNotify {
    /// `https://` or `http://` address.
    pub(crate) webhook: Option<String>,
    pub(crate) events: Option<Vec<NotifyEvent>>,
    /// Name of the environment variable that holds the signing secret.
    pub(crate) secret_env: Option<String>,
}
