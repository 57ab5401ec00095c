//! Where and when a job may run, and how its failures are tried again. The scheduler keeps these; none of them changes a byte.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::cron::Cron;
use crate::time::window::TimeWindow;
use crate::words::{RetryClass, WhenStillRunning};

/// What `schedule`, `resources`, `retry` and `limits` of a spec ask for. The default is: anywhere, at any time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Running {
    /// Labels that a worker must have.
    pub worker_labels: BTreeMap<String, String>,
    /// Memory that a worker's device must have, in bytes.
    pub min_memory_bytes: u64,
    /// Whether workers of different engine fingerprints may share the job.
    pub allow_mixed: bool,
    /// Engine milliseconds after which the job stops.
    pub max_gpu_ms: Option<u64>,
    /// How long an item may be in the engine, in milliseconds.
    pub item_timeout_ms: Option<u32>,
    /// When the job stops, finished or not, in Unix milliseconds.
    pub stop_at_unix_ms: Option<i64>,
    /// Before this nothing starts, in Unix milliseconds.
    pub not_before_unix_ms: Option<i64>,
    /// Jobs that must have finished before it starts.
    pub after: Vec<i64>,
    /// Whether somebody must release it first.
    pub hold: bool,
    /// When it may run.
    pub window: Option<TimeWindow>,
    /// When it is run again.
    pub cron: Option<Cron>,
    /// What becomes of a run that is due while an earlier one is not over.
    pub when_still_running: WhenStillRunning,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// Failures that are tried again; `None`: all.
    pub retry_classes: Option<Vec<RetryClass>>,
}

/// Pauses between the attempts of a shard. They double.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// After the first failure, in milliseconds.
    pub initial_ms: u32,
    /// The longest, in milliseconds.
    pub max_ms: u32,
    /// Whether each is drawn between nothing and its length.
    pub jitter: bool,
}

impl Default for Backoff {
    /// A second to a minute, drawn.
    fn default() -> Self {
        Self { initial_ms: 1_000, max_ms: 60_000, jitter: true }
    }
}

impl Backoff {
    /// A bound that is not given gives way to the one that is.
    pub(crate) fn new(initial_ms: Option<u32>, max_ms: Option<u32>, jitter: bool) -> Self {
        let usual = Self::default();
        let max = max_ms.unwrap_or(usual.max_ms.max(initial_ms.unwrap_or(0)));
        Self { initial_ms: initial_ms.unwrap_or(usual.initial_ms.min(max)), max_ms: max, jitter }
    }
}
