//! The step loop: fixed slots, one forward pass a step for all of them.
//!
//! **Promise.** What a request gives does not depend on the requests beside it.
//!
//! **Main path.** [`Engine::admit`] lays a request out in a free slot; [`Engine::step`] asks every slot for its turn, runs one
//! forward pass over all rows of both branches, chooses codes for the wanted cells, and lets each slot accept them.

pub(crate) mod batch;
pub mod budget;
mod counters;
mod painter;
mod pass;
mod prefix;
pub(crate) mod slot;
mod surprise;
mod window;

pub use counters::{Counters, Spent};
pub use surprise::{Surprise, surprise};

use std::sync::Arc;
use std::time::Instant;

use crate::decode::{Choice, Plan};
use crate::error::EngineError;
use crate::model::Model;
use crate::request::{Decoding, Event, Picture, Request};
use crate::sample::grid::Grid;
use crate::transformer::{BranchCache, Chunk};
use batch::{Branch, Turn};
use painter::{Done, Painter, Task};
use pass::{Pass, Wanted};
use slot::{Running, Slot, check_panel, same_id};
use window::Meter;

/// Runs requests on a model, several at a time.
#[derive(Debug)]
pub struct Engine {
    model: Arc<Model>,
    slots: Vec<Slot>,
    pass: Pass,
    counters: Counters,
    /// Seconds of whole steps.
    stepping: f64,
    meter: Meter,
    /// Bytes of both caches of a slot, when they are limited.
    slot_bytes: Option<u64>,
    /// Started with the first picture or given panel.
    painter: Option<Painter>,
    /// Requests whose given panel is being read; each has a place.
    reading: Vec<(u64, Request)>,
}

impl Engine {
    /// An engine with `slots` places. Caches are allocated when a slot takes its first request, and kept.
    pub fn new(model: Arc<Model>, slots: usize) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(slots).collect();
        Self {
            model,
            slots,
            pass: Pass::default(),
            counters: Counters::default(),
            stepping: 0.0,
            meter: Meter::default(),
            slot_bytes: None,
            painter: None,
            reading: Vec::new(),
        }
    }

    /// An engine whose caches take at most `bytes` altogether, in equal shares; requests that need more are refused.
    pub fn with_cache_bytes(model: Arc<Model>, slots: usize, bytes: u64) -> Self {
        let share = bytes / slots.max(1) as u64;
        Self { slot_bytes: Some(share), ..Self::new(model, slots) }
    }

    /// Places that a request can take now. None while as many pictures as there are slots wait to be decoded: token generation
    /// must not outrun a slower image tokenizer.
    pub fn free_slots(&self) -> usize {
        let (slots, reading) = (self.slots.len(), self.reading.len());
        let pending = self.painter.as_ref().map_or(0, Painter::pending);
        match pending - reading < slots {
            true => slots - self.running_slots() - reading,
            false => 0,
        }
    }

    fn running_slots(&self) -> usize {
        let running = self.slots.iter().filter(|slot| slot.running.is_some());
        running.count()
    }

    /// Takes a request into a free slot; it runs from the next step on, or from the one after its given panel has been read.
    ///
    /// # Errors
    /// The request is refused: no slot, a used id, sizes the model cannot make, a panel of another size.
    pub fn admit(&mut self, id: u64, request: Request) -> Result<(), EngineError> {
        // Without the panel's codes this is laid out as long as with them.
        let running = Running::new(&self.model, id, &request, &[])?;
        let Some(panel) = &request.given else {
            return self.start(running);
        };
        check_panel(&self.model, &request, panel)?;
        self.check_place(&running)?;
        let panel = panel.clone();
        self.painter()?.hand_over(id, Task::Read(panel))?;
        self.reading.push((id, request));
        Ok(())
    }

    /// Takes a request that is laid out already.
    pub(crate) fn start(&mut self, running: Running) -> Result<(), EngineError> {
        self.check_place(&running)?;
        let mut slots = self.slots.iter_mut();
        let free = slots.find(|slot| slot.running.is_none());
        free.ok_or(EngineError::NoFreeSlot)?.take(&self.model, running);
        Ok(())
    }

    /// Whether there is a place for a new request, and memory.
    fn check_place(&self, running: &Running) -> Result<(), EngineError> {
        let painting = self.painter.as_ref();
        if same_id(&self.slots, running.id)
            || painting.is_some_and(|painter| painter.has(running.id))
        {
            return Err(EngineError::DuplicateId(running.id));
        }
        self.check_budget(running)?;
        match self.running_slots() + self.reading.len() < self.slots.len() {
            true => Ok(()),
            false => Err(EngineError::NoFreeSlot),
        }
    }

    fn check_budget(&self, running: &Running) -> Result<(), EngineError> {
        let Some(available) = self.slot_bytes else {
            return Ok(());
        };
        let (conditional, unconditional) = running.positions();
        let bytes =
            |positions| BranchCache::bytes(self.model.config(), positions, self.model.kv_cache());
        let needed = bytes(conditional) + unconditional.map_or(0, bytes);
        if needed > available {
            return Err(EngineError::OutOfBudget { positions: conditional, needed, available });
        }
        Ok(())
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Where its time went so far.
    pub fn spent(&self) -> Spent {
        self.pass.spent(self.stepping)
    }

    /// Drops a request; false when there is none of this id.
    pub fn cancel(&mut self, id: u64) -> bool {
        let running = |slot: &&mut Slot| slot.running.as_ref().is_some_and(|r| r.id == id);
        if let Some(slot) = self.slots.iter_mut().find(running) {
            slot.running = None;
            return true;
        }
        self.reading.retain(|(reading, _)| *reading != id);
        let painter = self.painter.as_mut();
        painter.is_some_and(|painter| painter.forget(id))
    }

    /// One forward pass for all slots, then one event for each request that moved, whose panel was read or whose picture has
    /// become ready. When panels and pictures are all that is left it waits for one. Empty when nothing runs.
    pub fn step(&mut self) -> Vec<Event> {
        let began = Instant::now();
        let ready = prefix::share(&mut self.slots, &mut self.counters);
        let others = self.running_slots().saturating_sub(1);
        let meter = &mut self.meter;
        let turns = self.slots.iter_mut().zip(ready).map(|(slot, ready)| {
            let auto = |branches, context| meter.window(branches, others, context);
            if ready { slot.turn(auto) } else { None }
        });
        let turns: Vec<Option<Turn>> = turns.collect();
        let wanted = self.forward(&turns);
        let choices = self.pass.choices(&self.model, &wanted);
        let mut choices = wanted.iter().map(|wanted| wanted.slot).zip(choices).peekable();
        let mut events = Vec::new();
        for (slot, turn) in turns.iter().enumerate() {
            if let Some(Turn::Decode { plan, .. }) = turn {
                let mine = std::iter::from_fn(|| choices.next_if(|(owner, _)| *owner == slot));
                let mine: Vec<Choice> = mine.map(|(_, choice)| choice).collect();
                events.extend(self.accept(slot, plan, mine));
            }
        }
        self.stepping += began.elapsed().as_secs_f64();
        let idle = events.is_empty() && self.running_slots() == 0;
        let ready = self.painter.as_mut().map(|painter| painter.ready(idle));
        for (id, done) in ready.unwrap_or_default() {
            events.push(match done {
                Done::Painted(event) => event,
                Done::Read(codes) => self.begin(id, codes),
            });
        }
        events
    }

    /// Puts a request whose panel was read into its place.
    fn begin(&mut self, id: u64, codes: Result<Vec<u32>, EngineError>) -> Event {
        let place = self.reading.iter().position(|(reading, _)| *reading == id);
        let request = place.map(|place| self.reading.swap_remove(place).1);
        let begun = codes.and_then(|codes| {
            let request = request.ok_or(EngineError::NoFreeSlot)?;
            let running = Running::new(&self.model, id, &request, &codes)?;
            let total = running.stream.total() as u32;
            self.start(running).map(|()| total)
        });
        match begun {
            Ok(total) => Event::Progress { id, done: 0, total },
            Err(error) => Event::Failed { id, error },
        }
    }

    /// Feeds the rows of all turns and computes the scores of the wanted cells.
    fn forward(&mut self, turns: &[Option<Turn>]) -> Vec<Wanted> {
        let wanted = self.wanted(turns);
        let mut chunks = Vec::new();
        for (slot, turn) in self.slots.iter_mut().zip(turns) {
            let Some(turn) = turn else { continue };
            let [mut conditional, mut unconditional] = slot.caches();
            for feed in turn.feeds() {
                let cache = match feed.branch {
                    Branch::Conditional => conditional.take(),
                    Branch::Unconditional => unconditional.take(),
                };
                chunks.extend(cache.map(|cache| Chunk { cache, tokens: &feed.tokens }));
            }
        }
        if chunks.is_empty() {
            return wanted;
        }
        let fed: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        let context = chunks.iter().map(|chunk| chunk.cache.len()).sum::<usize>() / chunks.len();
        let scored = wanted.iter().flat_map(Wanted::rows).count() as u64;
        self.counters.forwards += 1;
        self.counters.rows += fed as u64;
        self.counters.scored += scored;
        self.counters.weight_bytes += self.model.transformer().bytes_read(scored > 0);
        let began = Instant::now();
        self.pass.run(&self.model, &mut chunks, &wanted);
        self.meter.step(fed, context, began.elapsed().as_secs_f64() * 1e3);
        wanted
    }

    /// The cells whose scores the turns want, by their rows of the batch.
    fn wanted(&self, turns: &[Option<Turn>]) -> Vec<Wanted> {
        let (mut wanted, mut first_row) = (Vec::new(), 0);
        for (slot, turn) in turns.iter().enumerate() {
            let (Some(turn), Some(running)) = (turn, &self.slots[slot].running) else {
                continue;
            };
            if let Turn::Decode { feeds, plan } = turn {
                let prompt = running.stream.prompt().len();
                let (other, sampler) = (feeds[0].tokens.len(), &running.sampler);
                wanted.extend(plan.wanted.iter().map(|index| Wanted {
                    slot,
                    cell: running.stream.cell(*index).unwrap_or_default(),
                    conditional: first_row + feeds[0].row_of(*index, prompt),
                    unconditional:
                        feeds.get(1).map(|feed| first_row + other + feed.row_of(*index, prompt)),
                    scale: running.guidance[*index],
                    top_k: sampler.top_k,
                    temperature: sampler.temperature,
                    seed: running.seed,
                    law: running.wants_laws(),
                }));
            }
            first_row += turn.feeds().iter().map(|feed| feed.tokens.len()).sum::<usize>();
        }
        wanted
    }

    fn accept(&mut self, slot: usize, plan: &Plan, choices: Vec<Choice>) -> Option<Event> {
        let running = self.slots[slot].running.as_mut()?;
        let keep = match running.accept(plan, choices) {
            Ok(keep) => keep,
            Err(error) => return Some(self.fail(slot, error)),
        };
        let last = plan.wanted.iter().position(|index| *index == keep);
        let codes = last.map_or(1, |last| last + 1);
        self.counters.turns += 1;
        self.counters.codes += codes as u64;
        if matches!(running.sampler.decoding, Decoding::Jacobi { .. }) {
            self.meter.accepted(plan.wanted.len(), codes);
        }
        let (id, finished) = (running.id, running.stream.is_finished());
        let (done, total) =
            (running.stream.generated().len() as u32, running.stream.total() as u32);
        self.slots[slot].roll_back(keep);
        if finished { self.finish(slot) } else { Some(Event::Progress { id, done, total }) }
    }

    /// Frees the slot; the event is the finished picture, or the last progress while its codes are decoded.
    fn finish(&mut self, slot: usize) -> Option<Event> {
        let running = self.slots[slot].running.take()?;
        let (id, total) = (running.id, running.stream.total() as u32);
        let generated = running.stream.generated().to_vec();
        let picture = Box::new(Picture {
            image: None,
            codes: running.stream.codes(),
            tokens: generated.len() as u32,
            generated,
            steps: running.steps,
        });
        if !self.model.makes_pictures() {
            return Some(Event::Finished { id, picture });
        }
        Some(match self.paint(id, running.stream.grid(), picture) {
            Ok(()) => Event::Progress { id, done: total, total },
            Err(error) => Event::Failed { id, error },
        })
    }

    fn paint(&mut self, id: u64, grid: Grid, picture: Box<Picture>) -> Result<(), EngineError> {
        self.painter()?.hand_over(id, Task::Paint { grid, picture })
    }

    fn painter(&mut self) -> Result<&mut Painter, EngineError> {
        match &mut self.painter {
            Some(painter) => Ok(painter),
            none => Ok(none.insert(Painter::start(&self.model)?)),
        }
    }

    fn fail(&mut self, slot: usize, error: EngineError) -> Event {
        let id = self.slots[slot].running.take().map_or(0, |running| running.id);
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
