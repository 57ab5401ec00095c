//! The agent: one loop, one owner of state. Wait, note what happened, check the leases, report, claim, and hand over.
//!
//! Everything slow is a task beside the loop (store calls, feeding, publishing, closing) that answers by a message; the loop
//! itself never waits for the database, the object store or the engine.

mod beside;
mod enter;
mod health;
mod held;
mod leases;
mod log;
mod news;
mod pace;
mod slots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nightshift_objects::Objects;
use nightshift_store::{Hints, Registration, ShardKind, Store, WorkerId};
use serde_json::json;
use tokio::sync::{OnceCell, mpsc};

use crate::config::Config;
use crate::generate::{EngineThread, Generator, Outcome};
use crate::item::feed::{Fed, Prepared};
use crate::retry::Backoff;
use crate::shared::Shared;
use crate::shutdown::{Level, Shutdown};
use crate::trouble::Troubles;

use beside::Beside;
use health::Health;
use held::Held;
use news::Note;

/// Messages on the way to the loop; senders wait beyond it.
const NOTES: usize = 64;
/// How long the last calls of a worker that must end at once may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why a worker ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The database rejects this worker: wrong version or wrong login. The message says what to do.
    #[error(transparent)]
    Store(#[from] nightshift_store::Error),
    /// The object store does not accept the worker's credentials. A worker that went on would fail every job there is.
    #[error("{0}")]
    Unauthenticated(String),
    /// The engine panicked twice in a row; a supervisor should start the process again.
    #[error("the engine died")]
    EngineDied,
    /// The system gives no thread for the engine.
    #[error("cannot start the engine's thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Runs a worker until `stop` asks it to end: claims shards, makes pictures with `generator`, publishes and reports.
///
/// # Errors
/// [`WorkerError`]; its leases were given back as far as the database could be reached.
pub async fn run(
    config: Config,
    store: Store,
    objects: Objects,
    generator: Box<dyn Generator>,
    stop: Shutdown,
) -> Result<(), WorkerError> {
    let models = generator.models();
    let slots = generator.slots();
    let engine = EngineThread::start(generator).map_err(WorkerError::Thread)?;
    let shared = Arc::new(Shared {
        config,
        store,
        objects,
        models,
        conditions: OnceCell::new(),
        touched: Mutex::new(BTreeMap::new()),
        troubles: Troubles::default(),
    });
    let mut agent = Agent::new(shared, engine, slots, stop);
    match agent.first_registration().await? {
        true => agent.work().await,
        false => Ok(()),
    }
}

/// An item in the engine.
struct Ticket {
    token: i64,
    /// Nothing goes beside it.
    alone: bool,
    /// When it has been in its slot for too long.
    until: Option<Instant>,
    prepared: Prepared,
}

struct Agent {
    shared: Arc<Shared>,
    engine: EngineThread,
    engine_died: bool,
    unauthenticated: Option<String>,
    slots: usize,
    stop: Shutdown,
    level: Level,
    /// When patience with pictures in slots, and then with the last calls, ends.
    patience_until: Option<Instant>,
    worker: Option<WorkerId>,
    registering: bool,
    /// Leases by token.
    held: BTreeMap<i64, Held>,
    /// Busy slots. A cancelled one stays busy until the engine confirms it.
    tickets: BTreeMap<u64, Ticket>,
    next_ticket: u64,
    /// An item that waits until nothing else is in hand; nothing else starts meanwhile.
    alone: Option<Prepared>,
    claiming: bool,
    next_claim: Instant,
    backoff: Backoff,
    /// While this machine is in trouble, nothing is claimed before.
    rest_until: Instant,
    rest: Backoff,
    health: Health,
    hints: Hints,
    prepared: Channel<Prepared>,
    /// With the token of the lease.
    fed: Channel<(i64, Fed)>,
    notes: mpsc::Receiver<Note>,
    beside: Beside,
}

/// Both ends: feeders get clones of the first, the loop reads the second.
type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// What ended a wait.
enum Event {
    Stop(Level),
    Time,
    /// There may be work.
    Hint,
    Engine(Option<Outcome>),
    Prepared(Prepared),
    Fed(i64, Fed),
    Note(Note),
}

impl Agent {
    fn new(shared: Arc<Shared>, engine: EngineThread, slots: usize, stop: Shutdown) -> Self {
        let prefetch = shared.config.prefetch.max(1);
        let (sender, notes) = mpsc::channel(NOTES);
        Self {
            engine,
            engine_died: false,
            unauthenticated: None,
            slots,
            level: stop.level(),
            stop,
            patience_until: None,
            worker: None,
            registering: false,
            held: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 1,
            alone: None,
            claiming: false,
            next_claim: Instant::now(),
            backoff: Backoff::default(),
            rest_until: Instant::now(),
            rest: leases::machine_rest(),
            health: Health::new(slots),
            hints: Hints::for_worker(shared.config.listen.clone()),
            prepared: mpsc::channel(prefetch),
            fed: mpsc::channel(NOTES),
            notes,
            beside: Beside::new(Arc::clone(&shared), sender),
            shared,
        }
    }

    /// Announces the worker, however long the database takes to come up. `false`: asked to stop meanwhile.
    async fn first_registration(&mut self) -> Result<bool, WorkerError> {
        loop {
            let registration = self.registration();
            let registered = tokio::select! {
                _ = self.stop.beyond(Level::Run) => return Ok(false),
                registered = self.shared.store.register(&registration) => registered,
            };
            match registered {
                Ok(worker) => {
                    tracing::info!(worker = worker.0, name = %registration.name, "registered");
                    self.worker = Some(worker);
                    return Ok(true);
                }
                Err(error) if error.is_fatal() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "cannot register yet");
                    tokio::select! {
                        _ = self.stop.beyond(Level::Run) => return Ok(false),
                        () = tokio::time::sleep(self.backoff.pause()) => {}
                    }
                }
            }
        }
    }

    fn registration(&self) -> Registration {
        let config = &self.shared.config;
        let models = self.shared.models.iter();
        let fingerprints = models.map(|(key, offer)| (key.clone(), offer.fingerprint.clone()));
        Registration {
            name: config.name.clone(),
            models: fingerprints.collect(),
            info: json!({
                "version": env!("CARGO_PKG_VERSION"),
                "pid": std::process::id(),
                "slots": self.slots,
                "labels": config.labels,
                "memory_bytes": config.memory_bytes,
                "threads": config.threads,
                "lease_ms": config.lease.as_millis() as u64,
            }),
        }
    }

    /// The loop.
    async fn work(&mut self) -> Result<(), WorkerError> {
        loop {
            match self.wait().await {
                Event::Stop(level) => self.obey(level),
                Event::Time => {}
                Event::Hint => self.next_claim = Instant::now(),
                Event::Engine(outcome) => self.collect(outcome),
                Event::Prepared(prepared) => self.hand_over(prepared),
                Event::Fed(token, fed) => {
                    if let Some(held) = self.held.get_mut(&token) {
                        held.fed(fed, &mut self.health);
                    }
                }
                Event::Note(note) => self.note(note)?,
            }
            let now = Instant::now();
            let mut held = self.held.values();
            let working = held.any(|held| held.lease.kind == ShardKind::Items);
            self.health.pace.working(working, now);
            self.check_trust(now);
            self.end_slow_items(now);
            self.clear_the_way();
            self.report(now);
            self.claim(now);
            if self.is_over(now) {
                break;
            }
        }
        self.leave().await;
        match self.unauthenticated.take() {
            Some(message) => Err(WorkerError::Unauthenticated(message)),
            None if self.engine_died => Err(WorkerError::EngineDied),
            None => Ok(()),
        }
    }

    /// Signs off. If the database does not hear it, forecasts count on this worker for another minute.
    async fn leave(&self) {
        let Some(worker) = self.worker else { return };
        match tokio::time::timeout(LAST_WORDS, self.shared.store.leave(worker)).await {
            Ok(Ok(_)) => tracing::info!(worker = worker.0, "signed off"),
            Ok(Err(error)) => tracing::debug!(%error, "could not sign off"),
            Err(_) => tracing::debug!("could not sign off in time"),
        }
    }

    async fn wait(&mut self) -> Event {
        self.beside.tidy();
        let room = self.has_room();
        let wake = self.wake_at(Instant::now());
        let alive = !self.engine_died;
        let idle = self.may_claim();
        tokio::select! {
            level = self.stop.beyond(self.level) => Event::Stop(level),
            Some(note) = self.notes.recv() => Event::Note(note),
            Some((token, fed)) = self.fed.1.recv() => Event::Fed(token, fed),
            outcome = self.engine.outcomes.recv(), if alive => Event::Engine(outcome),
            Some(prepared) = self.prepared.1.recv(), if room => Event::Prepared(prepared),
            () = self.hints.wait(), if idle => Event::Hint,
            () = tokio::time::sleep_until(wake.into()) => Event::Time,
        }
    }

    /// Whether one more item may go to the engine: a free slot, and the uploads keep up.
    fn has_room(&self) -> bool {
        let publishing: usize = self.held.values().map(|held| held.publishing).sum();
        let entering: usize = self.held.values().map(|held| held.entering.len()).sum();
        !self.engine_died
            && !self.is_alone()
            && self.tickets.len() + entering < self.slots
            && publishing < self.shared.config.uploads.max(1)
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let mut at = now + Duration::from_secs(60);
        if self.may_claim() {
            at = at.min(self.next_claim.max(self.rest_until));
        }
        if let Some(until) = self.patience_until {
            at = at.min(until);
        }
        let slow = self.tickets.values().filter_map(|ticket| ticket.until);
        at = slow.fold(at, Instant::min);
        self.held.values().fold(at, |at, held| at.min(held.wake_at(now)))
    }
}
