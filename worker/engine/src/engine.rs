//! The step loop: fixed slots, one forward pass a step for all of them.
//!
//! **Promise.** What a request gives does not depend on the requests beside it.
//!
//! **Main path.** [`Engine::admit`] lays a request out in a free slot; [`Engine::step`] asks every slot for its turn, runs one
//! forward pass over all rows of both branches, chooses codes for the wanted cells, and lets each slot accept them.

use std::sync::Arc;

use crate::batch::{Branch, Turn};
use crate::error::EngineError;
use crate::model::Model;
use crate::request::{Event, Picture, Request};
use crate::sample::logits::{choose, guide};
use crate::sample::rng;
use crate::slot::{Running, Slot, given_codes, same_id};
use crate::transformer::{Chunk, Scratch};

/// The draw that defines the sequential token sequence.
const NOISE_DRAW: u32 = 0;

/// A cell whose scores were not finite numbers.
const NO_CODE: u32 = u32::MAX;

/// Runs requests on a model, several at a time.
#[derive(Debug)]
pub struct Engine {
    model: Arc<Model>,
    slots: Vec<Slot>,
    scratch: Scratch,
    logits: Vec<f32>,
}

/// One cell that a step evaluates.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    slot: usize,
    cell: usize,
    scale: f32,
    /// Rows among the computed scores.
    conditional: usize,
    unconditional: Option<usize>,
}

impl Engine {
    /// An engine with `slots` places. Caches are allocated when a slot takes its first request, and kept.
    pub fn new(model: Arc<Model>, slots: usize) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(slots).collect();
        Self {
            model,
            slots,
            scratch: Scratch::default(),
            logits: Vec::new(),
        }
    }

    /// Places that a request can take now.
    pub fn free_slots(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.running.is_none())
            .count()
    }

    /// Takes a request into a free slot; it runs from the next step on. A given panel is encoded here.
    ///
    /// # Errors
    /// The request is refused: no slot, a used id, sizes the model cannot make, a panel of another size.
    pub fn admit(&mut self, id: u64, request: Request) -> Result<(), EngineError> {
        let given = given_codes(&self.model, &request)?;
        let running = Running::new(&self.model, id, &request, &given)?;
        self.start(running)
    }

    /// Takes a request that is laid out already.
    pub(crate) fn start(&mut self, running: Running) -> Result<(), EngineError> {
        if same_id(&self.slots, running.id) {
            return Err(EngineError::DuplicateId(running.id));
        }
        let free = self
            .slots
            .iter_mut()
            .find(|slot| slot.running.is_none())
            .ok_or(EngineError::NoFreeSlot)?;
        free.take(&self.model, running);
        Ok(())
    }

    /// Drops a request; unknown ids are ignored.
    pub fn cancel(&mut self, id: u64) {
        for slot in &mut self.slots {
            if slot
                .running
                .as_ref()
                .is_some_and(|running| running.id == id)
            {
                slot.running = None;
            }
        }
    }

    /// One forward pass for all slots, then one event for each request that moved. Empty when nothing runs.
    pub fn step(&mut self) -> Vec<Event> {
        let turns: Vec<Option<Turn>> = self.slots.iter_mut().map(Slot::turn).collect();
        let wanted = self.forward(&turns);
        let codes = self.choose(&wanted);
        let mut events = Vec::new();
        for (slot, turn) in turns.iter().enumerate() {
            if let Some(Turn::Decode { plan, .. }) = turn {
                let mine = wanted
                    .iter()
                    .zip(&codes)
                    .filter(|(wanted, _)| wanted.slot == slot);
                let (cells, codes): (Vec<usize>, Vec<u32>) =
                    mine.map(|(wanted, code)| (wanted.cell, *code)).unzip();
                // Codes behind a wrong guess do not count, so a bad one among them is no error; the first always counts.
                let good = codes.iter().take_while(|code| **code != NO_CODE).count();
                if good == 0 {
                    events.push(self.fail(slot, EngineError::NotANumber { cell: cells[0] }));
                } else {
                    let plan = plan.first(good);
                    events.extend(self.accept(slot, &plan, &codes[..good]));
                }
            }
        }
        events
    }

    /// Runs the rows of all turns and computes the scores of the wanted cells.
    fn forward(&mut self, turns: &[Option<Turn>]) -> Vec<Wanted> {
        let (rows, wanted) = self.lay_out(turns);
        let mut chunks = Vec::new();
        for (slot, turn) in self.slots.iter_mut().zip(turns) {
            let Some(turn) = turn else { continue };
            let [mut conditional, mut unconditional] = slot.caches();
            for feed in turn.feeds() {
                let cache = match feed.branch {
                    Branch::Conditional => conditional.take(),
                    Branch::Unconditional => unconditional.take(),
                };
                chunks.extend(cache.map(|cache| Chunk {
                    cache,
                    tokens: &feed.tokens,
                }));
            }
        }
        if chunks.is_empty() {
            return wanted;
        }
        let (transformer, pool) = (self.model.transformer(), self.model.pool());
        transformer.forward(pool, &mut chunks, &mut self.scratch, &mut |_, _, _| {});
        transformer.logits(
            pool,
            &mut self.scratch,
            &rows,
            &mut self.logits,
            &mut |_, _, _| {},
        );
        wanted
    }

    /// Rows of the batch whose scores are wanted, and what they are for.
    fn lay_out(&self, turns: &[Option<Turn>]) -> (Vec<usize>, Vec<Wanted>) {
        let (mut rows, mut wanted, mut first_row) = (Vec::new(), Vec::new(), 0);
        for (slot, turn) in turns.iter().enumerate() {
            let (Some(turn), Some(running)) = (turn, &self.slots[slot].running) else {
                continue;
            };
            if let Turn::Decode { feeds, plan } = turn {
                let prompt = running.stream.prompt().len();
                for index in &plan.wanted {
                    let mut at = first_row;
                    let conditional = rows.len();
                    for feed in feeds {
                        rows.push(at + feed.row_of(*index, prompt));
                        at += feed.tokens.len();
                    }
                    let unconditional = (feeds.len() == 2).then_some(conditional + 1);
                    let cell = running.stream.cell(*index).unwrap_or_default();
                    wanted.push(Wanted {
                        slot,
                        cell,
                        scale: running.guidance[*index],
                        conditional,
                        unconditional,
                    });
                }
            }
            first_row += turn
                .feeds()
                .iter()
                .map(|feed| feed.tokens.len())
                .sum::<usize>();
        }
        (rows, wanted)
    }

    /// The code of each wanted cell, by its scores and its own noise alone.
    fn choose(&self, wanted: &[Wanted]) -> Vec<u32> {
        let width = self.model.token_ids().codes();
        let row = |i: usize| &self.logits[i * width..(i + 1) * width];
        let mut codes = vec![NO_CODE; wanted.len()];
        self.model.pool().chunks_mut(&mut codes, 1, |i, code| {
            let cell = &wanted[i];
            let Some(running) = &self.slots[cell.slot].running else {
                return;
            };
            let mut scores = row(cell.conditional).to_vec();
            if let Some(unconditional) = cell.unconditional {
                guide(&mut scores, row(unconditional), cell.scale);
            }
            let noise = |out: &mut [f32]| {
                rng::gumbel_of_cell(running.seed, cell.cell as u32, NOISE_DRAW, out)
            };
            let chosen = choose(
                &mut scores,
                running.sampler.top_k,
                running.sampler.temperature,
                noise,
            );
            code[0] = chosen.unwrap_or(NO_CODE);
        });
        codes
    }

    fn accept(&mut self, slot: usize, plan: &crate::decode::Plan, codes: &[u32]) -> Option<Event> {
        let running = self.slots[slot].running.as_mut()?;
        let keep = running.accept(plan, codes);
        let (id, finished) = (running.id, running.stream.is_finished());
        let (done, total) = (
            running.stream.generated().len() as u32,
            running.stream.total() as u32,
        );
        self.slots[slot].roll_back(keep);
        if finished {
            self.finish(slot)
        } else {
            Some(Event::Progress { id, done, total })
        }
    }

    fn finish(&mut self, slot: usize) -> Option<Event> {
        let running = self.slots[slot].running.take()?;
        let codes = running.stream.codes();
        let grid = running.stream.grid();
        let image = match self.model.makes_pictures() {
            true => self
                .model
                .decode_codes(&codes, grid.rows, grid.cols)
                .map(Some),
            false => Ok(None),
        };
        Some(match image {
            Ok(image) => {
                let generated = running.stream.generated().to_vec();
                let tokens = generated.len() as u32;
                let picture = Picture {
                    image,
                    codes,
                    generated,
                    tokens,
                    steps: running.steps,
                };
                Event::Finished {
                    id: running.id,
                    picture: Box::new(picture),
                }
            }
            Err(error) => Event::Failed {
                id: running.id,
                error,
            },
        })
    }

    fn fail(&mut self, slot: usize, error: EngineError) -> Event {
        let id = self.slots[slot]
            .running
            .take()
            .map_or(0, |running| running.id);
        Event::Failed { id, error }
    }
}

/// Runs one request alone.
///
/// # Errors
/// As [`Engine::admit`], and what fails while it runs.
pub fn generate(model: &Arc<Model>, request: Request) -> Result<Picture, EngineError> {
    let mut engine = Engine::new(Arc::clone(model), 1);
    engine.admit(0, request)?;
    finish_alone(&mut engine)
}

/// Steps an engine with one request until it ends.
pub(crate) fn finish_alone(engine: &mut Engine) -> Result<Picture, EngineError> {
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
