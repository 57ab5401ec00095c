//! What the tasks beside the loop answer, and what the loop makes of it.

use std::time::Instant;

use nightshift_jobs::Item;
use nightshift_store::{
    Error as StoreError, ItemReport, ItemStatus, Lease, Report, ShardKind, Verdict, WorkerId,
};

use super::held::{End, Held, Mode};
use super::{Agent, WorkerError, machine_rest};
use crate::failure::{Failure, ShardError};
use crate::generate::Command;
use crate::item::feed::{Fed, Prepared};
use crate::retry::{Backoff, jitter};
use crate::shutdown::Level;

/// The answer of a store call; none when it took too long to wait for.
pub(super) type Answer<T> = Option<Result<T, StoreError>>;

/// An answer of a task.
pub(super) enum Note {
    Registered(Answer<WorkerId>),
    Claimed(Answer<Vec<Lease>>),
    /// A progress call: the lease as renewed, and what was sent.
    Reported {
        lease: Box<Lease>,
        report: Report,
        answer: Answer<Verdict>,
    },
    /// A finish, release or fail call.
    Ended {
        token: i64,
        end: End,
        report: Report,
        answer: Answer<()>,
    },
    /// A feeder handed over its last item, or gave up.
    FeedEnded {
        token: i64,
        result: Result<(), ShardError>,
    },
    /// All files of a job are written, or cannot be.
    Closed {
        token: i64,
        result: Result<(), ShardError>,
    },
    /// A picture was stored, or failed.
    Published {
        token: i64,
        result: Result<Box<ItemReport>, ShardError>,
    },
    /// A task panicked: a bug, which costs its attempt and not the process.
    Panicked {
        token: Option<i64>,
        was_publishing: bool,
    },
}

impl Agent {
    /// # Errors
    /// Only what makes this worker useless: the database refuses it.
    pub(super) fn note(&mut self, note: Note) -> Result<(), WorkerError> {
        match note {
            Note::Registered(answer) => return self.registered(answer),
            Note::Claimed(answer) => return self.claimed(answer),
            Note::Reported { lease, report, answer } => self.reported(*lease, report, answer),
            Note::Ended { token, end, report, answer } => self.ended(token, &end, report, answer),
            Note::FeedEnded { token, result } => {
                if let Err(error) = result {
                    self.shard_failed(token, error);
                }
            }
            Note::Closed { token, result } => match (result, self.held.get_mut(&token)) {
                (Ok(()), Some(held)) => {
                    held.remaining = 0;
                    held.task = None;
                    held.log.line("the job is closed");
                }
                (Err(error), Some(_)) => self.shard_failed(token, error),
                (_, None) => {}
            },
            Note::Published { token, result } => {
                if let Some(held) = self.held.get_mut(&token) {
                    held.publishing -= 1;
                }
                match result {
                    Ok(report) => self.item_final(token, *report),
                    Err(error) => self.shard_failed(token, error),
                }
            }
            Note::Panicked { token, was_publishing } => {
                if token.is_none() {
                    // A question for work or a registration: ask again.
                    (self.claiming, self.registering) = (false, false);
                    self.next_claim = Instant::now() + self.backoff.pause();
                }
                if let Some(held) = token.and_then(|token| self.held.get_mut(&token)) {
                    held.publishing -= usize::from(was_publishing);
                    let (token, error) =
                        (held.lease.token, "a task of the worker panicked; its log says where");
                    self.shard_failed(token, ShardError::failed("worker_panic", error));
                }
            }
        }
        Ok(())
    }

    pub(super) fn note_fed(&mut self, token: i64, fed: Fed) {
        match fed {
            Fed::Known(items) => {
                if let Some(held) = self.held.get_mut(&token) {
                    held.remaining = held.remaining.saturating_sub(items);
                }
            }
            Fed::Final(report) => self.item_final(token, *report),
        }
    }

    /// The engine refused or failed an item.
    pub(super) fn item_failed(&mut self, prepared: &Prepared, code: &str, message: String) {
        let item: &Item = &prepared.item;
        let report = Failure::own(code, message).report(item.index, Some(item), ItemStatus::Failed);
        self.item_final(prepared.token, report);
    }

    /// Items that have been in their slots for longer than their job allows fail. A slot is free when the engine says so.
    pub(super) fn end_slow_items(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (number, ticket) in &mut self.tickets {
            if ticket.until.is_some_and(|until| now >= until) {
                ticket.until = None;
                let item = &ticket.prepared.item;
                let limit = ticket.prepared.job.spec.running().item_timeout_ms;
                let message = format!(
                    "it was not done after {} s, limits.item_timeout",
                    f64::from(limit.unwrap_or(0)) / 1_000.0
                );
                let failure = Failure::own("item_timeout", message);
                let report = failure.report(item.index, Some(item), ItemStatus::Failed);
                late.push((*number, ticket.token, report));
            }
        }
        for (number, token, report) in late {
            let held = self.held.get_mut(&token);
            // One that its lease has given up already is no failure.
            if held.is_some_and(|held| held.in_slots.remove(&number).is_some()) {
                self.engine.send(Command::Cancel { ticket: number });
                self.item_final(token, report);
            }
        }
    }

    /// An item is final and waits for the next report.
    fn item_final(&mut self, token: i64, report: ItemReport) {
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        match report.status {
            ItemStatus::Ok => self.health.ok += 1,
            ItemStatus::Failed => self.health.failed += 1,
            ItemStatus::Skipped => self.health.skipped += 1,
        }
        held.log.line(&line(&report));
        held.remaining = held.remaining.saturating_sub(1);
        held.pending.push(report);
    }

    /// The whole shard cannot go on.
    fn shard_failed(&mut self, token: i64, error: ShardError) {
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        match error {
            // The loop knows why and acts on it.
            ShardError::Ended(_) => {}
            ShardError::Unauthenticated(message) => {
                tracing::error!(%message, "giving back all leases");
                held.log.line(&format!("given back: {message}"));
                self.unauthenticated = Some(message);
                self.obey(Level::Now);
            }
            ShardError::Trouble(message) => {
                held.log.line(&format!("given back: {message}"));
                self.turn(token, Mode::Dropping);
            }
            ShardError::Machine(message) => {
                let pause = self.rest.pause();
                tracing::warn!(%message, ?pause, "this machine is in trouble; giving a lease back");
                held.log.line(&format!("given back: {message}"));
                self.health.machine = Some(message);
                self.rest_until = Instant::now() + pause;
                self.turn(token, Mode::Dropping);
            }
            ShardError::Failed { code, message } => {
                let (job, shard) = (held.lease.job, held.lease.shard);
                tracing::warn!(job, shard, code, %message, "a shard failed");
                held.log.line(&format!("failed: {code}: {message}"));
                self.turn(token, Mode::Failing { code, message });
            }
        }
    }

    fn registered(&mut self, answer: Answer<WorkerId>) -> Result<(), WorkerError> {
        self.registering = false;
        match answer {
            Some(Ok(worker)) => {
                tracing::info!(worker = worker.0, "registered again");
                self.worker = Some(worker);
                self.backoff = Backoff::default();
                self.next_claim = Instant::now();
            }
            Some(Err(error)) if error.is_fatal() => return Err(error.into()),
            _ => self.call_register(),
        }
        Ok(())
    }

    fn claimed(&mut self, answer: Answer<Vec<Lease>>) -> Result<(), WorkerError> {
        self.claiming = false;
        let now = Instant::now();
        match answer {
            Some(Ok(leases)) => {
                assert!(leases.len() <= 1, "one shard was asked for, {} came", leases.len());
                self.backoff = Backoff::default();
                self.next_claim = if leases.is_empty() { now + self.idle_pause() } else { now };
                for lease in leases {
                    self.take(lease);
                }
            }
            Some(Err(StoreError::UnknownWorker)) => {
                tracing::warn!("the database forgot this worker; registering again");
                self.worker = None;
                self.call_register();
            }
            Some(Err(error)) if error.is_fatal() => return Err(error.into()),
            failed => {
                if let Some(Err(error)) = failed {
                    tracing::warn!(%error, "cannot claim");
                }
                self.next_claim = now + self.backoff.pause();
            }
        }
        Ok(())
    }

    /// A new lease: its work begins, or it is given straight back when the worker is stopping.
    fn take(&mut self, lease: Lease) {
        let token = lease.token;
        let (job, shard, attempt) = (lease.job, lease.shard, lease.attempt);
        tracing::info!(job, shard, attempt, kind = %lease.kind, "took a shard");
        let held = Held::new(lease, Instant::now() + jitter(self.shared.config.progress_every));
        self.held.insert(token, held);
        if self.level == Level::Run {
            self.start(token);
        } else {
            self.turn(token, Mode::Dropping);
        }
    }

    fn reported(&mut self, lease: Lease, report: Report, answer: Answer<Verdict>) {
        let token = lease.token;
        let every = self.shared.config.progress_every;
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        held.calling = false;
        let verdict = match answer {
            Some(Ok(verdict)) => verdict,
            Some(Err(error)) if !error.is_retryable() => {
                let why = error.to_string();
                return self.lose(token, &why);
            }
            _ => {
                held.give_back(report);
                held.not_before = Instant::now() + jitter(every / 4);
                return;
            }
        };
        if verdict == Verdict::Stop {
            return self.lose(token, "the database gave it to somebody else or ended it");
        }
        held.keeper.extend(lease.trusted_until);
        held.lease = lease;
        held.next_report = Instant::now() + jitter(every);
        match verdict {
            Verdict::Drain => self.turn(token, Mode::Draining),
            Verdict::Cancelled => self.turn(token, Mode::Dropping),
            Verdict::Continue | Verdict::Stop => {}
        }
        self.admit_told(token, &report.in_flight);
    }

    fn ended(&mut self, token: i64, end: &End, report: Report, answer: Answer<()>) {
        let every = self.shared.config.progress_every;
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        held.calling = false;
        match answer {
            Some(Ok(())) => {
                let (job, shard, kind) = (held.lease.job, held.lease.shard, held.lease.kind);
                tracing::info!(job, shard, %kind, ?end, "gave up a lease");
                if *end == End::Finish && self.health.machine.take().is_some() {
                    tracing::info!("this machine works again");
                    self.rest = machine_rest();
                }
                if let Some(mut held) = self.held.remove(&token) {
                    held.drop_work();
                }
                // A finished shard may have been the last one: what closes the job is there now.
                if kind == ShardKind::Items {
                    self.next_claim = Instant::now();
                }
            }
            Some(Err(error)) if !error.is_retryable() => {
                let why = error.to_string();
                self.lose(token, &why);
            }
            _ => {
                held.give_back(report);
                held.not_before = Instant::now() + jitter(every / 4);
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
