//! The tasks beside the loop: store calls, feeding, publishing, closing. Each answers with one [`Note`].

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use nightshift_engine::Picture;
use nightshift_store::{ShardKind, WorkerId};
use tokio::task::AbortHandle;

use super::Agent;
use super::held::End;
use super::notes::{Answer, Note};
use crate::close;
use crate::item::feed::{self, Outlets, Prepared};
use crate::item::publish::publish;
use crate::retry::jitter;
use crate::shared::Shared;

/// Longest wait for one answer of the database; the call is repeated after it.
const ANSWER_MAX: Duration = Duration::from_secs(10);

impl Agent {
    pub(super) fn call_register(&mut self) {
        if std::mem::replace(&mut self.registering, true) {
            return;
        }
        let (shared, registration) = (Arc::clone(&self.shared), self.registration());
        let pause = self.backoff.pause();
        self.spawn(None, false, async move {
            tokio::time::sleep(pause).await;
            Note::Registered(answer(&shared, shared.store.register(&registration)).await)
        });
    }

    pub(super) fn call_claim(&mut self, worker: WorkerId, n: u32) {
        let shared = Arc::clone(&self.shared);
        self.spawn(None, false, async move {
            // No limit beyond the store's own: a lease whose answer is not read would have to run out.
            Note::Claimed(Some(shared.store.claim(worker, n, shared.config.lease).await))
        });
    }

    pub(super) fn call_progress(&mut self, token: i64) {
        let health = self.health_now();
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        held.calling = true;
        let mut report = held.take_report();
        report.health = Some(health);
        let (shared, mut lease) = (Arc::clone(&self.shared), Box::new(held.lease.clone()));
        self.spawn(Some(token), false, async move {
            let answer = answer(&shared, shared.store.progress(&mut lease, &report)).await;
            Note::Reported { lease, report, answer }
        });
    }

    pub(super) fn call_end(&mut self, token: i64, end: End) {
        let health = self.health_now();
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        held.calling = true;
        let mut report = held.take_report();
        report.health = Some(health);
        let (shared, lease) = (Arc::clone(&self.shared), held.lease.clone());
        self.spawn(Some(token), false, async move {
            let store = &shared.store;
            let answer = match &end {
                End::Finish => answer(&shared, store.finish(&lease, &report)).await,
                End::Release => answer(&shared, store.release(&lease, &report)).await,
                End::Fail { code, message } => {
                    answer(&shared, store.fail(&lease, &report, code, message)).await
                }
            };
            Note::Ended { token, end, report, answer }
        });
    }

    /// What every report says of the worker.
    fn health_now(&self) -> serde_json::Value {
        let items: Vec<String> = self
            .tickets
            .values()
            .map(|ticket| {
                format!("{}/{}", ticket.prepared.job.info.job, ticket.prepared.item.index)
            })
            .collect();
        let draining = self.level > crate::shutdown::Level::Run;
        self.health.json(self.slots, &items, draining, self.shared.troubles.json())
    }

    /// Begins the work of a lease.
    pub(super) fn start(&mut self, token: i64) {
        let Some(held) = self.held.get(&token) else {
            return;
        };
        let (shared, lease, guard) =
            (Arc::clone(&self.shared), held.lease.clone(), held.guard.clone());
        let outlets = Outlets { prepared: self.prepared.0.clone(), fed: self.fed.0.clone() };
        let task = match lease.kind {
            ShardKind::Items => self.spawn(Some(token), false, async move {
                let result = Box::pin(feed::feed(&shared, &lease, &guard, &outlets)).await;
                Note::FeedEnded { token, result }
            }),
            ShardKind::Close => self.spawn(Some(token), false, async move {
                let result = Box::pin(close::close(&shared, &lease, &guard)).await;
                Note::Closed { token, result }
            }),
        };
        if let Some(held) = self.held.get_mut(&token) {
            held.task = Some(task);
        }
    }

    /// Encodes and stores a picture beside the engine.
    pub(super) fn publish(&mut self, prepared: Prepared, picture: Box<Picture>, busy: Duration) {
        let token = prepared.token;
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        held.publishing += 1;
        let (shared, guard) = (Arc::clone(&self.shared), held.guard.clone());
        self.spawn(Some(token), true, async move {
            let result = Box::pin(publish(&shared, &guard, prepared, picture, busy)).await;
            Note::Published { token, result: result.map(Box::new) }
        });
    }

    /// Runs a task; a panic becomes a note too, so that no lease waits for an answer that never comes.
    fn spawn(
        &mut self,
        token: Option<i64>,
        was_publishing: bool,
        task: impl Future<Output = Note> + Send + 'static,
    ) -> AbortHandle {
        let notes = self.notes.0.clone();
        self.tasks.spawn(async move {
            let note = AssertUnwindSafe(task).catch_unwind().await;
            let note = note.unwrap_or(Note::Panicked { token, was_publishing });
            // The loop has ended: nobody is interested.
            drop(notes.send(note).await);
        })
    }
}

/// Waits for an answer of the database, but not forever: a silent connection must not eat the lease.
async fn answer<T>(
    shared: &Shared,
    call: impl Future<Output = Result<T, nightshift_store::Error>>,
) -> Answer<T> {
    let patience = ANSWER_MAX.min(shared.config.lease / 3);
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => {
            if let Err(error) = &answer {
                tracing::warn!(%error, "a call to the database failed");
            }
            Some(answer)
        }
        Err(_) => {
            tracing::warn!(?patience, "the database does not answer");
            tokio::time::sleep(jitter(Duration::from_millis(200))).await;
            None
        }
    }
}
