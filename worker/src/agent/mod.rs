//! The agent: one loop, one owner of state. Wait, note what happened, check the leases, report, claim, and hand over.
//!
//! Everything slow is a task beside the loop (store calls, feeding, publishing, closing) that answers by a message; the loop
//! itself never waits for the database, the object store or the engine.

mod calls;
mod enter;
mod health;
mod held;
mod log;
mod notes;
mod pace;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nightshift_objects::Objects;
use nightshift_store::{Hints, Registration, ShardKind, Store, WorkerId};
use serde_json::json;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::generate::{Command, EngineThread, Generator, Outcome};
use crate::item::feed::{Fed, Prepared};
use crate::retry::{Backoff, jitter};
use crate::shared::Shared;
use crate::shutdown::{Level, Shutdown};
use crate::trouble::Troubles;

use health::Health;
use held::{Held, Mode};
use notes::Note;

/// Close shards that run beside the engine at a time.
const CLOSING_MAX: usize = 2;
/// Messages on the way to the loop; senders wait beyond it.
const NOTES: usize = 64;
/// How long the last calls of a worker that must end at once may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why a worker ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The database does not want this worker: wrong version, wrong login. The message says what to do.
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
    /// Busy slots. A cancelled one stays busy until the engine says so.
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
    notes: Channel<Note>,
    tasks: JoinSet<()>,
}

/// Both ends: tasks get clones of the first, the loop reads the second.
type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// How long a worker rests whose machine is in trouble.
fn machine_rest() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
}

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
            rest: machine_rest(),
            health: Health::new(slots),
            hints: Hints::for_worker(shared.config.listen.clone()),
            prepared: mpsc::channel(prefetch),
            fed: mpsc::channel(NOTES),
            notes: mpsc::channel(NOTES),
            tasks: JoinSet::new(),
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
                Event::Fed(token, fed) => self.note_fed(token, fed),
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

    /// Signs off. Where the database does not hear it, people count on this worker for a minute more.
    async fn leave(&self) {
        let Some(worker) = self.worker else { return };
        match tokio::time::timeout(LAST_WORDS, self.shared.store.leave(worker)).await {
            Ok(Ok(_)) => tracing::info!(worker = worker.0, "signed off"),
            Ok(Err(error)) => tracing::debug!(%error, "could not sign off"),
            Err(_) => tracing::debug!("could not sign off in time"),
        }
    }

    async fn wait(&mut self) -> Event {
        while self.tasks.try_join_next().is_some() {}
        let room = self.has_room();
        let wake = self.wake_at(Instant::now());
        let alive = !self.engine_died;
        let idle = self.may_claim();
        tokio::select! {
            level = self.stop.beyond(self.level) => Event::Stop(level),
            Some(note) = self.notes.1.recv() => Event::Note(note),
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

    /// A first signal drains, a second one or the end of the grace drops what is in the slots.
    fn obey(&mut self, level: Level) {
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
        for token in self.held.keys().copied().collect::<Vec<_>>() {
            self.turn(token, mode.clone());
        }
    }

    /// Changes what is to become of a lease; never back to something milder.
    fn turn(&mut self, token: i64, mode: Mode) {
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        match (&held.mode, &mode) {
            (Mode::Running, _) => {}
            (Mode::Draining, Mode::Dropping | Mode::Failing { .. }) => {}
            _ => return,
        }
        held.mode = mode;
        held.entering.clear();
        if held.mode == Mode::Draining {
            // A job that is being closed is finished; a feeder stops.
            if held.lease.kind == ShardKind::Items
                && let Some(task) = held.task.take()
            {
                task.abort();
            }
            return;
        }
        held.drop_work();
        self.cancel_tickets(token);
    }

    /// Asks the engine to forget the pictures of a lease.
    fn cancel_tickets(&mut self, token: i64) {
        if let Some(held) = self.held.get_mut(&token) {
            for ticket in std::mem::take(&mut held.in_slots).into_keys() {
                self.engine.send(Command::Cancel { ticket });
            }
        }
    }

    /// Drops leases that are not trusted any more: nothing more is published or said for them.
    fn check_trust(&mut self, now: Instant) {
        let late: Vec<i64> = self
            .held
            .iter()
            .filter(|(_, held)| !held.lease.is_trusted(now))
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.lose(token, "it was not renewed in time");
        }
    }

    /// Forgets a lease that is not ours any more.
    fn lose(&mut self, token: i64, why: &str) {
        self.cancel_tickets(token);
        if let Some(mut held) = self.held.remove(&token) {
            held.drop_work();
            self.health.lost += 1;
            let (job, shard) = (held.lease.job, held.lease.shard);
            tracing::warn!(job, shard, token, why, "lost a lease; its work is discarded");
        }
    }

    /// Sends reports and ends that are due.
    fn report(&mut self, now: Instant) {
        for token in self.held.keys().copied().collect::<Vec<_>>() {
            let held = &self.held[&token];
            if let Some(end) = held.due_end(now) {
                self.call_end(token, end);
            } else if held.report_due(now) {
                self.call_progress(token);
            }
        }
    }

    /// Whether there is room for a lease that could start now. A lease that waits in a local queue is a lease that dies.
    fn may_claim(&self) -> bool {
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

    fn claim(&mut self, now: Instant) {
        if let Some(worker) = self.worker
            && self.may_claim()
            && now >= self.next_claim
            && now >= self.rest_until
        {
            // One at a time: a shard has as many items as the worker has slots, except for the last ones of a job.
            self.claiming = true;
            self.call_claim(worker, 1);
        }
    }

    /// What the engine says.
    fn collect(&mut self, outcome: Option<Outcome>) {
        match outcome {
            Some(Outcome::Finished { ticket, picture, busy }) => {
                self.health.pictures += 1;
                if let Some(ticket) = self.tickets.get(&ticket) {
                    let job = ticket.prepared.job.info.job;
                    self.health.pace.drew(job, Instant::now());
                }
                tracing::debug!(ticket, tokens = picture.tokens, "picture drawn");
                if let Some(ticket) = self.take_ticket(ticket) {
                    self.publish(ticket.prepared, picture, busy);
                }
            }
            Some(Outcome::Failed { ticket, code, message }) => {
                if let Some(ticket) = self.take_ticket(ticket) {
                    self.item_failed(&ticket.prepared, code, message);
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

    /// The item of a slot that became free, if its lease still wants it.
    fn take_ticket(&mut self, ticket: u64) -> Option<Ticket> {
        // A cancelled slot stays busy until the engine confirms it.
        let token = self.tickets.get(&ticket)?.token;
        self.held.get_mut(&token)?.in_slots.remove(&ticket)?;
        self.tickets.remove(&ticket)
    }

    /// Whether everything that could be ended has been.
    fn is_over(&mut self, now: Instant) -> bool {
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

    /// The pause before the next question when there was no work.
    fn idle_pause(&self) -> Duration {
        jitter(self.shared.config.poll_every)
    }
}
