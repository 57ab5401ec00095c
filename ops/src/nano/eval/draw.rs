//! A task's scenes through the engine: slots are filled as they become free.

use std::sync::Arc;

use nightshift_engine::{
    Engine, EngineError, Event, GuidanceSchedule, Model, Request, RgbImage, Sampler, prompt,
};

use super::super::sample::Sample;
use super::super::scene::SIDE;
use super::Options;
use super::tasks::Task;

/// The drawn panel of each scene, the steps of all of them, and those of sequential decoding.
///
/// # Errors
/// What the engine refuses.
pub fn draw(
    model: &Arc<Model>,
    options: &Options,
    task: Task,
    samples: &[Arc<Sample>],
) -> Result<(Vec<RgbImage>, u64, u64), EngineError> {
    let mut engine = Engine::new(Arc::clone(model), options.slots);
    let mut panels: Vec<Option<RgbImage>> = vec![None; samples.len()];
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
                    steps += u64::from(picture.steps);
                    sequential += (SIDE / 8 * SIDE / 8) as u64;
                    done += 1;
                }
            }
        }
    }
    Ok((panels.into_iter().flatten().collect(), steps, sequential))
}

/// What the engine is asked about a scene. Its seed is the scene's.
fn request(model: &Model, options: &Options, task: Task, sample: &Sample) -> Request {
    let side = SIDE as u32;
    let given = task.given().map(|name| sample.panel(name));
    let height = if given.is_some() { 2 * side } else { side };
    let (asked, caption) = task.asked(sample);
    let (cfg, temperature) = if task.sampled() {
        (4.0, 1.0)
    } else {
        (1.0, 0.0)
    };
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
