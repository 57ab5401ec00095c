//! What the files carry inside: how to make the same picture again, and nothing about the run that made it.

use nightshift_engine::image::png::Text;
use nightshift_jobs::{Item, Output, canonical_json};
use serde_json::{Map, Value, json};

use super::inputs::Given;
use crate::generate::translate;
use crate::job::Origin;

/// The chunks `parameters` (one line for people and their tools) and `nightshift` (canonical JSON).
pub(crate) fn texts(
    item: &Item,
    output: &Output,
    given: Option<&Given>,
    origin: Origin<'_>,
) -> Vec<Text> {
    let facts = canonical_json(&facts(item, output, given, origin));
    [("parameters", parameters(item, origin)), ("nightshift", facts)]
        .into_iter()
        .map(|(key, value)| Text { key: key.to_owned(), value })
        .collect()
}

fn parameters(item: &Item, origin: Origin<'_>) -> String {
    let name = origin.model.split('/').next().unwrap_or_default();
    let sampler = &item.sampler;
    let settings = format!(
        "Seed: {}, CFG scale: {}, Top-k: {}, Temperature: {}, Size: {}, Model: {name}",
        item.seed, sampler.cfg, sampler.top_k, sampler.temperature, item.picture
    );
    match item.embed.redact_prompt {
        true => settings,
        false => format!("{}\n{settings}", item.caption),
    }
}

fn facts(item: &Item, output: &Output, given: Option<&Given>, origin: Origin<'_>) -> Value {
    let mut facts = Map::new();
    let mut put = |name: &str, value: Value| drop(facts.insert(name.to_owned(), value));
    put("item_id", json!(item.item_id));
    put("row_id", json!(item.row_id));
    put("kind", json!(item.kind));
    put("k", json!(item.k));
    put("cell", json!(item.cell));
    // A string: many readers of JSON keep only doubles.
    put("seed", json!(item.seed.to_string()));
    put("sampler", json!(item.sampler));
    put("width", json!(item.picture.width));
    put("height", json!(item.picture.height));
    put("role", json!(output.role));
    put("encoding", json!(output.encoding));
    put("model", json!(origin.model));
    put("fingerprint", json!(origin.fingerprint));
    put("spec_content_sha256", json!(origin.content_sha256));
    if !item.embed.redact_prompt {
        put("task", json!(item.task));
        put("caption", json!(item.caption));
        put("prompt", json!(translate::prompt_text(item)));
    }
    if let (Some(panel), Some(given)) = (&item.given, given) {
        put("fit", json!(panel.fit));
        put("input", json!(given.facts));
    }
    Value::Object(facts)
}
