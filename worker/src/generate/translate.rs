//! An item in the words of the engine. Pure.

use nightshift_engine::prompt::{self, Map, PromptTask};
use nightshift_engine::{Decoding, GuidanceSchedule, Request, RgbImage, Sampler, Window};
use nightshift_jobs::{self as jobs, Item, MapKind, Task};

/// The engine's request for an item; `given` is the fitted upper panel.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the sampler's numbers are small and the engine computes in f32"
)]
pub(crate) fn request(item: &Item, given: Option<RgbImage>) -> Request {
    let sampler = &item.sampler;
    Request {
        prompt: prompt_text(item),
        width: item.picture.width,
        height: item.picture.height,
        given,
        sampler: Sampler {
            cfg: sampler.cfg as f32,
            top_k: sampler.top_k as usize,
            temperature: sampler.temperature as f32,
            guidance: match sampler.guidance_schedule {
                jobs::GuidanceSchedule::Constant => GuidanceSchedule::Constant,
                jobs::GuidanceSchedule::Reference => GuidanceSchedule::Reference,
            },
            decoding: decoding(sampler.decoding, sampler.window),
        },
        seed: item.seed,
    }
}

/// The prompt string: the model's own for the task, unless the spec overrides it.
pub(crate) fn prompt_text(item: &Item) -> String {
    if let Some(prompt) = &item.prompt {
        return prompt.clone();
    }
    prompt::text(&task(&item.task), item.picture.width, item.picture.height, &item.caption)
}

fn task(task: &Task) -> PromptTask {
    match task {
        Task::TextToImage => PromptTask::TextToImage,
        Task::Pair { map: kind } => PromptTask::Pair { map: map(*kind) },
        Task::Control { map: kind } => PromptTask::Control { map: map(*kind) },
        Task::Subject { description } => PromptTask::Subject { description: description.clone() },
        Task::Edit { instruction } => PromptTask::Edit { instruction: instruction.clone() },
        Task::Dense { map: kind } => PromptTask::Dense { map: map(*kind) },
    }
}

fn map(kind: MapKind) -> Map {
    match kind {
        MapKind::Depth => Map::Depth,
        MapKind::Normal => Map::Normal,
        MapKind::Canny => Map::Canny,
        MapKind::Hed => Map::Hed,
        MapKind::Openpose => Map::Pose,
        MapKind::Segmentation => Map::Segmentation,
    }
}

fn decoding(decoding: jobs::Decoding, window: jobs::Window) -> Decoding {
    let window = match window {
        jobs::Window::Auto => Window::Auto,
        jobs::Window::Fixed(positions) => Window::Fixed(positions as usize),
    };
    match decoding {
        jobs::Decoding::Jacobi => Decoding::Jacobi { window },
        jobs::Decoding::Coupled => Decoding::Coupled { window },
        jobs::Decoding::Sequential => Decoding::Sequential,
    }
}
