//! What comes out of the engine's slots: pictures, failures, and items that take too long.

use std::collections::BTreeMap;
use std::time::Instant;

use super::held::Held;
use super::{Agent, Ticket};
use crate::failure::Failure;
use crate::generate::Outcome;
use crate::item::feed::Prepared;
use crate::shutdown::Level;

impl Agent {
    /// Handles a result of the engine.
    pub(super) fn collect(&mut self, outcome: Option<Outcome>) {
        match outcome {
            Some(Outcome::Finished { ticket, picture, busy }) => {
                self.health.pictures += 1;
                if let Some(ticket) = self.tickets.get(&ticket) {
                    let job = ticket.prepared.job.info.job;
                    self.health.pace.drew(job, Instant::now());
                }
                tracing::debug!(ticket, tokens = picture.tokens, "picture drawn");
                if let Some((held, item)) = freed(&mut self.held, &mut self.tickets, ticket) {
                    self.beside.publish(held, item, picture, busy);
                }
            }
            Some(Outcome::Failed { ticket, code, message }) => {
                if let Some((held, item)) = freed(&mut self.held, &mut self.tickets, ticket) {
                    held.item_failed(&item.item, &Failure::own(code, message), &mut self.health);
                }
            }
            Some(Outcome::Cancelled { ticket }) => drop(self.tickets.remove(&ticket)),
            None => {
                tracing::error!("the engine died; giving back all leases");
                self.engine_died = true;
                self.tickets.clear();
                for held in self.held.values_mut() {
                    held.in_slots.clear();
                }
                self.obey(Level::Now);
            }
        }
    }

    /// Items that have been in their slots for longer than their job allows fail. Their slots become free when the engine confirms it.
    pub(super) fn end_slow_items(&mut self, now: Instant) {
        for (number, ticket) in &mut self.tickets {
            if ticket.until.is_none_or(|until| now < until) {
                continue;
            }
            ticket.until = None;
            let Prepared { job, item, .. } = &ticket.prepared;
            // An item that its lease has already given up does not fail.
            if let Some(held) = self.held.get_mut(&ticket.token)
                && held.in_slots.remove(number).is_some()
            {
                self.engine.forget([*number]);
                let limit = job.spec.running().item_timeout_ms.unwrap_or(0);
                let seconds = f64::from(limit) / 1_000.0;
                let message = format!("it did not finish within {seconds} s (limits.item_timeout)");
                let failure = Failure::own("item_timeout", message);
                held.item_failed(item, &failure, &mut self.health);
            }
        }
    }
}

/// The item of a slot that became free, if its lease still wants it. A cancelled slot stays busy until the engine confirms it.
fn freed<'a>(
    leases: &'a mut BTreeMap<i64, Held>,
    tickets: &mut BTreeMap<u64, Ticket>,
    ticket: u64,
) -> Option<(&'a mut Held, Prepared)> {
    let held = leases.get_mut(&tickets.get(&ticket)?.token)?;
    held.in_slots.remove(&ticket)?;
    Some((held, tickets.remove(&ticket)?.prepared))
}
