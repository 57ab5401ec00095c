//! One lease in the agent's hands: counts, not decisions.

use std::collections::BTreeMap;
use std::time::Instant;

use nightshift_store::{ItemReport, Lease, Report, ShardKind, signed, unsigned};
use tokio::task::AbortHandle;

use super::log::AttemptLog;
use crate::item::feed::Prepared;
use crate::lease::{Guard, Keeper, guard};

/// Items of one report; the store takes 10,000.
const REPORT_ITEMS_MAX: usize = 5_000;

/// What is to become of a lease.
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

/// How a lease ends from our side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Finish,
    Release,
    Fail { code: &'static str, message: String },
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
    /// Items that enter the engine once the database was told.
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

    /// Stops what is being done for the lease; uploads end where they stand.
    pub(super) fn drop_work(&mut self) {
        self.keeper.end();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// How the lease is to be ended now, if at all.
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

    /// What has happened since the last report. Give it back when the call may not have arrived.
    pub(super) fn take_report(&mut self) -> Report {
        self.silent = false;
        let entering = self.entering.iter();
        let entering = entering.map(|prepared| signed(prepared.item.index));
        let in_flight = self.in_slots.values().copied().chain(entering).collect();
        let rest = self.pending.split_off(self.pending.len().min(REPORT_ITEMS_MAX));
        Report {
            items: std::mem::replace(&mut self.pending, rest),
            in_flight,
            log: self.log.take(),
            health: None,
        }
    }

    /// A report that may not have arrived; repeating it is harmless.
    pub(super) fn give_back(&mut self, report: Report) {
        let newer = std::mem::replace(&mut self.pending, report.items);
        self.pending.extend(newer);
        self.log.give_back(report.log);
    }
}
