//! The nano model's examination: held-out scenes through the real engine, and what came out against what is true.
//!
//! Promise: a table is a function of the model and the options, bit for bit on the same machine; neither the number of slots nor
//! that of threads changes it.
//!
//! Main path: [`tasks`] says what each task asks, [`draw`] puts it through the engine, [`score`] judges a panel. The same judge
//! sees three panels: the model's, the tokenizer's copy of the true one (the bound), and a trivial one (the baseline).

pub mod draw;
mod measure;
pub mod pose;
pub mod read;
pub mod report;
pub mod score;
pub mod tasks;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use nightshift_engine::{Decoding, EngineError, Model, RgbImage};

use super::sample::{HELD_OUT, Sample};
use draw::Drawn;
use report::{Report, Scores, TaskReport};
use tasks::Task;

/// The first seed of the examination.
pub const FIRST: u64 = HELD_OUT;

/// What is examined, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tasks, in the order of the table.
    pub tasks: Vec<Task>,
    /// First seed.
    pub first: u64,
    /// Scenes of the dense tasks.
    pub scenes: usize,
    /// Scenes of the sampled tasks.
    pub sampled: usize,
    /// Guidance of every task instead of its own.
    pub cfg: Option<f32>,
    /// How codes are chosen.
    pub decoding: Decoding,
    /// Pictures drawn at the same time.
    pub slots: usize,
}

/// One task's scenes and what the model drew for them.
#[derive(Debug)]
pub struct Drawings<'a> {
    /// The task.
    pub task: Task,
    /// The scenes.
    pub samples: &'a [Arc<Sample>],
    /// The panels that were drawn.
    pub panels: &'a [RgbImage],
}

/// Examines a model; `seen` gets every task's pictures.
///
/// # Errors
/// What the engine refuses.
pub fn run<E: From<EngineError>>(
    model: &Arc<Model>,
    options: &Options,
    mut seen: impl FnMut(&Drawings<'_>) -> Result<(), E>,
) -> Result<Report, E> {
    let mut examination = Examination { model, samples: HashMap::new(), copies: HashMap::new() };
    let mut tasks = Vec::new();
    for task in &options.tasks {
        let count = if task.sampled() { options.sampled } else { options.scenes };
        let samples = examination.samples(*task, options.first, count);
        let Drawn { panels, surprises, steps, sequential } =
            draw::draw(model, options, *task, &samples)?;
        seen(&Drawings { task: *task, samples: &samples, panels: &panels })?;
        let mut scores = Scores::default();
        for (i, sample) in samples.iter().enumerate() {
            let other = &samples[(i + 1) % samples.len()];
            let copy = examination.copy(sample, task.wanted())?;
            let trivial = task.trivial(sample, other);
            for (column, panel) in [&panels[i], &copy, &trivial].into_iter().enumerate() {
                for (name, value) in score::score(*task, sample, panel) {
                    scores.push(name, column, value);
                }
            }
        }
        for sigmas in surprises {
            scores.push("surprise sigmas", 0, sigmas);
        }
        tasks.push(TaskReport { task: *task, scenes: samples.len(), steps, sequential, scores });
    }
    Ok(Report { tasks })
}

/// Scenes and their copies, made once.
struct Examination<'a> {
    model: &'a Model,
    samples: HashMap<u64, Arc<Sample>>,
    copies: HashMap<(u64, &'static str), RgbImage>,
}

impl Examination<'_> {
    /// The first `count` scenes that a task can be asked about.
    fn samples(&mut self, task: Task, first: u64, count: usize) -> Vec<Arc<Sample>> {
        let all = (first..).map(|seed| {
            let sample = self.samples.entry(seed);
            Arc::clone(sample.or_insert_with(|| Arc::new(Sample::new(seed))))
        });
        all.filter(|sample| task.fits(sample)).take(count).collect()
    }

    /// A true panel after the image tokenizer's encoder and decoder.
    fn copy(&mut self, sample: &Sample, panel: &'static str) -> Result<RgbImage, EngineError> {
        if let Some(copy) = self.copies.get(&(sample.seed, panel)) {
            return Ok(copy.clone());
        }
        let truth = sample.panel(panel);
        let codes = self.model.encode_panel(&truth)?;
        let (rows, columns) = (truth.height() as usize / 8, truth.width() as usize / 8);
        let copy = self.model.decode_codes(&codes, rows, columns)?;
        self.copies.insert((sample.seed, panel), copy.clone());
        Ok(copy)
    }
}
