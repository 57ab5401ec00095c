//! Measuring: whole pictures through the engine, single products, and the ceilings of the machine beside them.
//!
//! Nothing here is used for making pictures, and no figure is asserted: a test that depends on time fails on a busy machine.

pub mod machine;
pub mod products;

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use machine::Machine;
use nightshift_engine::EngineError;
use nightshift_engine::Model;
use nightshift_engine::{Counters, Engine, Spent};
use nightshift_engine::{Event, Request};

/// What is run.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Each picture is this request with a seed of its own.
    pub request: Request,
    /// Pictures to make.
    pub images: usize,
    /// Places of the engine.
    pub slots: usize,
    /// Stop each picture after so many tokens.
    pub tokens: Option<u32>,
}

/// What was measured. Steps and tokens are those after the prefill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Pictures that were finished, or stopped where the workload says so.
    pub images: usize,
    /// Tokens of all of them, row ends and image ends included.
    pub tokens: u64,
    /// Codes among them.
    pub codes: u64,
    /// Time of everything, prefill and image decoding included.
    pub seconds: f64,
    /// Time until the first token of the last picture to have one; prefill.
    pub prefill_seconds: f64,
    /// Tokens by time, prefill and image decoding left out.
    pub tokens_s: f64,
    /// Codes by time, likewise.
    pub codes_s: f64,
    /// Finished pictures by time, everything included. `None` when they were stopped early.
    pub images_h: Option<f64>,
    /// Steps of a picture; sequential decoding has one for each code.
    pub steps_per_image: f64,
    /// Codes that a step accepts for each picture.
    pub accepted_per_step: f64,
    /// Rows of a step, over all slots and both branches.
    pub rows_per_step: f64,
    /// Milliseconds of a step, by stage; all zero for what is not on its path.
    pub step_ms: Stages,
    /// Bytes of weights that a step reads: each matrix once.
    pub weight_bytes_per_step: f64,
    /// What a step needs at least: weights at the speed of memory, or products at the peak, whichever is longer.
    pub floor_ms: f64,
    /// The floor over the time of a step.
    pub of_roofline: f64,
    /// Products by time, 10^9 operations a second.
    pub gflop_s: f64,
    /// Most memory the process held, in bytes, where the system says.
    pub peak_rss_bytes: Option<u64>,
}

/// Milliseconds of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stages {
    /// All of it.
    pub total: f64,
    /// Projections of attention, with norms.
    pub projections: f64,
    /// Scores and mixing over the caches.
    pub attention: f64,
    /// Feed-forward blocks.
    pub feed_forward: f64,
    /// Final norm and head.
    pub head: f64,
    /// Guidance, top-k, noise, the choice.
    pub choose: f64,
    /// What remains: embedding, bookkeeping.
    pub other: f64,
}

/// What the engine had done at a moment.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    counters: Counters,
    spent: Spent,
    /// Tokens of all pictures.
    tokens: u64,
}

impl Mark {
    fn of(engine: &Engine, done: &[u32]) -> Self {
        Self {
            at: Instant::now(),
            counters: engine.counters(),
            spent: engine.spent(),
            tokens: done.iter().map(|n| u64::from(*n)).sum(),
        }
    }
}

/// Runs a workload on a loaded model.
///
/// # Errors
/// A request is refused or fails.
pub fn run(
    model: &Arc<Model>,
    workload: &Workload,
    machine: &Machine,
) -> Result<Report, EngineError> {
    let mut engine = Engine::new(Arc::clone(model), workload.slots);
    let began = Instant::now();
    let (mut next, mut images, mut done) = (0, 0, vec![0; workload.images]);
    let mut start = None;
    while images < workload.images {
        while next < workload.images && engine.free_slots() > 0 {
            let request =
                Request { seed: workload.request.seed + next as u64, ..workload.request.clone() };
            engine.admit(next as u64, request)?;
            next += 1;
        }
        for event in engine.step() {
            match event {
                Event::Progress { id, done: n, .. } => {
                    done[id as usize] = n;
                    if workload.tokens.is_some_and(|most| n >= most) {
                        engine.cancel(id);
                        images += 1;
                    }
                }
                Event::Finished { id, picture } => {
                    done[id as usize] = picture.tokens;
                    images += 1;
                }
                Event::Failed { error, .. } => return Err(error),
            }
        }
        let first = workload.slots.min(workload.images);
        if start.is_none() && done[..first].iter().all(|n| *n > 0) {
            start = Some(Mark::of(&engine, &done));
        }
    }
    let end = Mark::of(&engine, &done);
    let span = Span { began, start: start.unwrap_or(end), end };
    Ok(span.report(workload, model, machine))
}

/// A run: its begin, the end of its prefill, its end.
struct Span {
    began: Instant,
    start: Mark,
    end: Mark,
}

impl Span {
    fn report(&self, workload: &Workload, model: &Model, machine: &Machine) -> Report {
        let (start, end) = (&self.start, &self.end);
        let count = |of: fn(&Counters) -> u64| (of(&end.counters) - of(&start.counters)) as f64;
        let seconds = (end.at - start.at).as_secs_f64();
        let all_seconds = (end.at - self.began).as_secs_f64();
        let steps = count(|c| c.forwards).max(1.0);
        let spent = end.spent.since(&start.spent);
        let (layers, head) = model.weights();
        let flop = 2.0 * (count(|c| c.rows) * layers as f64 + count(|c| c.scored) * head as f64);
        let weight_bytes = count(|c| c.weight_bytes) / steps;
        let floor_ms =
            (weight_bytes / machine.read_gb_s).max(flop / steps / machine.fma_gflop_s) / 1e6;
        let step_ms = Stages::of(&spent, steps);
        let accepted = count(|c| c.codes) / count(|c| c.turns).max(1.0);
        let cells = f64::from(workload.request.width / 8 * workload.request.height / 8);
        Report {
            images: workload.images,
            tokens: end.tokens,
            codes: end.counters.codes,
            seconds: all_seconds,
            prefill_seconds: all_seconds - seconds,
            tokens_s: (end.tokens - start.tokens) as f64 / seconds,
            codes_s: count(|c| c.codes) / seconds,
            images_h: workload
                .tokens
                .is_none()
                .then(|| workload.images as f64 * 3600.0 / all_seconds),
            steps_per_image: cells / accepted,
            accepted_per_step: accepted,
            rows_per_step: count(|c| c.rows) / steps,
            step_ms,
            weight_bytes_per_step: weight_bytes,
            floor_ms,
            of_roofline: floor_ms / step_ms.total,
            gflop_s: flop / spent.step / 1e9,
            peak_rss_bytes: peak_rss(),
        }
    }
}

impl Stages {
    fn of(spent: &Spent, steps: f64) -> Self {
        let per_step = |seconds: f64| seconds * 1e3 / steps;
        let known = spent.transformer.total() + spent.choose;
        Self {
            total: per_step(spent.step),
            projections: per_step(spent.transformer.projections),
            attention: per_step(spent.transformer.attention),
            feed_forward: per_step(spent.transformer.feed_forward),
            head: per_step(spent.transformer.head),
            choose: per_step(spent.choose),
            other: per_step(spent.step - known),
        }
    }
}

/// Most memory this process has held, in bytes; known on Linux alone.
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
