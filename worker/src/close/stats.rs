//! `_nightshift/stats.json`: the job in numbers.

use std::collections::BTreeMap;

use nightshift_store::{ItemRow, ItemStatus};
use serde_json::{Value, json};

/// Sums over the items of a job.
#[derive(Debug, Default)]
pub(super) struct Stats {
    ok: u64,
    failed: u64,
    skipped: u64,
    errors: BTreeMap<String, u64>,
    files: u64,
    bytes: i64,
    engine_ms: i64,
    tokens: i64,
    steps: i64,
    first_unix_ms: Option<i64>,
    last_unix_ms: Option<i64>,
}

impl Stats {
    pub(super) fn add(&mut self, item: &ItemRow) {
        let report = &item.report;
        match report.status {
            ItemStatus::Ok => self.ok += 1,
            ItemStatus::Failed => self.failed += 1,
            ItemStatus::Skipped => self.skipped += 1,
        }
        if let Some(code) = &report.error_code {
            *self.errors.entry(code.clone()).or_default() += 1;
        }
        self.files += report.artifacts.len() as u64;
        self.bytes += report.artifacts.iter().map(|artifact| artifact.bytes).sum::<i64>();
        self.engine_ms += i64::from(report.gpu_ms.unwrap_or(0));
        self.tokens += i64::from(report.tokens.unwrap_or(0));
        self.steps += i64::from(report.steps.unwrap_or(0));
        let at = item.finished_unix_ms;
        self.first_unix_ms = Some(self.first_unix_ms.map_or(at, |first| first.min(at)));
        self.last_unix_ms = Some(self.last_unix_ms.map_or(at, |last| last.max(at)));
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "items": { "ok": self.ok, "failed": self.failed, "skipped": self.skipped },
            "errors": self.errors,
            "files": self.files,
            "bytes": self.bytes,
            "engine_seconds": self.engine_ms as f64 / 1000.0,
            "tokens": self.tokens,
            "steps": self.steps,
            "first_item_unix_ms": self.first_unix_ms,
            "last_item_unix_ms": self.last_unix_ms,
        })
    }
}
