//! `bench`: figures about this machine and this build.

use std::path::Path;
use std::time::Duration;

use nightshift_bench::engine::machine::{self, Machine};
use nightshift_bench::engine::products::{self, Product};
use nightshift_bench::engine::{Report, Workload};
use nightshift_bench::queue;
use nightshift_engine::kernels::{Pool, force_isa};
use nightshift_engine::prompt::{self, PromptTask};
use nightshift_engine::random::Options;
use nightshift_engine::{GuidanceSchedule, LoadOptions, Model, Request, Sampler, Weights, Window};
use serde_json::{Value, json};

use crate::cli::{BenchEngineArgs, BenchQueueArgs, BenchVerb};
use crate::exit::{Exit, Failure};
use crate::models;
use crate::output;
use crate::output::Format;
use crate::ui::Ui;
use crate::units::threads;

/// What every picture shows.
const CAPTION: &str =
    "A lighthouse on a cliff above a calm sea at dusk, with two boats near the shore.";

/// Runs a `bench` verb.
///
/// # Errors
/// What is to be measured cannot be run.
pub fn run(ui: Ui, verb: &BenchVerb) -> anyhow::Result<Exit> {
    match verb {
        BenchVerb::Engine(args) => bench_engine(ui, args),
        BenchVerb::Queue(args) => super::block_on(bench_queue(ui, args)),
    }
}

/// The queue alone; exit code 1 when something that is asked was not met.
async fn bench_queue(ui: Ui, args: &BenchQueueArgs) -> anyhow::Result<Exit> {
    let options = queue::Options {
        items: args.items,
        time: Duration::from_secs(args.seconds),
        manifest_lines: args.manifest_lines,
    };
    let measured = queue::run(options, |stage| ui.note(stage)).await?;
    output::one(&mut std::io::stdout(), Format::Json, &measured.report)?;
    Ok(if measured.met { Exit::Ok } else { Exit::ItemsFailed })
}

/// Whole pictures through the engine, with the machine's ceilings beside them.
fn bench_engine(ui: Ui, args: &BenchEngineArgs) -> anyhow::Result<Exit> {
    force_isa(args.isa).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let threads = threads(args.threads);
    ui.note("measuring the machine");
    let pool = Pool::new(threads);
    let machine = machine::measure(&pool);
    let products = if args.products {
        ui.note("measuring products");
        products_of(&pool, args)
    } else {
        Vec::new()
    };
    drop(pool);
    let report = match &args.shape.model {
        Some(dir) => measure(ui, args, dir, threads, &machine)?,
        None => {
            let folder = Folder::new()?;
            let dir = folder.0.join("model");
            ui.note("writing a random model");
            models::write_random_with(&dir, &options(args)?)?;
            measure(ui, args, &dir, threads, &machine)?
        }
    };
    print(args, &machine, &products, &report)?;
    Ok(Exit::Ok)
}

fn options(args: &BenchEngineArgs) -> anyhow::Result<Options> {
    let Some(preset) = args.shape.preset else {
        return Err(Failure::new(Exit::Usage, "give --model or --preset").into());
    };
    Ok(Options { preset, seed: 0, sharp: true, image_tokenizer: args.shape.tokenizer })
}

fn measure(
    ui: Ui,
    args: &BenchEngineArgs,
    dir: &Path,
    threads: usize,
    machine: &Machine,
) -> anyhow::Result<Report> {
    let options = LoadOptions {
        weights: args.shape.weights,
        kv_cache: args.shape.kv_cache,
        threads,
        codes_only: args.tokens.is_some(),
    };
    ui.note("loading the model");
    let model = Model::load(dir, &options)
        .map_err(|error| Failure::new(Exit::Usage, format!("model {}: {error}", dir.display())))?;
    let (width, height) = args.shape.size;
    let workload = Workload {
        request: Request {
            prompt: prompt::text(&PromptTask::TextToImage, width, height, CAPTION),
            width,
            height,
            given: None,
            sampler: Sampler {
                cfg: args.cfg,
                top_k: model.token_ids().codes(),
                temperature: args.temperature,
                guidance: GuidanceSchedule::Constant,
                decoding: args.decoding.decoding(),
            },
            seed: 1,
        },
        images: args.images.map_or(args.shape.slots, |images| images as usize),
        slots: args.shape.slots,
        tokens: args.tokens,
    };
    ui.note("making pictures");
    nightshift_bench::engine::run(&model, &workload, machine)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()).into())
}

/// Products with the shapes of the mid preset, or of a layer of the model that is measured.
fn products_of(pool: &Pool, args: &BenchEngineArgs) -> Vec<Product> {
    let config = match (&args.shape.model, args.shape.preset) {
        (Some(dir), _) => {
            nightshift_engine::transformer::config::Config::read(&dir.join("config.json")).ok()
        }
        (None, preset) => preset.map(|preset| preset.config()),
    };
    let Some(config) = config else {
        return Vec::new();
    };
    let shape = (config.intermediate_size, config.hidden_size);
    [Weights::F32, Weights::Bf16, Weights::Int4]
        .into_iter()
        .flat_map(|weights| products::measure(pool, weights, shape.0, shape.1))
        .collect()
}

fn print(
    args: &BenchEngineArgs,
    machine: &Machine,
    products: &[Product],
    report: &Report,
) -> anyhow::Result<()> {
    let window = match args.decoding.window {
        Window::Auto => json!("auto"),
        Window::Fixed(n) => json!(n),
    };
    let all = json!({
        "load": {
            "model": args.shape.model,
            "preset": args.shape.preset.map(|preset| format!("{preset:?}").to_lowercase()),
            "weights": args.shape.weights.as_str(),
            "kv_cache": args.shape.kv_cache.as_str(),
            "size": format!("{}x{}", args.shape.size.0, args.shape.size.1),
            "slots": args.shape.slots,
            "decoding": format!("{:?}", args.decoding.decoding).to_lowercase(),
            "window": window,
            "cfg": args.cfg,
            "temperature": args.temperature,
        },
        "machine": machine,
        "engine": report,
        "products": products,
    });
    let out = &mut std::io::stdout().lock();
    if args.output.output != Format::Table {
        return Ok(output::one(out, args.output.output, &all)?);
    }
    for part in ["load", "machine", "engine"] {
        output::one(out, Format::Table, &flat(&all[part]))?;
    }
    let rows: Vec<Value> = all["products"].as_array().cloned().unwrap_or_default();
    let columns = ["weights", "out", "inputs", "rows", "ms", "gflop_s", "gb_s", "of_fma_peak"]
        .map(|name| output::column(name, name));
    if !rows.is_empty() {
        output::rows(out, Format::Table, &columns, &rows)?;
    }
    Ok(())
}

/// Nested fields as `outer.inner`, numbers with three decimals.
fn flat(value: &Value) -> Value {
    let mut fields = serde_json::Map::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                let inner =
                    inner.iter().map(|(key, value)| (format!("{name}.{key}"), short(value)));
                fields.extend(inner);
            }
            Value::Null => {}
            other => drop(fields.insert(name.clone(), short(other))),
        }
    }
    Value::Object(fields)
}

fn short(value: &Value) -> Value {
    match value.as_f64() {
        Some(number) if value.is_f64() => json!(format!("{number:.3}")),
        _ => value.clone(),
    }
}

/// A folder that goes with its owner.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("nightshift-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies in the system's folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
