//! Where and when a spec may run, in the store's terms.

use nightshift_jobs::Running;
use nightshift_store::Policy;

pub(crate) fn policy_of(running: &Running) -> Policy {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let millis = |ms: u32| Some(i32::try_from(ms).unwrap_or(i32::MAX));
    let labels = running.worker_labels.iter();
    let window = running.window.as_ref();
    let classes = running.retry_classes.as_ref();
    Policy {
        worker_labels: labels.map(|(key, value)| format!("{key}={value}")).collect(),
        min_memory_bytes: signed(running.min_memory_bytes),
        max_gpu_ms: running.max_gpu_ms.map(signed),
        stop_at_unix_ms: running.stop_at_unix_ms,
        not_before_unix_ms: running.not_before_unix_ms,
        after: running.after.clone(),
        hold: running.hold,
        time_window: window
            .map(|window| serde_json::to_value(window).expect("a window is plain data")),
        // The scheduler's next look computes them by the database's clock.
        opens_at_unix_ms: None,
        closes_at_unix_ms: None,
        backoff_ms: millis(running.backoff.initial_ms),
        max_backoff_ms: millis(running.backoff.max_ms),
        jitter: Some(running.backoff.jitter),
        retry_classes: classes
            .map(|classes| classes.iter().map(|class| class.as_str().to_owned()).collect()),
    }
}
