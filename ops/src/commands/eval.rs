//! `eval`: the nano model's examination.

use std::path::Path;

use anyhow::Context;
use nightshift_engine::image::png::{self, Pixels};
use nightshift_engine::{Decoding, LoadOptions, Model, Window};
use serde_json::json;

use crate::cli::{DecodingName, EvalNanoArgs, EvalVerb};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::output::Format;
use crate::ui::Ui;
use crate::units::threads;
use nightshift_nano::eval::tasks::Task;
use nightshift_nano::eval::{self, Drawings, Options};
use nightshift_nano::sheet;

/// Scenes on a contact sheet.
const SHEET: usize = 16;

/// Runs an `eval` verb.
///
/// # Errors
/// A model that cannot be loaded, a folder that cannot be written.
pub fn run(ui: Ui, verb: &EvalVerb) -> anyhow::Result<Exit> {
    match verb {
        EvalVerb::Nano(args) => nano(ui, args),
    }
}

fn nano(ui: Ui, args: &EvalNanoArgs) -> anyhow::Result<Exit> {
    let load = LoadOptions {
        weights: args.weights,
        kv_cache: args.kv_cache,
        threads: threads(args.threads),
        codes_only: false,
    };
    let model = Model::load(&args.model, &load).map_err(|error| {
        Failure::new(Exit::Usage, format!("model {}: {error}", args.model.display()))
    })?;
    let options = options(args);
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)
            .with_context(|| format!("cannot write to {}", out.display()))?;
    }
    let report = eval::run(&model, &options, |drawings: &Drawings<'_>| {
        let (name, count) = (drawings.task.name(), drawings.panels.len());
        ui.note(&format!("{name}: {count} drawn"));
        match &args.out {
            Some(out) => pictures(out, drawings),
            None => Ok(()),
        }
    })?;
    let out = &mut std::io::stdout().lock();
    let format = if args.json { Format::Json } else { args.output.output };
    if format != Format::Table {
        let window = args.window;
        let all = json!({
            "model": args.model,
            "fingerprint": model.fingerprint(),
            "weights": args.weights.as_str(),
            "kv_cache": args.kv_cache.as_str(),
            "decoding": format!("{:?}", args.decoding).to_lowercase(),
            "window": (args.decoding != DecodingName::Sequential).then_some(window),
            "cfg": args.cfg,
            "first": args.first,
            "scenes": options.scenes,
            "sampled": options.sampled,
            "rows": report.rows(args.values),
        });
        output::one(out, format, &all)?;
        return Ok(Exit::Ok);
    }
    let columns = [
        ("TASK", "task"),
        ("MEASURE", "measure"),
        ("N", "n"),
        ("MODEL", "model"),
        ("2 S.E.", "two_errors"),
        ("BOUND", "bound"),
        ("BASELINE", "baseline"),
        ("OF BOUND", "of_bound"),
        ("STEPS", "steps"),
        ("SEQUENTIAL", "sequential"),
    ]
    .map(|(head, field)| output::column(head, field));
    output::rows(out, Format::Table, &columns, &report.short())?;
    Ok(Exit::Ok)
}

fn options(args: &EvalNanoArgs) -> Options {
    let wanted = |task: &Task| {
        let mut names = args.tasks.iter();
        args.tasks.is_empty() || names.any(|filter| filter.names(*task))
    };
    let window = Window::Fixed(args.window);
    Options {
        tasks: Task::all().into_iter().filter(wanted).collect(),
        first: args.first,
        scenes: args.scenes as usize,
        sampled: args.sampled.unwrap_or(4 * args.scenes) as usize,
        cfg: args.cfg,
        decoding: match args.decoding {
            DecodingName::Sequential => Decoding::Sequential,
            DecodingName::Jacobi => Decoding::Jacobi { window },
            DecodingName::Coupled => Decoding::Coupled { window },
        },
        slots: args.slots as usize,
    }
}

/// A contact sheet: what was given, what was drawn, the truth; and the words.
fn pictures(out: &Path, drawings: &Drawings<'_>) -> anyhow::Result<()> {
    let task = drawings.task;
    let (mut rows, mut words) = (Vec::new(), String::new());
    for (sample, panel) in drawings.samples.iter().zip(drawings.panels).take(SHEET) {
        let given = task.given().map(|name| sample.panel(name));
        let truth = sample.panel(task.wanted());
        rows.push(given.into_iter().chain([panel.clone(), truth]).collect());
        let text = match task {
            Task::Edit => &sample.edit.instruction,
            Task::Subject => &sample.subject.caption,
            _ => &sample.caption.text,
        };
        words += &format!("{}: {text}\n", sample.seed);
    }
    let image = sheet::sheet(&rows);
    let pixels = Pixels::Rgb8(image.as_raw());
    let bytes = png::write(pixels, image.width(), image.height(), &[]);
    let name = task.name().replace(' ', "-");
    let failed = || format!("cannot write to {}", out.display());
    std::fs::write(out.join(format!("{name}.png")), bytes).with_context(failed)?;
    std::fs::write(out.join(format!("{name}.txt")), words).with_context(failed)
}
