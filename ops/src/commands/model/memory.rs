//! `model memory`: bytes by use, from shapes alone.

use std::io::Write;

use nightshift_engine::budget::{Budget, Load, Shapes};
use nightshift_engine::random::Options;
use serde_json::{Value, json};

use crate::cli::{MemoryArgs, ShapeArgs};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::output::Format;

/// Prints the budget.
///
/// # Errors
/// A model folder that cannot be read, a size that cannot be made.
pub(super) fn run(args: &MemoryArgs) -> anyhow::Result<Exit> {
    let shapes = shapes(&args.shape)?;
    let load = Load {
        weights: args.shape.weights,
        kv_cache: args.shape.kv_cache,
        width: args.shape.size.0,
        height: args.shape.size.1,
        prompt: args.prompt_tokens.into(),
        slots: args.shape.slots,
        window: args.window.into(),
    };
    let budget = Budget::new(&shapes, &load)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    print(&budget, args.output.output)?;
    Ok(Exit::Ok)
}

fn shapes(args: &ShapeArgs) -> anyhow::Result<Shapes> {
    if let Some(dir) = &args.model {
        return Shapes::of_folder(dir).map_err(|error| {
            Failure::new(Exit::Usage, format!("model {}: {error}", dir.display())).into()
        });
    }
    let Some(preset) = args.preset else {
        return Err(Failure::new(Exit::Usage, "give --model or --preset").into());
    };
    Ok(Shapes::of_random(&Options {
        preset,
        seed: 0,
        sharp: false,
        image_tokenizer: args.tokenizer,
    }))
}

fn print(budget: &Budget, format: Format) -> std::io::Result<()> {
    let uses = [
        ("layers", budget.layers),
        ("head", budget.head),
        ("embedding", budget.embedding),
        ("caches", budget.caches),
        ("scratch", budget.scratch),
        ("image_tokenizer", budget.image_tokenizer),
        ("image_workspace", budget.image_workspace),
        ("total", budget.total()),
    ];
    let mut out = std::io::stdout().lock();
    if format == Format::Table {
        for (name, bytes) in uses {
            writeln!(out, "{name:<16} {:>9.1} MB", bytes as f64 / 1e6)?;
        }
        return Ok(());
    }
    let fields = uses.map(|(name, bytes)| (name.to_owned(), json!(bytes)));
    output::one(&mut out, format, &Value::Object(fields.into_iter().collect()))
}
