//! Pictures from codes, and codes of given panels, on a thread of their own, so that the slots keep drawing tokens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::error::{EngineError, panic_text};
use crate::image::RgbImage;
use crate::model::Model;
use crate::request::{Event, Picture};
use crate::sample::grid::Grid;

/// Works on one picture after the other: the workspace of one is all that is ever held.
#[derive(Debug)]
pub(crate) struct Painter {
    tasks: Sender<(u64, Task)>,
    done: Receiver<(u64, Done)>,
    /// Requests whose work is not back yet, in order.
    pending: Vec<u64>,
}

/// Work for the image tokenizer.
pub(crate) enum Task {
    /// A picture whose codes are complete.
    Paint {
        /// Of its codes.
        grid: Grid,
        /// To which the image is added.
        picture: Box<Picture>,
    },
    /// A given panel.
    Read(RgbImage),
}

/// What came of it.
pub(crate) enum Done {
    /// The picture is finished, or failed.
    Painted(Event),
    /// The codes of the panel.
    Read(Result<Vec<u32>, EngineError>),
}

impl Painter {
    /// Starts the thread; it ends with its owner, after the picture at hand.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn start(model: &Arc<Model>) -> Result<Self, EngineError> {
        let (tasks, inbox) = channel::<(u64, Task)>();
        let (outbox, done) = channel();
        let model = Arc::clone(model);
        let thread = std::thread::Builder::new().name("pictures".to_owned());
        let spawned = thread.spawn(move || {
            for (id, task) in inbox {
                if outbox.send((id, work(&model, id, task))).is_err() {
                    break;
                }
            }
        });
        spawned.map_err(|error| {
            EngineError::ImageTokenizer(format!("its thread cannot be started: {error}"))
        })?;
        Ok(Self { tasks, done, pending: Vec::new() })
    }

    /// Hands over work for a request.
    ///
    /// # Errors
    /// The thread has ended.
    pub(crate) fn hand_over(&mut self, id: u64, task: Task) -> Result<(), EngineError> {
        let sent = self.tasks.send((id, task));
        sent.map_err(|_| EngineError::ImageTokenizer("its thread has ended".to_owned()))?;
        self.pending.push(id);
        Ok(())
    }

    /// Pictures and panels that are not back yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether a request waits for its picture or panel.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.pending.contains(&id)
    }

    /// Drops what comes for a request. Whether it waited for something.
    pub(crate) fn forget(&mut self, id: u64) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| *pending != id);
        self.pending.len() < before
    }

    /// What is ready; with `wait`, at least one if any is pending.
    pub(crate) fn ready(&mut self, wait: bool) -> Vec<(u64, Done)> {
        let mut ready = Vec::new();
        loop {
            let wait = wait && ready.is_empty() && !self.pending.is_empty();
            let next = if wait { self.done.recv().ok() } else { self.done.try_recv().ok() };
            match next {
                // A request that was cancelled meanwhile is not pending any more.
                Some((id, done)) if self.forget(id) => ready.push((id, done)),
                Some(_) => {}
                None => return ready,
            }
        }
    }
}

/// A panic fails its own request; this work does not change the weights, so the next request is not affected.
fn work(model: &Model, id: u64, task: Task) -> Done {
    match task {
        Task::Paint { grid, mut picture } => {
            let decode = || model.decode_codes(&picture.codes, grid.rows, grid.cols);
            Done::Painted(match caught(decode) {
                Ok(image) => {
                    picture.image = Some(image);
                    Event::Finished { id, picture }
                }
                Err(error) => Event::Failed { id, error },
            })
        }
        Task::Read(panel) => Done::Read(caught(|| model.encode_panel(&panel))),
    }
}

fn caught<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(EngineError::ImageTokenizer(format!("it panicked: {text}")))
    })
}
