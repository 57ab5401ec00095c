//! The step loop: fixed slots, one forward pass a step for all of them.

use std::sync::Arc;

use crate::error::EngineError;
use crate::model::Model;
use crate::request::{Event, Picture, Request};

/// Runs requests on a model, several at a time. Results do not depend on what else is running.
#[derive(Debug)]
pub struct Engine {
    model: Arc<Model>,
    slots: Vec<Option<u64>>,
}

impl Engine {
    /// An engine with `slots` places.
    pub fn new(model: Arc<Model>, slots: usize) -> Self {
        Self {
            model,
            slots: vec![None; slots],
        }
    }

    /// Places that a request can take now.
    pub fn free_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }

    /// Takes a request into a free slot; it runs from the next step on.
    ///
    /// # Errors
    /// The request is refused: no slot, a used id, sizes the model cannot make, more positions than the cache holds.
    pub fn admit(&mut self, id: u64, _request: Request) -> Result<(), EngineError> {
        let _ = (id, self.model.fingerprint());
        Err(EngineError::NoFreeSlot)
    }

    /// One forward pass for all slots. Empty when nothing runs.
    pub fn step(&mut self) -> Vec<Event> {
        Vec::new()
    }

    /// Drops a request; unknown ids are ignored.
    pub fn cancel(&mut self, id: u64) {
        for slot in &mut self.slots {
            if *slot == Some(id) {
                *slot = None;
            }
        }
    }
}

/// Runs one request alone.
///
/// # Errors
/// As [`Engine::admit`], and what fails while it runs.
pub fn generate(model: &Arc<Model>, request: Request) -> Result<Picture, EngineError> {
    let mut engine = Engine::new(Arc::clone(model), 1);
    engine.admit(0, request)?;
    loop {
        for event in engine.step() {
            match event {
                Event::Finished { picture, .. } => return Ok(*picture),
                Event::Failed { error, .. } => return Err(error),
                Event::Progress { .. } => {}
            }
        }
    }
}
