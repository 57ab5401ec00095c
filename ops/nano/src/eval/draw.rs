//! A task's scenes through the engine: slots are filled as they become free.

use std::sync::Arc;

use nightshift_engine::{
    Engine, EngineError, Event, GuidanceSchedule, Model, Request, RgbImage, Sampler, prompt,
    surprise,
};

use super::super::sample::Sample;
use super::super::scene::SIDE;
use super::Options;
use super::tasks::Task;

/// What came out of a task.
#[derive(Debug)]
pub struct Drawn {
    /// The drawn panel of each scene.
    pub panels: Vec<RgbImage>,
    /// By how many standard deviations each picture surprises the sequential law; empty when that law leaves no choice.
    pub surprises: Vec<f64>,
    /// Steps of all pictures.
    pub steps: u64,
    /// Those of sequential decoding.
    pub sequential: u64,
}

/// Draws the panel of each scene.
///
/// # Errors
/// What the engine refuses.
pub fn draw(
    model: &Arc<Model>,
    options: &Options,
    task: Task,
    samples: &[Arc<Sample>],
) -> Result<Drawn, EngineError> {
    let mut engine = Engine::new(Arc::clone(model), options.slots);
    let mut panels: Vec<Option<RgbImage>> = vec![None; samples.len()];
    let mut surprises = vec![0.0; if task.sampled() { samples.len() } else { 0 }];
    let (mut next, mut done, mut steps, mut sequential) = (0, 0, 0, 0);
    while done < samples.len() {
        while next < samples.len() && engine.free_slots() > 0 {
            engine.admit(next as u64, request(model, options, task, &samples[next]))?;
            next += 1;
        }
        for event in engine.step() {
            match event {
                Event::Progress { .. } => {}
                Event::Failed { error, .. } => return Err(error),
                Event::Finished { id, picture } => {
                    let image = picture.image.ok_or(EngineError::NoImageTokenizer)?;
                    let top = image.height() - SIDE as u32;
                    panels[id as usize] = Some(image.rows(top, SIDE as u32));
                    if let Some(sigmas) = surprises.get_mut(id as usize) {
                        let request = request(model, options, task, &samples[id as usize]);
                        *sigmas = surprise(model, &request, &picture.codes)?.sigmas();
                    }
                    steps += u64::from(picture.steps);
                    sequential += (SIDE / 8 * SIDE / 8) as u64;
                    done += 1;
                }
            }
        }
    }
    Ok(Drawn { panels: panels.into_iter().flatten().collect(), surprises, steps, sequential })
}

/// What the engine is asked about a scene. Its seed is the scene's.
fn request(model: &Model, options: &Options, task: Task, sample: &Sample) -> Request {
    let side = SIDE as u32;
    let given = task.given().map(|name| sample.panel(name));
    let height = if given.is_some() { 2 * side } else { side };
    let (asked, caption) = task.asked(sample);
    let (cfg, temperature) = if task.sampled() { (4.0, 1.0) } else { (1.0, 0.0) };
    Request {
        prompt: prompt::text(&asked, side, height, caption),
        width: side,
        height,
        given,
        sampler: Sampler {
            cfg: options.cfg.unwrap_or(cfg),
            top_k: model.token_ids().codes(),
            temperature,
            guidance: GuidanceSchedule::Constant,
            decoding: options.decoding,
        },
        seed: sample.seed,
    }
}
