//! `ps` and `items`: lists.

use std::io::Write;

use nightshift_store::{ItemFilter, ItemRow, ItemStatus, JobFilter, JobState, JobView};
use serde_json::{Value, json};

use crate::cli::ItemsArgs;
use crate::connect;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Format;
use crate::output::{Column, column, rows};
use crate::words::{standing, why};

/// Most jobs listed.
const MAX_JOBS: i64 = 1_000;
/// Items read at a time.
const PAGE: i64 = 1_000;

/// Lists jobs, newest first.
///
/// # Errors
/// Those of the store and of standard output.
pub async fn ps(context: Context, all: bool, format: Format) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift ps").await?;
    let states = if all {
        Vec::new()
    } else {
        JobState::ALL.iter().copied().filter(|state| !state.is_final()).collect()
    };
    let filter = JobFilter {
        states,
        tenant: context.config.get("tenant").map(str::to_owned),
        ..JobFilter::default()
    };
    let jobs = store.jobs(&filter, MAX_JOBS).await?;
    let list: Vec<Value> = jobs.iter().map(|job| job_row(job, format)).collect();
    rows(&mut std::io::stdout().lock(), format, &JOB_COLUMNS, &list)?;
    if list.is_empty() && format == Format::Table {
        context.ui.note(if all { "no jobs" } else { "no unfinished jobs; -a lists all" });
    }
    Ok(Exit::Ok)
}

const JOB_COLUMNS: [Column; 7] = [
    column("JOB", "id"),
    column("NAME", "name"),
    column("KIND", "kind"),
    column("STATE", "standing"),
    column("DONE", "done"),
    column("FAILED", "n_failed"),
    column("WHY", "reason"),
];

fn job_row(job: &JobView, format: Format) -> Value {
    let mut row = serde_json::to_value(job).expect("a view is plain data");
    let done = job.n_ok + job.n_failed + job.n_skipped;
    row["done"] = match job.n_items {
        Some(items) => json!(format!("{done}/{items}")),
        None => Value::Null,
    };
    if format == Format::Table {
        row["standing"] = json!(standing(job));
        let mistake = job.errors.as_deref().and_then(|errors| errors.lines().next());
        row["reason"] = json!(why(job).or(mistake.map(str::to_owned)));
    }
    row
}

/// Lists the finished items of a job, page by page, by index.
///
/// # Errors
/// There is no such job; those of the store and of standard output.
pub async fn items(context: Context, args: ItemsArgs) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift items").await?;
    // A job that one may not see has no items: say that it is not found instead.
    store.job(args.job).await?;
    let filter = ItemFilter {
        status: args.state.as_deref().map(str::parse::<ItemStatus>).transpose()?,
        error_code: args.error_code.clone(),
    };
    let format = args.output.output;
    let mut out = std::io::stdout().lock();
    let mut after = args.after.unwrap_or(-1);
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut kept = Vec::new();
    while left > 0 {
        let limit = PAGE.min(i64::try_from(left).unwrap_or(PAGE));
        let page = store.items(args.job, &filter, after, limit).await?;
        let Some(last) = page.last() else { break };
        after = last.report.index;
        left -= page.len();
        for item in page {
            let value = item_row(&item);
            // Lines are written as they come, so that a job of millions needs no memory.
            if format == Format::Jsonl {
                writeln!(out, "{value}")?;
            } else {
                kept.push(if format == Format::Table { table_row(value) } else { value });
            }
        }
    }
    if format != Format::Jsonl {
        rows(&mut out, format, &ITEM_COLUMNS, &kept)?;
    }
    Ok(Exit::Ok)
}

const ITEM_COLUMNS: [Column; 6] = [
    column("ITEM", "index"),
    column("STATE", "status"),
    column("SEED", "seed"),
    column("FILE", "file"),
    column("CODE", "error_code"),
    column("ERROR", "error_message"),
];

/// An item as JSON. Many readers keep numbers as doubles only, so that larger seeds are texts.
fn item_row(item: &ItemRow) -> Value {
    let mut row = serde_json::to_value(item).expect("an item is plain data");
    if let Some(seed) = item.report.seed.filter(|seed| *seed > 1 << 53) {
        row["seed"] = seed.to_string().into();
    }
    row
}

fn table_row(mut item: Value) -> Value {
    item["file"] = item["artifacts"].get(0).map_or(Value::Null, |artifact| artifact["key"].clone());
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::job::tests::view;

    #[test]
    fn people_see_that_a_job_runs_and_why_one_was_rejected() {
        let running = JobView { n_leased: 3, ..view() };
        let row = job_row(&running, Format::Table);
        assert_eq!(row["standing"], "ready (3 running)");
        assert_eq!(job_row(&running, Format::Json)["state"], "ready");
        let rejected = JobView {
            state: JobState::Rejected,
            reason: None,
            call: None,
            call_id: None,
            errors: Some("spec.yaml:7:3: unknown key\n  7 | x: 1".to_owned()),
            n_leased: 0,
            ..view()
        };
        let row = job_row(&rejected, Format::Table);
        assert_eq!(row["reason"], "spec.yaml:7:3: unknown key");
        assert_eq!(row["standing"], "rejected");
    }
}
