//! What a spec asks for about when and how much: as chance wishes it, and as it was promised when the job was planned. Whether
//! something may start is computed from the promise alone; what the database stored about it is compared, never believed.

use nightshift_jobs::{TimeWindow, WhenWindowCloses};
use nightshift_store::{Plan, Policy};
use serde::{Deserialize, Serialize};

/// Engine time of every item that a worker reports.
pub(crate) const ITEM_GPU_MS: i64 = 5;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// What a user asks for. Its JSON is the text of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) items: u8,
    pub(crate) shard_items: u8,
    pub(crate) max_attempts: u8,
    pub(crate) max_failed: Option<u8>,
    pub(crate) priority: u8,
    pub(crate) hold: bool,
    /// Engine time of so many items.
    pub(crate) max_gpu: Option<u8>,
    pub(crate) hours: Option<Hours>,
    /// Seconds from planning on.
    pub(crate) not_before: Option<u8>,
    /// An earlier job.
    pub(crate) after: Option<u8>,
}

/// A daily window, given from the minute in which the job is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hours {
    /// Minutes until it opens, less one.
    pub(crate) opens: u8,
    pub(crate) minutes: u8,
    pub(crate) rule: WhenWindowCloses,
}

/// What was promised to a job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promise {
    pub(crate) window: Option<TimeWindow>,
    pub(crate) not_before: Option<i64>,
    pub(crate) after: Vec<i64>,
    pub(crate) max_gpu_ms: Option<i64>,
}

impl Wish {
    /// The promise to a job that is planned `now`, when `earlier` jobs may be waited for.
    pub(crate) fn promise(&self, now: i64, earlier: &[i64]) -> Promise {
        let after = self.after.filter(|_| !earlier.is_empty());
        Promise {
            window: self.hours.map(|hours| hours.window(now)),
            not_before: self.not_before.map(|seconds| now + i64::from(seconds) * 1000),
            after: after
                .map(|number| earlier[usize::from(number) % earlier.len()])
                .into_iter()
                .collect(),
            max_gpu_ms: self.max_gpu.map(|items| i64::from(items) * ITEM_GPU_MS),
        }
    }

    /// Puts the wish and what was promised into a plan.
    pub(crate) fn put(&self, promise: &Promise, plan: &mut Plan) {
        plan.max_attempts = self.max_attempts.into();
        plan.max_failed_items = self.max_failed.map(i64::from);
        plan.priority = self.priority.into();
        let window = promise.window.as_ref();
        plan.policy = Policy {
            hold: self.hold,
            max_gpu_ms: promise.max_gpu_ms,
            not_before_unix_ms: promise.not_before,
            after: promise.after.clone(),
            time_window: window.map(|window| serde_json::to_value(window).expect("plain data")),
            ..plan.policy.clone()
        };
    }
}

impl Hours {
    fn window(self, now: i64) -> TimeWindow {
        let opens = now.rem_euclid(DAY) / MINUTE + i64::from(self.opens) - 1;
        let clock = |minute: i64| {
            let minute = minute.rem_euclid(24 * 60);
            format!("{:02}:{:02}", minute / 60, minute % 60)
        };
        let closes = opens + i64::from(self.minutes);
        let window = serde_json::json!({
            "window": format!("{}-{} UTC", clock(opens), clock(closes)),
            "when_closes": self.rule,
        });
        serde_json::from_value(window).expect("a window")
    }
}

impl Promise {
    /// What becomes of items in hand when the window closes; `None`: it never does.
    pub(crate) fn rule(&self) -> Option<WhenWindowCloses> {
        self.window.as_ref().map(TimeWindow::when_closes)
    }

    /// Whether the clock alone lets something start.
    pub(crate) fn is_open(&self, now: i64) -> bool {
        self.not_before.is_none_or(|at| at <= now) && self.is_inside(now)
    }

    /// Whether it is inside of the window.
    pub(crate) fn is_inside(&self, now: i64) -> bool {
        let opening = |window: &TimeWindow| window.opening(now).expect("it opens every day");
        let window = self.window.as_ref();
        window.is_none_or(|window| opening(window).opens_unix_ms <= now)
    }

    /// The next moment at which the answer to [`Promise::is_open`] may change.
    pub(crate) fn next_border(&self, now: i64) -> Option<i64> {
        let opening = self.window.as_ref().and_then(|window| window.opening(now));
        let borders = opening.map(|opening| [opening.opens_unix_ms, opening.closes_unix_ms]);
        (borders.into_iter().flatten()).chain(self.not_before).filter(|at| *at > now).min()
    }

    /// The next moment at which something may start, if that is not now.
    pub(crate) fn next_opening(&self, now: i64) -> Option<i64> {
        let from = now.max(self.not_before.unwrap_or(now));
        let opens = match &self.window {
            None => from,
            Some(window) => window.opening(from)?.opens_unix_ms.max(from),
        };
        (opens > now).then_some(opens)
    }
}
