//! What is configured for a scheduler.

use std::time::Duration;

use super::Config;

/// What is configured for a scheduler.
#[must_use]
pub fn scheduler_config(config: &Config) -> nightshift_scheduler::Config {
    let mut scheduler = nightshift_scheduler::Config::new(process_name());
    scheduler.tick = Duration::from_millis(config.number("scheduler.tick_ms"));
    scheduler
}

/// Host name and process id.
pub(crate) fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}
