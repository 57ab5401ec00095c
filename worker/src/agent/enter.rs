//! How items enter the engine. An item may kill the process within milliseconds, and the database can hold that against the right one only
//! if it knows what was in the slots. Of a first attempt it hears soon. When one was lost, given up or given back, it is told before an item
//! of the shard enters; and an item in which attempts were lost twice enters alone, while nothing else is in this worker's hands.

use std::time::{Duration, Instant};

use nightshift_store::signed;

use super::held::Mode;
use super::{Agent, Ticket};
use crate::generate::Command;
use crate::generate::translate;
use crate::item::feed::Prepared;

impl Agent {
    /// An item that is ready, unless its lease is gone or draining.
    pub(super) fn hand_over(&mut self, prepared: Prepared) {
        let Some(held) =
            self.held.get_mut(&prepared.token).filter(|held| held.mode == Mode::Running)
        else {
            return;
        };
        if held.is_alone(&prepared) {
            self.alone = Some(prepared);
        } else if held.lease.attempt > 1 {
            held.entering.push(prepared);
        } else {
            self.admit(prepared);
        }
    }

    /// Whether an item has the engine for itself, or is about to.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.is_some()
            || self.tickets.values().any(|ticket| ticket.alone)
            || (self.held.values()).any(|held| held.entering.iter().any(|item| held.is_alone(item)))
    }

    /// Gives everything else back, so that an item that may kill this process takes nothing with it, and reports the item first.
    pub(super) fn clear_the_way(&mut self) {
        let Some(token) = self.alone.as_ref().map(|prepared| prepared.token) else {
            return;
        };
        let alone = self.held.keys().all(|other| *other == token);
        let clear = alone && self.tickets.is_empty() && !self.claiming;
        match self.held.get_mut(&token) {
            Some(held) if held.mode == Mode::Running => {
                if clear
                    && held.publishing == 0
                    && held.entering.is_empty()
                    && let Some(prepared) = self.alone.take()
                {
                    held.log.line(&format!(
                        "item {} runs alone: earlier attempts were lost while it was in the engine",
                        prepared.item.index
                    ));
                    held.entering.push(prepared);
                }
            }
            // Its lease is gone or draining.
            _ => self.alone = None,
        }
        if self.alone.is_some() {
            for (_, other) in self.held.iter_mut().filter(|(other, _)| **other != token) {
                other.turn(Mode::Draining);
            }
        }
    }

    /// An item goes into a free slot.
    pub(super) fn admit(&mut self, prepared: Prepared) {
        let Some(held) = self.held.get_mut(&prepared.token) else {
            return;
        };
        let now = Instant::now();
        if held.silent {
            let soon = self.shared.config.progress_every / 20;
            held.next_report = held.next_report.min(now + soon);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let panel = prepared.given.as_ref().map(|given| given.panel.clone());
        self.engine.send(Command::Admit {
            ticket,
            model: prepared.job.model.clone(),
            request: Box::new(translate::request(&prepared.item, panel)),
        });
        held.in_slots.insert(ticket, signed(prepared.item.index));
        let limit = prepared.job.spec.running().item_timeout_ms;
        self.tickets.insert(
            ticket,
            Ticket {
                token: prepared.token,
                alone: held.is_alone(&prepared),
                until: limit.map(|ms| now + Duration::from_millis(ms.into())),
                prepared,
            },
        );
    }
}
