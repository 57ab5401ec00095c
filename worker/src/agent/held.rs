//! One lease in the agent's hands: what is being done for it, and what its tasks' answers mean.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nightshift_jobs::Item;
use nightshift_store::{
    ItemReport, ItemStatus, Lease, Report, ShardKind, Verdict, signed, unsigned,
};
use serde_json::Value;
use tokio::task::AbortHandle;

use super::health::Health;
use super::log::AttemptLog;
use super::news::{Answer, End, News};
use crate::failure::{Failure, ShardError};
use crate::item::feed::{Fed, Prepared};
use crate::lease::{Guard, Keeper, guard};
use crate::retry::jitter;

/// Items of one report; the store takes 10,000.
const REPORT_ITEMS_MAX: usize = 5_000;

/// What the agent is doing with a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Work until all items are final.
    Running,
    /// Finish what is in the slots, then give back.
    Draining,
    /// Drop what is in the slots, then give back.
    Dropping,
    /// Drop what is in the slots, then report the failure of the attempt.
    Failing { code: &'static str, message: String },
}

/// What the agent does after a task of a lease has answered.
pub(super) enum Then {
    Nothing,
    Turn(Mode),
    /// The lease is not ours any more, for this reason.
    Lose(String),
    /// It has ended as asked: all its items are final, or it was given back.
    Over {
        finished: bool,
    },
    /// These items were reported to the database: they go into their slots.
    Admit(Vec<Prepared>),
    /// This machine is in trouble: the lease is given back, and this worker claims more slowly.
    Rest(String),
    /// The object store does not know this worker: all leases are given back.
    Unauthenticated(String),
}

/// A lease and everything that is done for it.
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) keeper: Keeper,
    pub(super) guard: Guard,
    pub(super) log: AttemptLog,
    pub(super) mode: Mode,
    /// The task that feeds or closes.
    pub(super) task: Option<AbortHandle>,
    /// Items of the range that are not final yet; for a close shard 1 until its files are written.
    pub(super) remaining: u64,
    /// Items that enter the engine once they have been reported to the database.
    pub(super) entering: Vec<Prepared>,
    /// Tickets in the engine, and their item indices.
    pub(super) in_slots: BTreeMap<u64, i64>,
    /// Pictures being encoded and uploaded.
    pub(super) publishing: usize,
    /// Final items that were not reported.
    pub(super) pending: Vec<ItemReport>,
    /// A call about this lease is on its way.
    pub(super) calling: bool,
    /// Nothing was reported yet.
    pub(super) silent: bool,
    /// When the next report is due.
    pub(super) next_report: Instant,
    /// Nothing is sent before: the last call failed in passing.
    pub(super) not_before: Instant,
}

impl Held {
    pub(super) fn new(lease: Lease, next_report: Instant) -> Self {
        let now = Instant::now();
        let (keeper, guard) = guard(lease.trusted_until);
        let remaining = match lease.kind {
            ShardKind::Items => unsigned(lease.end_item - lease.first_item),
            ShardKind::Close => 1,
        };
        let mut log = AttemptLog::new(now);
        log.line(&match lease.kind {
            ShardKind::Items => format!(
                "attempt {} at items {}..{}",
                lease.attempt, lease.first_item, lease.end_item
            ),
            ShardKind::Close => format!("attempt {} at closing the job", lease.attempt),
        });
        Self {
            lease,
            keeper,
            guard,
            log,
            mode: Mode::Running,
            task: None,
            remaining,
            entering: Vec::new(),
            in_slots: BTreeMap::new(),
            publishing: 0,
            pending: Vec::new(),
            calling: false,
            silent: true,
            next_report,
            not_before: now,
        }
    }

    /// Items that still want a slot.
    pub(super) fn unstarted(&self) -> u64 {
        match (self.lease.kind, &self.mode) {
            (ShardKind::Items, Mode::Running) => {
                let busy = (self.entering.len() + self.in_slots.len() + self.publishing) as u64;
                self.remaining.saturating_sub(busy)
            }
            _ => 0,
        }
    }

    /// Whether this item of the lease must have the engine for itself.
    pub(super) fn is_alone(&self, prepared: &Prepared) -> bool {
        self.lease.alone.contains(&signed(prepared.item.index))
    }

    /// Stops what is being done for the lease; uploads end where they stand. Returns the tickets that the engine should forget.
    pub(super) fn drop_work(&mut self) -> Vec<u64> {
        self.keeper.end();
        if let Some(task) = self.task.take() {
            task.abort();
        }
        std::mem::take(&mut self.in_slots).into_keys().collect()
    }

    /// How to end the lease now, if it is due.
    pub(super) fn due_end(&self, now: Instant) -> Option<End> {
        if self.calling
            || now < self.not_before
            || self.publishing > 0
            || self.pending.len() > REPORT_ITEMS_MAX
        {
            return None;
        }
        let idle = self.in_slots.is_empty()
            && (self.lease.kind == ShardKind::Items || self.task.is_none());
        match &self.mode {
            Mode::Running | Mode::Draining if self.remaining == 0 => Some(End::Finish),
            Mode::Draining if idle => Some(End::Release),
            Mode::Running | Mode::Draining => None,
            Mode::Dropping => Some(End::Release),
            Mode::Failing { code, message } => Some(End::Fail { code, message: message.clone() }),
        }
    }

    /// Whether a report should be sent now.
    pub(super) fn report_due(&self, now: Instant) -> bool {
        !self.calling
            && now >= self.not_before
            && (now >= self.next_report
                || !self.entering.is_empty()
                || self.pending.len() > REPORT_ITEMS_MAX)
    }

    /// When this lease next wants attention.
    pub(super) fn wake_at(&self, now: Instant) -> Instant {
        let mut at = self.lease.trusted_until;
        if !self.calling {
            at = at.min(self.next_report.max(self.not_before));
            if self.not_before > now {
                at = at.min(self.not_before);
            }
        }
        at
    }

    /// Changes the mode, never to a milder one. Returns the tickets that the engine should forget.
    pub(super) fn turn(&mut self, mode: Mode) -> Vec<u64> {
        match (&self.mode, &mode) {
            (Mode::Running, _) => {}
            (Mode::Draining, Mode::Dropping | Mode::Failing { .. }) => {}
            _ => return Vec::new(),
        }
        self.mode = mode;
        self.entering.clear();
        if self.mode == Mode::Draining {
            // A job that is being closed is finished; a feeder stops.
            if self.lease.kind == ShardKind::Items
                && let Some(task) = self.task.take()
            {
                task.abort();
            }
            return Vec::new();
        }
        self.drop_work()
    }

    /// What a call about the lease sends: what has happened since the last one. Given back when the call may not have arrived.
    pub(super) fn begin_call(&mut self, health: Value) -> Report {
        self.calling = true;
        self.silent = false;
        let entering = self.entering.iter();
        let entering = entering.map(|prepared| signed(prepared.item.index));
        let in_flight = self.in_slots.values().copied().chain(entering).collect();
        let rest = self.pending.split_off(self.pending.len().min(REPORT_ITEMS_MAX));
        Report {
            items: std::mem::replace(&mut self.pending, rest),
            in_flight,
            log: self.log.take(),
            health: Some(health),
        }
    }

    /// A call that may not have arrived is repeated after a pause, which is harmless.
    fn call_again(&mut self, report: Report, pause: Duration) -> Then {
        self.not_before = Instant::now() + jitter(pause);
        let newer = std::mem::replace(&mut self.pending, report.items);
        self.pending.extend(newer);
        self.log.give_back(report.log);
        Then::Nothing
    }

    /// What a task has done. `every`: the pause between two reports.
    pub(super) fn hear(&mut self, news: News, every: Duration, health: &mut Health) -> Then {
        match news {
            News::Reported { lease, report, answer } => {
                self.reported(*lease, report, answer, every)
            }
            News::Ended { end, report, answer } => self.ended(&end, report, answer, every),
            News::FeedEnded(Ok(())) => Then::Nothing,
            News::Closed(Ok(())) => {
                self.remaining = 0;
                self.task = None;
                self.log.line("the job is closed");
                Then::Nothing
            }
            News::Published(stored) => {
                self.publishing -= 1;
                match stored {
                    Ok(report) => self.item_final(*report, health),
                    Err(error) => return self.failed(error),
                }
                Then::Nothing
            }
            News::FeedEnded(Err(error)) | News::Closed(Err(error)) => self.failed(error),
            News::Panicked { was_publishing } => {
                self.publishing -= usize::from(was_publishing);
                let words = "a task of the worker panicked; its log says where";
                self.failed(ShardError::failed("worker_panic", words))
            }
        }
    }

    fn reported(
        &mut self,
        lease: Lease,
        report: Report,
        answer: Answer<Verdict>,
        every: Duration,
    ) -> Then {
        self.calling = false;
        let verdict = match answer {
            Some(Ok(verdict)) => verdict,
            Some(Err(error)) if !error.is_retryable() => return Then::Lose(error.to_string()),
            _ => return self.call_again(report, every / 4),
        };
        if verdict == Verdict::Stop {
            return Then::Lose(
                "the database has ended it or given it to another worker".to_owned(),
            );
        }
        self.keeper.extend(lease.trusted_until);
        self.lease = lease;
        self.next_report = Instant::now() + jitter(every);
        match verdict {
            Verdict::Drain => Then::Turn(Mode::Draining),
            Verdict::Cancelled => Then::Turn(Mode::Dropping),
            Verdict::Continue | Verdict::Stop => {
                let told =
                    |prepared: &Prepared| report.in_flight.contains(&signed(prepared.item.index));
                let (told, rest) = std::mem::take(&mut self.entering).into_iter().partition(told);
                self.entering = rest;
                Then::Admit(told)
            }
        }
    }

    fn ended(&mut self, end: &End, report: Report, answer: Answer<()>, every: Duration) -> Then {
        self.calling = false;
        match answer {
            Some(Ok(())) => {
                let (job, shard, kind) = (self.lease.job, self.lease.shard, self.lease.kind);
                tracing::info!(job, shard, %kind, ?end, "gave up a lease");
                Then::Over { finished: *end == End::Finish }
            }
            Some(Err(error)) if !error.is_retryable() => Then::Lose(error.to_string()),
            _ => self.call_again(report, every / 4),
        }
    }

    /// What the feeder found without the engine.
    pub(super) fn fed(&mut self, fed: Fed, health: &mut Health) {
        match fed {
            Fed::Known(items) => self.remaining = self.remaining.saturating_sub(items),
            Fed::Final(report) => self.item_final(*report, health),
        }
    }

    /// An item failed in the engine.
    pub(super) fn item_failed(&mut self, item: &Item, failure: &Failure, health: &mut Health) {
        self.item_final(failure.report(item.index, Some(item), ItemStatus::Failed), health);
    }

    /// An item is final and waits for the next report.
    fn item_final(&mut self, report: ItemReport, health: &mut Health) {
        match report.status {
            ItemStatus::Ok => health.ok += 1,
            ItemStatus::Failed => health.failed += 1,
            ItemStatus::Skipped => health.skipped += 1,
        }
        self.log.line(&line(&report));
        self.remaining = self.remaining.saturating_sub(1);
        self.pending.push(report);
    }

    /// The whole shard cannot go on.
    fn failed(&mut self, error: ShardError) -> Then {
        match error {
            // The loop has ended the lease itself.
            ShardError::Ended(_) => Then::Nothing,
            ShardError::Unauthenticated(message) => {
                tracing::error!(%message, "giving back all leases");
                self.log.line(&format!("given back: {message}"));
                Then::Unauthenticated(message)
            }
            ShardError::Trouble(message) => {
                self.log.line(&format!("given back: {message}"));
                Then::Turn(Mode::Dropping)
            }
            ShardError::Machine(message) => {
                self.log.line(&format!("given back: {message}"));
                Then::Rest(message)
            }
            ShardError::Failed { code, message } => {
                let (job, shard) = (self.lease.job, self.lease.shard);
                tracing::warn!(job, shard, code, %message, "a shard failed");
                self.log.line(&format!("failed: {code}: {message}"));
                Then::Turn(Mode::Failing { code, message })
            }
        }
    }
}

/// A final item in the attempt's log.
fn line(report: &ItemReport) -> String {
    let index = report.index;
    match (report.status, report.artifacts.first()) {
        (ItemStatus::Ok, Some(first)) => match report.gpu_ms {
            Some(ms) => {
                format!("item {index} ok {} ({} bytes, engine {ms} ms)", first.key, first.bytes)
            }
            None => format!("item {index} ok {} ({} bytes, adopted)", first.key, first.bytes),
        },
        (status, _) => {
            let code = report.error_code.as_deref().unwrap_or_default();
            let message = report.error_message.as_deref().unwrap_or_default();
            format!("item {index} {status} {code}: {message}")
        }
    }
}
