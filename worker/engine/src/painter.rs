//! Pictures from codes on a thread of their own, so that the other slots go on drawing tokens meanwhile.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::error::EngineError;
use crate::model::Model;
use crate::request::{Event, Picture};
use crate::sample::grid::Grid;

/// Decodes one picture after the other: the workspace of one is all that is ever held.
#[derive(Debug)]
pub(crate) struct Painter {
    tasks: Sender<Task>,
    done: Receiver<(u64, Event)>,
    /// Requests whose pictures are not back yet, in order.
    pending: Vec<u64>,
}

struct Task {
    id: u64,
    grid: Grid,
    picture: Box<Picture>,
}

impl Painter {
    /// Starts the thread; it ends with its owner, after the picture at hand.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(model: &Arc<Model>) -> Result<Self, EngineError> {
        let (tasks, inbox) = channel::<Task>();
        let (outbox, done) = channel();
        let model = Arc::clone(model);
        let thread = std::thread::Builder::new().name("pictures".to_owned());
        let spawned = thread.spawn(move || {
            for task in inbox {
                let id = task.id;
                if outbox.send((id, paint(&model, task))).is_err() {
                    break;
                }
            }
        });
        spawned.map_err(|error| EngineError::ImageTokenizer(format!("no thread: {error}")))?;
        Ok(Self {
            tasks,
            done,
            pending: Vec::new(),
        })
    }

    /// Hands over a picture whose codes are complete.
    ///
    /// # Errors
    /// The thread has ended.
    pub(crate) fn paint(
        &mut self,
        id: u64,
        grid: Grid,
        picture: Box<Picture>,
    ) -> Result<(), EngineError> {
        let sent = self.tasks.send(Task { id, grid, picture });
        sent.map_err(|_| EngineError::ImageTokenizer("its thread has ended".to_owned()))?;
        self.pending.push(id);
        Ok(())
    }

    /// Pictures that are not back yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether a request waits for its picture.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.pending.contains(&id)
    }

    /// Drops a request's picture when it comes. Whether there was one.
    pub(crate) fn forget(&mut self, id: u64) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| *pending != id);
        self.pending.len() < before
    }

    /// The pictures that are ready; with `wait`, at least one if any is pending.
    pub(crate) fn ready(&mut self, wait: bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let wait = wait && events.is_empty() && !self.pending.is_empty();
            let next = if wait {
                self.done.recv().ok()
            } else {
                self.done.try_recv().ok()
            };
            match next {
                // A request that was cancelled meanwhile is not pending any more.
                Some((id, event)) if self.forget(id) => events.push(event),
                Some(_) => {}
                None => return events,
            }
        }
    }
}

/// A panic fails its own picture; the weights are not changed by decoding, so the next one is none the worse.
fn paint(model: &Model, task: Task) -> Event {
    let Task {
        id,
        grid,
        mut picture,
    } = task;
    let decode = || model.decode_codes(&picture.codes, grid.rows, grid.cols);
    let decoded = catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|panic| Err(EngineError::ImageTokenizer(words(panic.as_ref()))));
    match decoded {
        Ok(image) => {
            picture.image = Some(image);
            Event::Finished { id, picture }
        }
        Err(error) => Event::Failed { id, error },
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("decoding panicked: {}", text.unwrap_or("no reason given"))
}
