//! Comparisons of the transformer fixtures: forward passes, variants, whole generations, recorded sampling steps, prompts.

mod forward;
mod generation;
mod int4;
mod prompts;
mod sampling;
mod speculative;

use std::path::Path;
use std::sync::Arc;

use super::Check;
use super::fixture::{Fixture, json};
use super::report::Report;
use crate::checkpoint::Tensors;
use crate::error::LoadError;
use crate::model::{LoadOptions, Model};
use crate::prompt::tokenizer::{TokenIds, Tokenizer};
use crate::prompt::{self, Map, PromptTask};
use crate::quant::Weights;
use crate::transformer::Transformer;
use crate::transformer::config::Config;

/// Runs every comparison of a transformer fixture folder whose file is there.
pub fn transformer(dir: &Path) -> Vec<Check> {
    let mut report = Report::default();
    let has = |name: &str| dir.join(name).exists();
    if has("vocab_layout.json") {
        report.group("vocab_layout.json", |report| vocab_layout(report, dir));
    }
    if has("forward.safetensors") {
        let (model, file) = (dir.join("tiny"), dir.join("forward.safetensors"));
        report.group("forward", |report| forward::run(report, "forward", &model, &file));
    }
    for variant in variants(dir) {
        let name =
            format!("variants/{}", variant.file_name().unwrap_or_default().to_string_lossy());
        let file = variant.join("forward.safetensors");
        report.group(&name, |report| forward::run(report, &name, &variant, &file));
    }
    if has("greedy.json") {
        report.group("greedy.json", |report| generation::greedy(report, dir));
    }
    if has("cfg_decode.json") {
        report.group("cfg_decode", |report| sampling::run(report, dir));
    }
    if has("prompts.json") {
        report.group("prompts.json", |report| prompts::run(report, dir));
    }
    if has("sjd_accept.json") || has("sjd_accept.safetensors") {
        report.group("sjd_accept", |report| speculative::run(report, dir));
    }
    if has("int4.safetensors") {
        report.group("int4.safetensors", |report| int4::run(report, dir));
    }
    report.checks
}

fn variants(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir.join("variants")).into_iter().flatten();
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders: Vec<_> =
        folders.filter(|path| path.join("forward.safetensors").exists()).collect();
    folders.sort_unstable();
    folders
}

/// The folder's model, for codes alone.
fn model(dir: &Path) -> Result<Arc<Model>, String> {
    let options = LoadOptions { codes_only: true, threads: 2, ..LoadOptions::default() };
    Model::load(&dir.join("tiny"), &options).map_err(|error| error.to_string())
}

/// A model folder's transformer with the whole head.
fn transformer_of(dir: &Path, format: Weights) -> Result<Transformer, String> {
    let text = |error: LoadError| error.to_string();
    let config = Config::read(&dir.join("config.json")).map_err(text)?;
    let tensors = Tensors::of_model(dir).map_err(text)?;
    Transformer::load(&tensors, &config, 0..config.vocab_size, format).map_err(text)
}

/// The recorded ids against those found by name.
fn vocab_layout(report: &mut Report, dir: &Path) -> Result<(), String> {
    let layout: serde_json::Value = json(dir, "vocab_layout.json")?;
    let ids = token_ids(dir)?;
    let mut check = |name: &str, got: u32| {
        if let Some(want) = layout[name].as_u64() {
            report.equal(&format!("vocab_layout.json: {name}"), &[u64::from(got)], &[want]);
        }
    };
    check("bos", ids.bos);
    check("sep", ids.separator);
    check("image_start", ids.image_start);
    check("image_end", ids.image_end);
    check("new_line", ids.new_line);
    check("image_token_base", ids.image.start);
    check("codebook_size", ids.codes() as u32);
    if let (Some(zero), Some(one)) = (layout["grid_token_zero"].as_u64(), ids.grid(1)) {
        report.equal("vocab_layout.json: grid_token_zero", &[u64::from(one)], &[zero + 1]);
    }
    Ok(())
}

fn token_ids(dir: &Path) -> Result<TokenIds, String> {
    let tiny = dir.join("tiny");
    let config = Config::read(&tiny.join("config.json")).map_err(|error| error.to_string())?;
    let tokenizer = Tokenizer::read(&tiny).map_err(|error| error.to_string())?;
    tokenizer.token_ids(&config).map_err(|error| error.to_string())
}

/// The task of the recorded names: `t2i`, `pair` or `i2i` with a sub-task.
fn task(kind: &str, sub: Option<&str>) -> Option<PromptTask> {
    Some(match (kind, sub) {
        ("t2i", _) => PromptTask::TextToImage,
        ("pair", Some(map)) => PromptTask::Pair { map: Map::from_name(map)? },
        ("i2i", Some("subject")) => PromptTask::Subject { description: None },
        ("i2i", Some(map)) => PromptTask::Control { map: Map::from_name(map)? },
        _ => return None,
    })
}

/// The prompt tokens that a task's text gives, from begin to separator.
fn prompt_tokens(
    model: &Model,
    task: &PromptTask,
    size: (u32, u32),
    caption: &str,
) -> Result<Vec<u32>, String> {
    let text = prompt::text(task, size.0, size.1, caption);
    model.prompt_ids(&text).map_err(|error| error.to_string())
}
