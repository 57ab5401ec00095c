//! What becomes of leases: claimed, reported, ended, lost.

use std::time::{Duration, Instant};

use nightshift_store::{Error as StoreError, Lease, ShardKind, WorkerId};
use serde_json::Value;

use super::held::{Held, Mode, Then};
use super::news::{Answer, News, Note};
use super::{Agent, LAST_WORDS, WorkerError};
use crate::item::feed::Outlets;
use crate::retry::{Backoff, jitter};
use crate::shutdown::Level;

/// Close shards that run beside the engine at a time.
const CLOSING_MAX: usize = 2;

/// How long a worker rests whose machine is in trouble.
pub(super) fn machine_rest() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
}

impl Agent {
    /// # Errors
    /// Only what makes this worker useless: the database refuses it.
    pub(super) fn note(&mut self, note: Note) -> Result<(), WorkerError> {
        match note {
            Note::Registered(answer) => return self.registered(answer),
            Note::Claimed(answer) => return self.claimed(answer),
            Note::Lease(token, news) => self.hear(token, news),
            Note::Panicked => {
                // It was a claim or a registration: ask again.
                (self.claiming, self.registering) = (false, false);
                self.next_claim = Instant::now() + self.backoff.pause();
            }
        }
        Ok(())
    }

    /// Handles an answer about a lease; one about a lease that is gone is dropped.
    fn hear(&mut self, token: i64, news: News) {
        let every = self.shared.config.progress_every;
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        match held.hear(news, every, &mut self.health) {
            Then::Nothing => {}
            Then::Turn(mode) => self.engine.forget(held.turn(mode)),
            Then::Lose(why) => self.lose(token, &why),
            Then::Over { finished } => {
                if finished && self.health.machine.take().is_some() {
                    tracing::info!("this machine works again");
                    self.rest = machine_rest();
                }
                // A finished shard may have been the last one: what closes the job is there now.
                if held.lease.kind == ShardKind::Items {
                    self.next_claim = Instant::now();
                }
                self.engine.forget(held.drop_work());
                self.held.remove(&token);
            }
            Then::Admit(items) => {
                for prepared in items {
                    self.admit(prepared);
                }
            }
            Then::Rest(message) => {
                self.engine.forget(held.turn(Mode::Dropping));
                let pause = self.rest.pause();
                tracing::warn!(%message, ?pause, "this machine is in trouble; giving a lease back");
                self.health.machine = Some(message);
                self.rest_until = Instant::now() + pause;
            }
            Then::Unauthenticated(message) => {
                self.unauthenticated = Some(message);
                self.obey(Level::Now);
            }
        }
    }

    /// A first signal drains, a second one or the end of the grace drops what is in the slots.
    pub(super) fn obey(&mut self, level: Level) {
        if level <= self.level {
            return;
        }
        self.level = level;
        tracing::info!(leases = self.held.len(), at_once = level == Level::Now, "asked to stop");
        let patience = match level {
            Level::Now => LAST_WORDS,
            _ => self.shared.config.grace,
        };
        self.patience_until = Some(Instant::now() + patience);
        let mode = if level == Level::Now { Mode::Dropping } else { Mode::Draining };
        for held in self.held.values_mut() {
            self.engine.forget(held.turn(mode.clone()));
        }
    }

    /// Drops leases that are not trusted any more: nothing more is published or reported for them.
    pub(super) fn check_trust(&mut self, now: Instant) {
        let late = self.held.iter().filter(|(_, held)| !held.lease.is_trusted(now));
        for token in late.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.lose(token, "it was not renewed in time");
        }
    }

    /// Forgets a lease that is not ours any more.
    fn lose(&mut self, token: i64, why: &str) {
        if let Some(mut held) = self.held.remove(&token) {
            self.engine.forget(held.drop_work());
            self.health.lost += 1;
            let (job, shard) = (held.lease.job, held.lease.shard);
            tracing::warn!(job, shard, token, why, "lost a lease; its work is discarded");
        }
    }

    /// Sends reports and ends that are due.
    pub(super) fn report(&mut self, now: Instant) {
        let is_due = |held: &Held| held.report_due(now) || held.due_end(now).is_some();
        if !self.held.values().any(is_due) {
            return;
        }
        let health = self.health_now();
        for held in self.held.values_mut() {
            if let Some(end) = held.due_end(now) {
                self.beside.end(held, end, health.clone());
            } else if held.report_due(now) {
                self.beside.report(held, health.clone());
            }
        }
    }

    /// The worker's health, which every report carries.
    fn health_now(&self) -> Value {
        let items = self.tickets.values().map(|ticket| &ticket.prepared);
        let items: Vec<String> =
            items.map(|item| format!("{}/{}", item.job.info.job, item.item.index)).collect();
        let draining = self.level > Level::Run;
        self.health.json(self.slots, &items, draining, self.shared.troubles.json())
    }

    /// Whether there is room for a lease that could start now. A lease that waits in a local queue is a lease that dies.
    pub(super) fn may_claim(&self) -> bool {
        let closing = self.held.values().filter(|held| held.lease.kind == ShardKind::Close).count();
        let unstarted: u64 = self.held.values().map(Held::unstarted).sum();
        let free = self.slots.saturating_sub(self.tickets.len()) as u64;
        self.level == Level::Run
            && self.worker.is_some()
            && !self.claiming
            && !self.engine_died
            && !self.is_alone()
            && closing < CLOSING_MAX
            && free > unstarted
    }

    pub(super) fn claim(&mut self, now: Instant) {
        if let Some(worker) = self.worker
            && self.may_claim()
            && now >= self.next_claim
            && now >= self.rest_until
        {
            // One at a time: a shard has as many items as the worker has slots, except for the last ones of a job.
            self.claiming = true;
            self.beside.claim(worker, 1);
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
            _ => self.register_again(),
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
                self.register_again();
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

    fn register_again(&mut self) {
        if !std::mem::replace(&mut self.registering, true) {
            self.beside.register(self.registration(), self.backoff.pause());
        }
    }

    /// A new lease: its work begins, or it is given straight back when the worker is stopping.
    fn take(&mut self, lease: Lease) {
        let token = lease.token;
        let (job, shard, attempt) = (lease.job, lease.shard, lease.attempt);
        tracing::info!(job, shard, attempt, kind = %lease.kind, "took a shard");
        let next_report = Instant::now() + jitter(self.shared.config.progress_every);
        let mut held = Held::new(lease, next_report);
        if self.level == Level::Run {
            let outlets = Outlets { prepared: self.prepared.0.clone(), fed: self.fed.0.clone() };
            self.beside.work(&mut held, outlets);
        } else {
            held.turn(Mode::Dropping);
        }
        self.held.insert(token, held);
    }

    /// Whether everything that can be ended has ended.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        if self.level == Level::Run {
            return false;
        }
        let late = self.patience_until.is_some_and(|until| now >= until);
        if late && self.level == Level::Drain {
            self.obey(Level::Now);
            self.report(now);
            return false;
        }
        late || (self.held.is_empty() && !self.claiming)
    }

    /// The pause before the next claim when there was no work.
    fn idle_pause(&self) -> Duration {
        jitter(self.shared.config.poll_every)
    }
}
