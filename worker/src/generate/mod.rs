//! The seam to the engine: a trait with two implementations (the real engine in [`models`], a scripted one in
//! [`scripted`]), and the OS thread that steps it. Forward passes never run on the async runtime.

pub(crate) mod models;
pub mod scripted;
pub(crate) mod translate;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use nightshift_engine::{EngineError, Event, Picture, Request};
use tokio::sync::mpsc;

/// What makes pictures, several at a time.
pub trait Generator: Send {
    /// What it can run, by `"name/weights/kv_cache"`.
    fn models(&self) -> BTreeMap<String, Offer>;

    /// How many pictures it can make at a time, at least 1.
    fn slots(&self) -> usize;

    /// Takes a request into a free slot. Tickets are never used twice.
    ///
    /// # Errors
    /// The request is refused; it takes no slot.
    fn admit(&mut self, ticket: u64, model: &str, request: Request) -> Result<(), EngineError>;

    /// Runs one step and returns what happened. Called only while something runs.
    fn step(&mut self) -> Vec<Event>;

    /// Drops a request; unknown tickets are ignored.
    fn cancel(&mut self, ticket: u64);

    /// Forgets all requests and every state that a panic may have left behind.
    fn reset(&mut self);
}

/// What the agent knows of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Names what its results depend on.
    pub fingerprint: String,
    /// Window of coupled decoding where a spec leaves it to the model.
    pub coupled_window: u32,
}

/// What the agent asks of the engine's thread.
pub(crate) enum Command {
    Admit { ticket: u64, model: String, request: Box<Request> },
    Cancel { ticket: u64 },
}

/// How a ticket ended. Exactly one of them is sent for each ticket that was admitted and not cancelled; a cancelled one
/// ends with `Cancelled`, perhaps after one of the others.
#[derive(Debug)]
pub(crate) enum Outcome {
    Finished {
        ticket: u64,
        picture: Box<Picture>,
        /// The ticket's share of the time its steps took.
        busy: Duration,
    },
    Failed {
        ticket: u64,
        code: &'static str,
        message: String,
    },
    Cancelled {
        ticket: u64,
    },
}

/// The agent's end of the engine's thread.
pub(crate) struct EngineThread {
    commands: SyncSender<Command>,
    /// What happened; `None` when the thread has ended, which is a reason to end the process.
    pub(crate) outcomes: mpsc::Receiver<Outcome>,
}

impl EngineThread {
    /// Starts the thread; it ends when this value is dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(generator: Box<dyn Generator>) -> std::io::Result<Self> {
        let slots = generator.slots();
        // The agent has at most one admission and one cancellation per slot on the way, so that sending never blocks.
        let (commands, todo) = sync_channel(2 * slots + 2);
        let (tell, outcomes) = mpsc::channel(2 * slots + 2);
        let thread = Thread { generator, tell, running: BTreeMap::new(), panicked: false };
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || thread.run(&todo))?;
        Ok(Self { commands, outcomes })
    }

    /// Hands a command over. A thread that has ended drops it: the agent hears of the end through `outcomes`.
    ///
    /// # Panics
    /// More commands than slots allow are on the way: a bug of the agent.
    pub(crate) fn send(&self, command: Command) {
        if let Err(std::sync::mpsc::TrySendError::Full(_)) = self.commands.try_send(command) {
            panic!("the agent sends at most two commands per slot");
        }
    }

    /// Asks the engine to drop the pictures of these tickets.
    pub(crate) fn forget(&self, tickets: impl IntoIterator<Item = u64>) {
        for ticket in tickets {
            self.send(Command::Cancel { ticket });
        }
    }
}

struct Thread {
    generator: Box<dyn Generator>,
    tell: mpsc::Sender<Outcome>,
    running: BTreeMap<u64, Duration>,
    /// The last step panicked and no picture was finished since.
    panicked: bool,
}

impl Thread {
    fn run(mut self, todo: &Receiver<Command>) {
        loop {
            if self.running.is_empty() {
                let Ok(command) = todo.recv() else { return };
                self.obey(command);
            }
            loop {
                match todo.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            if !self.running.is_empty() && self.step().is_err() {
                return;
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Admit { ticket, model, request } => {
                let admitted = catch_unwind(AssertUnwindSafe(|| {
                    self.generator.admit(ticket, &model, *request)
                }));
                match admitted {
                    Ok(Ok(())) => drop(self.running.insert(ticket, Duration::ZERO)),
                    Ok(Err(error)) => self.fail(ticket, error.code(), error.to_string()),
                    // Nothing else was in a slot, so this request alone is to blame.
                    Err(_) => self.fail(
                        ticket,
                        "engine_panic",
                        "the engine panicked on this request".to_owned(),
                    ),
                }
            }
            Command::Cancel { ticket } => {
                if self.running.remove(&ticket).is_some() {
                    self.generator.cancel(ticket);
                }
                self.send(Outcome::Cancelled { ticket });
            }
        }
    }

    /// One step; `Err` when the engine cannot be trusted any more.
    fn step(&mut self) -> Result<(), ()> {
        let began = Instant::now();
        let Ok(events) = catch_unwind(AssertUnwindSafe(|| self.generator.step())) else {
            return self.survive_panic();
        };
        let share = began.elapsed() / u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        for busy in self.running.values_mut() {
            *busy += share;
        }
        for event in events {
            match event {
                Event::Progress { .. } => {}
                Event::Finished { id, picture } => {
                    self.panicked = false;
                    let busy = self.running.remove(&id).unwrap_or_default();
                    self.send(Outcome::Finished { ticket: id, picture, busy });
                }
                Event::Failed { id, error } => {
                    self.running.remove(&id);
                    self.fail(id, error.code(), error.to_string());
                }
            }
        }
        Ok(())
    }

    /// Fails what was running. The second panic without a picture in between ends the thread, and with it the process.
    fn survive_panic(&mut self) -> Result<(), ()> {
        tracing::error!(
            requests = self.running.len(),
            "the engine panicked; the items in its slots fail"
        );
        let again = std::mem::replace(&mut self.panicked, true);
        for ticket in std::mem::take(&mut self.running).into_keys() {
            self.fail(
                ticket,
                "engine_panic",
                "the engine panicked while this item was in a slot".to_owned(),
            );
        }
        match again {
            true => Err(()),
            false => catch_unwind(AssertUnwindSafe(|| self.generator.reset())).map_err(drop),
        }
    }

    fn fail(&self, ticket: u64, code: &'static str, message: String) {
        self.send(Outcome::Failed { ticket, code, message });
    }

    fn send(&self, outcome: Outcome) {
        // An agent that is gone needs no answer.
        drop(self.tell.blocking_send(outcome));
    }
}
