//! The worker's health, which its reports carry.

use std::time::Instant;

use serde_json::{Value, json};

use super::pace::Pace;

/// Counters of one process.
#[derive(Debug)]
pub(crate) struct Health {
    began: Instant,
    /// Pictures that the engine finished.
    pub(crate) pictures: u64,
    /// Items that became final here, by status.
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Leases that were lost.
    pub(crate) lost: u64,
    pub(crate) pace: Pace,
    /// What is wrong with this machine, until a lease is finished again.
    pub(crate) machine: Option<String>,
}

impl Health {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            began: Instant::now(),
            pictures: 0,
            ok: 0,
            failed: 0,
            skipped: 0,
            lost: 0,
            pace: Pace::new(slots),
            machine: None,
        }
    }

    /// The JSON on the worker's row; `items` are `job/index` of what is in the slots.
    pub(crate) fn json(
        &self,
        slots: usize,
        items: &[String],
        draining: bool,
        troubles: Value,
    ) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.began.elapsed().as_secs(),
            "slots": slots,
            "items": items,
            "item_ms": self.pace.json(),
            "draining": draining,
            "troubles": troubles,
            "machine": self.machine,
            "pictures_generated": self.pictures,
            "items_ok": self.ok,
            "items_failed": self.failed,
            "items_skipped": self.skipped,
            "leases_lost": self.lost,
            "rss_bytes": rss_bytes(),
        })
    }
}

/// Resident memory of this process; none where the system does not tell.
fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_told() {
        assert!(rss_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
