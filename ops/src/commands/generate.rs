//! `generate`: one picture from the command line, without any server.

use std::path::Path;

use anyhow::Context;
use nightshift_engine::image::png::{self, Pixels};
use nightshift_engine::prompt::{self, Map, PromptTask};
use nightshift_engine::{
    GuidanceSchedule, LoadError, LoadOptions, Model, Picture, Request, RgbImage, Sampler,
};
use nightshift_jobs::{MAX_PROMPT_BYTES, MAX_SIDE};

use crate::cli::{GenerateArgs, GenerateKind, GenerateTask};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::units::threads;

/// Draws the picture and writes it, its codes, or both.
///
/// # Errors
/// A model folder that cannot be loaded, a request that contradicts itself, an unreadable image, an unwritable file.
pub fn run(ui: Ui, args: &GenerateArgs) -> anyhow::Result<Exit> {
    let task = task(args)?;
    check(args)?;
    let options = LoadOptions {
        weights: args.weights,
        kv_cache: args.kv_cache,
        threads: threads(args.threads),
        codes_only: args.codes_only,
    };
    let model = Model::load(&args.model, &options).map_err(|error| {
        let missing = matches!(error, LoadError::File { .. });
        let failure = Failure::new(Exit::Usage, format!("model {}: {error}", args.model.display()));
        match missing {
            true => failure.help("`nightshift model random DIR` writes a small model that works"),
            false => failure,
        }
    })?;
    let (width, height) = args.size;
    let given = match &args.image {
        Some(path) => Some(given_panel(path, width, height / 2)?),
        None => None,
    };
    let request = Request {
        prompt: prompt::text(&task, width, height, &args.prompt),
        width,
        height,
        given,
        sampler: sampler(args),
        seed: args.seed,
    };
    let started = std::time::Instant::now();
    let picture = nightshift_engine::generate(&model, request)
        .map_err(|error| Failure::new(Exit::Usage, format!("generate: {error}")))?;
    ui.note(&format!(
        "{} tokens in {} steps, {:.1} s, fingerprint {}",
        picture.tokens,
        picture.steps,
        started.elapsed().as_secs_f64(),
        model.fingerprint()
    ));
    write(args, &picture)?;
    Ok(Exit::Ok)
}

fn write(args: &GenerateArgs, picture: &Picture) -> anyhow::Result<()> {
    if let Some(path) = &args.codes {
        let text =
            serde_json::to_string(&picture.generated).expect("a list of numbers can be written");
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let (Some(path), Some(image)) = (&args.out, &picture.image) {
        let bytes = png::write(Pixels::Rgb8(image.as_raw()), image.width(), image.height(), &[]);
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn sampler(args: &GenerateArgs) -> Sampler {
    Sampler {
        cfg: args.cfg,
        top_k: args.top_k,
        temperature: args.temperature,
        guidance: match args.guidance_schedule.as_str() {
            "reference" => GuidanceSchedule::Reference,
            _ => GuidanceSchedule::Constant,
        },
        decoding: args.decoding.decoding(),
    }
}

fn task(args: &GenerateArgs) -> Result<PromptTask, Failure> {
    let usage = |message: &str| Failure::new(Exit::Usage, message);
    let map = || match args.task {
        Some(GenerateTask::Depth) => Ok(Map::Depth),
        Some(GenerateTask::Canny) => Ok(Map::Canny),
        Some(GenerateTask::Hed) => Ok(Map::Hed),
        Some(GenerateTask::Openpose) => Ok(Map::Pose),
        Some(GenerateTask::Normal) => Ok(Map::Normal),
        Some(GenerateTask::Segmentation) => Ok(Map::Segmentation),
        Some(GenerateTask::Subject) => Err(usage("--task subject goes with --kind subject_set")),
        None => Err(usage("this kind needs a map")
            .help("--task depth, canny, hed, openpose, normal or segmentation")),
    };
    let task = match args.kind {
        GenerateKind::TextToImage => PromptTask::TextToImage,
        GenerateKind::ImagePairs => PromptTask::Pair { map: map()? },
        GenerateKind::Controllable => PromptTask::Control { map: map()? },
        GenerateKind::DensePrediction => PromptTask::Dense { map: map()? },
        GenerateKind::SubjectSet => PromptTask::Subject { description: args.subject.clone() },
        GenerateKind::Edit => PromptTask::Edit { instruction: args.prompt.clone() },
    };
    if args.task.is_some() && matches!(args.kind, GenerateKind::TextToImage | GenerateKind::Edit) {
        return Err(usage("this kind draws no map; --task cannot be used with it"));
    }
    match (task.needs_panel(), args.image.is_some()) {
        (true, false) => Err(usage("this kind needs --image, the given upper panel")),
        (false, true) => {
            Err(usage("this kind draws the whole picture; --image cannot be used with it"))
        }
        _ => Ok(task),
    }
}

/// What would otherwise be found after the model is loaded, or the picture drawn. The limits are those of specs.
fn check(args: &GenerateArgs) -> Result<(), Failure> {
    let usage = |message: String| Err(Failure::new(Exit::Usage, message));
    let bytes = args.prompt.len();
    if bytes > MAX_PROMPT_BYTES {
        return usage(format!("the prompt has {bytes} bytes, more than {MAX_PROMPT_BYTES}"));
    }
    let (width, height) = args.size;
    if width.max(height) > MAX_SIDE {
        return usage(format!("--size {width}x{height}: the largest is {MAX_SIDE}x{MAX_SIDE}"));
    }
    for path in [&args.codes, &args.out].into_iter().flatten() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.is_dir() {
            return usage(format!("{} is a folder, not a file", path.display()));
        }
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(Failure::new(
                Exit::NotFound,
                format!("{}: no such folder", folder.display()),
            ));
        }
    }
    Ok(())
}

/// The file, upright, cropped to its centre and scaled to one panel.
fn given_panel(path: &Path, width: u32, height: u32) -> anyhow::Result<RgbImage> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(Exit::NotFound, format!("{}: {error}", path.display())))?;
    let raw =
        nightshift_engine::image::decode(&bytes, &nightshift_engine::image::Limits::default())
            .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?;
    let upright = nightshift_engine::image::apply_orientation(&raw);
    let (panel, _crop) = nightshift_engine::image::fit::center_crop(&upright, width, height);
    Ok(panel)
}
