//! The tasks beside the loop: store calls, feeding, publishing, closing. Each answers with one [`Note`].

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use nightshift_engine::Picture;
use nightshift_store::{Registration, ShardKind, WorkerId};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::held::Held;
use super::news::{Answer, End, News, Note};
use crate::close;
use crate::item::feed::{self, Outlets, Prepared};
use crate::item::publish::publish;
use crate::retry::jitter;
use crate::shared::Shared;

/// Longest wait for one answer of the database; the call is repeated after it.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Starts tasks, and keeps them.
pub(super) struct Beside {
    shared: Arc<Shared>,
    notes: mpsc::Sender<Note>,
    tasks: JoinSet<()>,
}

impl Beside {
    pub(super) fn new(shared: Arc<Shared>, notes: mpsc::Sender<Note>) -> Self {
        Self { shared, notes, tasks: JoinSet::new() }
    }

    /// Forgets tasks that have ended.
    pub(super) fn tidy(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }

    pub(super) fn register(&mut self, registration: Registration, pause: Duration) {
        let shared = Arc::clone(&self.shared);
        self.spawn(Note::Panicked, async move {
            tokio::time::sleep(pause).await;
            Note::Registered(answer(&shared, shared.store.register(&registration)).await)
        });
    }

    pub(super) fn claim(&mut self, worker: WorkerId, n: u32) {
        let shared = Arc::clone(&self.shared);
        self.spawn(Note::Panicked, async move {
            // No limit beyond the store's own: a lease whose answer is not read would have to run out.
            Note::Claimed(Some(shared.store.claim(worker, n, shared.config.lease).await))
        });
    }

    /// Reports what has happened, and renews the lease.
    pub(super) fn report(&mut self, held: &mut Held, health: Value) {
        let report = held.begin_call(health);
        let (shared, mut lease) = (Arc::clone(&self.shared), Box::new(held.lease.clone()));
        self.spawn_for(held, false, async move {
            let answer = answer(&shared, shared.store.progress(&mut lease, &report)).await;
            News::Reported { lease, report, answer }
        });
    }

    /// Reports what has happened, and ends the lease.
    pub(super) fn end(&mut self, held: &mut Held, end: End, health: Value) {
        let report = held.begin_call(health);
        let (shared, lease) = (Arc::clone(&self.shared), held.lease.clone());
        self.spawn_for(held, false, async move {
            let store = &shared.store;
            let answer = match &end {
                End::Finish => answer(&shared, store.finish(&lease, &report)).await,
                End::Release => answer(&shared, store.release(&lease, &report)).await,
                End::Fail { code, message } => {
                    answer(&shared, store.fail(&lease, &report, code, message)).await
                }
            };
            News::Ended { end, report, answer }
        });
    }

    /// Begins the work of a lease.
    pub(super) fn work(&mut self, held: &mut Held, outlets: Outlets) {
        let (shared, lease, guard) =
            (Arc::clone(&self.shared), held.lease.clone(), held.guard.clone());
        held.task = Some(match lease.kind {
            ShardKind::Items => self.spawn_for(held, false, async move {
                let ended = Box::pin(feed::feed(&shared, &lease, &guard, &outlets)).await;
                News::FeedEnded(ended)
            }),
            ShardKind::Close => self.spawn_for(held, false, async move {
                News::Closed(Box::pin(close::close(&shared, &lease, &guard)).await)
            }),
        });
    }

    /// Encodes and stores a picture beside the engine, which took `busy` for it.
    pub(super) fn publish(
        &mut self,
        held: &mut Held,
        prepared: Prepared,
        picture: Box<Picture>,
        busy: Duration,
    ) {
        held.publishing += 1;
        let (shared, guard) = (Arc::clone(&self.shared), held.guard.clone());
        self.spawn_for(held, true, async move {
            let stored = Box::pin(publish(&shared, &guard, prepared, picture, busy)).await;
            News::Published(stored.map(Box::new))
        });
    }

    fn spawn_for(
        &mut self,
        held: &Held,
        was_publishing: bool,
        task: impl Future<Output = News> + Send + 'static,
    ) -> AbortHandle {
        let token = held.lease.token;
        let panicked = Note::Lease(token, News::Panicked { was_publishing });
        self.spawn(panicked, task.map(move |news| Note::Lease(token, news)))
    }

    /// Runs a task; a panic becomes a note too, so that no lease waits for an answer that never comes.
    fn spawn(
        &mut self,
        panicked: Note,
        task: impl Future<Output = Note> + Send + 'static,
    ) -> AbortHandle {
        let notes = self.notes.clone();
        self.tasks.spawn(async move {
            let note = AssertUnwindSafe(task).catch_unwind().await.unwrap_or(panicked);
            // A closed channel means that the loop has ended.
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
