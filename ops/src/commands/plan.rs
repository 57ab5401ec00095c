//! `plan`: what a spec would make. Writes nothing; asks the object store for inputs that lie there, and the database, where one is
//! configured, for a forecast.

use std::io::Write;

use nightshift_jobs::{InputSpec, Item, JobSpec, JobVars, Parsed};
use nightshift_scheduler::{PlanError, Survey};
use serde_json::{Value, json};

use crate::cli::PlanArgs;
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::Format;
use crate::output::{self, thousands};
use crate::spec_file::SpecFile;

/// Expands and counts.
///
/// # Errors
/// Mistakes of the spec and of its inputs; an object store that does not answer.
pub async fn run(context: Context, args: PlanArgs) -> anyhow::Result<Exit> {
    let mut file = SpecFile::read(&args.file)?;
    file.set(&args.set)?;
    let parsed = file.parse()?;
    for warning in &parsed.warnings {
        context.ui.note(&warning.render(&file.name, &file.text));
    }
    if let Some(words) = nightshift_scheduler::cannot_run(&file.name, &file.text, &parsed) {
        return Err(Failure::new(Exit::Usage, words).into());
    }
    let objects = match parsed.spec.input() {
        InputSpec::Inline { .. } => None,
        _ => Some(connect::objects(&context.config).await?),
    };
    let keep = usize::try_from(args.items.max(1)).unwrap_or(usize::MAX);
    let survey =
        nightshift_scheduler::survey(objects.as_ref(), &file.name, &file.text, &parsed, keep).await;
    let survey = survey.map_err(|error| match error {
        PlanError::Rejected(words) => anyhow::Error::from(Failure::new(
            Exit::Usage,
            format!("the inputs are not valid\n{words}"),
        )),
        PlanError::Objects(error) => error.into(),
        other => other.into(),
    })?;
    let forecast = super::predict::run(&context, &file, &parsed, &survey).await?;
    let mut plan = describe(&parsed, &survey, args.items);
    if let Some(forecast) = forecast {
        plan["forecast"] = forecast;
    }
    let mut out = std::io::stdout().lock();
    match args.output.output {
        Format::Table => write_plan(&mut out, &plan)?,
        format => output::one(&mut out, format, &plan)?,
    }
    Ok(Exit::Ok)
}

/// Variables that are known only after submission; the first items show what they will look like.
fn vars() -> JobVars {
    JobVars { job_id: 0, run_date: "YYYY-MM-DD".to_owned(), run_index: 0 }
}

fn describe(parsed: &Parsed, survey: &Survey, show: u64) -> Value {
    let spec = &parsed.spec;
    let items: Vec<Value> =
        (0..survey.n_items.min(show)).map(|i| first_item(spec, survey, i)).collect();
    let another = JobVars { job_id: 1, ..vars() };
    json!({
        "name": spec.name(),
        "kind": spec.kind().as_str(),
        "model": spec.model().key(),
        "dest": spec.dest(&vars()).unwrap_or_else(|error| error.to_string()),
        "dest_names_the_job": spec.dest(&vars()) != spec.dest(&another),
        "rows": survey.n_rows,
        "cells": spec.cells().len(),
        "items_per_row": spec.items_per_row(),
        "items": survey.n_items,
        "shards": spec.shard_items().map(|size| survey.n_items.div_ceil(size)),
        "input_bytes": survey.input_bytes,
        "content_sha256": spec.content_sha256(),
        "first_items": items,
    })
}

fn first_item(spec: &JobSpec, survey: &Survey, i: u64) -> Value {
    let row = usize::try_from(spec.row_of(i)).ok().and_then(|row| survey.first.get(row));
    // The first N items need at most the first N rows, and as many were kept.
    let row = row.expect("the rows of the first items were kept");
    match spec.item(i, row, &vars()) {
        Ok(item) => item_json(&item),
        Err(error) => json!({"index": i, "error_code": error.code(), "error": error.to_string()}),
    }
}

fn item_json(item: &Item) -> Value {
    // Many readers of JSON keep numbers as doubles only.
    let seed = if item.seed > 1 << 53 { json!(item.seed.to_string()) } else { json!(item.seed) };
    json!({
        "index": item.index,
        "item_id": item.item_id,
        "row_id": item.row_id,
        "k": item.k,
        "cell": item.cell,
        "seed": seed,
        "size": item.picture.to_string(),
        "caption": item.caption,
        "input": item.given.as_ref().map(|given| given.uri.clone()),
        "keys": item.outputs.iter().map(|output| output.key.clone()).collect::<Vec<_>>(),
    })
}

fn write_plan(out: &mut dyn Write, plan: &Value) -> std::io::Result<()> {
    let number = |name: &str| plan[name].as_u64().unwrap_or(0);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    writeln!(out, "{} ({})", text(&plan["name"]), text(&plan["kind"]))?;
    writeln!(out, "  model        {}", text(&plan["model"]))?;
    let id = match plan["dest_names_the_job"].as_bool() {
        Some(true) => " (0 stands for the job's id)",
        _ => "",
    };
    writeln!(out, "  destination  {}{id}", text(&plan["dest"]))?;
    let cells = number("cells").max(1);
    writeln!(
        out,
        "  items        {} = {} rows x {cells} cells x {} per cell",
        thousands(number("items")),
        thousands(number("rows")),
        number("items_per_row") / cells
    )?;
    match plan["shards"].as_u64() {
        Some(shards) => writeln!(out, "  shards       {}", thousands(shards))?,
        None => writeln!(out, "  shards       about a minute each, sized at claim")?,
    }
    if number("input_bytes") > 0 {
        writeln!(out, "  input        {} bytes", thousands(number("input_bytes")))?;
    }
    if plan["forecast"].is_object() {
        super::predict::write(out, &plan["forecast"])?;
    }
    for item in plan["first_items"].as_array().into_iter().flatten() {
        // As text: a JSON value does not keep to a width.
        let index = item["index"].to_string();
        if let Some(error) = item["error"].as_str() {
            writeln!(out, "  item {index:<7} cannot be made: {error}")?;
            continue;
        }
        let keys: Vec<String> = item["keys"].as_array().into_iter().flatten().map(text).collect();
        let cell = match &item["cell"] {
            Value::Object(cell) if !cell.is_empty() => format!(" {}", item["cell"]),
            _ => String::new(),
        };
        writeln!(
            out,
            "  item {:<7} seed {}{cell} -> {}",
            index,
            text(&item["seed"]),
            keys.join(", ")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_in_words() {
        let plan = json!({
            "name": "sweep", "kind": "text_to_image", "model": "tiny/f32/f32", "dest": "s3://b/x-0/", "dest_names_the_job": true, "rows": 1200, "cells": 2,
            "items_per_row": 8, "items": 9600, "shards": 150, "input_bytes": 0,
            "first_items": [
                {"index": 0, "seed": "9007199254740993", "cell": {"cfg": 2.0}, "keys": ["data/a.png", "data/joint/a.png"]},
                {"index": 1, "error_code": "unsafe_key", "error": "row 0: name renders to \"../x\""},
            ],
        });
        let mut out = Vec::new();
        write_plan(&mut out, &plan).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        sweep (text_to_image)
          model        tiny/f32/f32
          destination  s3://b/x-0/ (0 stands for the job's id)
          items        9 600 = 1 200 rows x 2 cells x 4 per cell
          shards       150
          item 0       seed 9007199254740993 {"cfg":2.0} -> data/a.png, data/joint/a.png
          item 1       cannot be made: row 0: name renders to "../x"
        "#);
    }
}
