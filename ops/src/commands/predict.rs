//! What `plan` says of a spec when a database is configured: engine time, start and end, were it submitted now.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use nightshift_jobs::Parsed;
use nightshift_scheduler::{Survey, forecast};
use nightshift_store::{QueueRow, Store, WorkerView};
use serde_json::{Value, json};

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::spec_file::SpecFile;
use crate::words::time;

/// The forecast as JSON; `None` when no database is configured, or it does not answer, which is noted.
///
/// # Errors
/// [`Exit::Refused`]: by the measured rate the job would need more than `limits.max_gpu_hours`.
pub async fn run(
    context: &Context,
    file: &SpecFile,
    parsed: &Parsed,
    survey: &Survey,
) -> anyhow::Result<Option<Value>> {
    if context.config.get("database.url").is_none() {
        return Ok(None);
    }
    let asked = async {
        let store = connect::store(&context.config, "nightshift plan").await?;
        ask(&store, parsed).await
    };
    let (item_ms, mut queue, workers) = match asked.await {
        Ok(answers) => answers,
        Err(error) => {
            context.ui.note(&format!("no forecast, the database does not answer: {error:#}"));
            return Ok(None);
        }
    };
    let now = queue.first().map_or_else(local_now, |row| row.now_unix_ms);
    let tenant = context.config.get("tenant");
    let row = as_if_submitted(parsed, survey, item_ms, &queue, &workers, tenant, now);
    if let (Some(item_ms), Some(max_gpu_ms)) = (item_ms, parsed.spec.running().max_gpu_ms)
        && item_ms * survey.n_items as f64 > max_gpu_ms as f64
    {
        let n_workers = u64::try_from(row.n_workers).unwrap_or(0);
        let hours = max_gpu_ms as f64 / 3.6e6;
        let seconds = (item_ms / 100.0).round() / 10.0;
        let found = parsed.places.over_budget(survey.n_items, seconds, n_workers, hours);
        let words = found.render(&file.name, &file.text);
        return Err(Failure::new(Exit::Refused, words).into());
    }
    let n_workers = row.n_workers;
    queue.push(row);
    let own = forecast(&queue, now).pop().unwrap_or_default();
    Ok(Some(json!({
        "item_ms": item_ms,
        "engine_hours": item_ms.map(|ms| ms * survey.n_items as f64 / 3.6e6),
        "n_workers": n_workers,
        "starts_unix_ms": own.starts_unix_ms,
        "finishes_unix_ms": own.finishes_unix_ms,
    })))
}

async fn ask(
    store: &Store,
    parsed: &Parsed,
) -> anyhow::Result<(Option<f64>, Vec<QueueRow>, Vec<WorkerView>)> {
    let spec = &parsed.spec;
    let item_ms = store.measured_ms(&spec.model().key(), spec.kind().as_str()).await?;
    Ok((item_ms, store.queue().await?, store.workers().await?))
}

fn local_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The row that the queue would have for this spec: the youngest of its tenant.
fn as_if_submitted(
    parsed: &Parsed,
    survey: &Survey,
    item_ms: Option<f64>,
    queue: &[QueueRow],
    workers: &[WorkerView],
    tenant: Option<&str>,
    now: i64,
) -> QueueRow {
    let spec = &parsed.spec;
    let running = spec.running();
    let same = queue
        .iter()
        .find(|row| row.tenant.is_some() && (tenant.is_none() || row.tenant.as_deref() == tenant));
    let new = queue.iter().map(|row| row.tenant_no).max().unwrap_or(0) + 1;
    let live: Vec<&WorkerView> = workers.iter().filter(|w| w.state == "live").collect();
    let fits = |worker: &&&WorkerView| {
        let memory = worker.info["memory_bytes"].as_u64().unwrap_or(0);
        let labelled = |(key, value): (&String, &String)| {
            worker.info["labels"][key].as_str() == Some(value.as_str())
        };
        worker.models.get(spec.model().key()).is_some()
            && memory >= running.min_memory_bytes
            && running.worker_labels.iter().all(labelled)
    };
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let cron = running.cron.as_ref();
    let due = cron.and_then(|cron| cron.next(now)).unwrap_or(now);
    let from = running.not_before_unix_ms.unwrap_or(due).max(due);
    let window = running.window.as_ref().map(|window| window.opening(from));
    QueueRow {
        job: Some(i64::MAX),
        tenant: None,
        name: Some(spec.name().to_owned()),
        tenant_no: same.map_or(new, |row| row.tenant_no),
        usage: same.map_or(0.0, |row| row.usage),
        weight: same.map_or(1.0, |row| row.weight),
        max_leased: same.and_then(|row| row.max_leased),
        priority: spec.priority(),
        items_left: i64::try_from(survey.n_items).unwrap_or(i64::MAX),
        shards_left: i64::try_from(survey.n_items.div_ceil(spec.shard_items().unwrap_or(1)))
            .unwrap_or(i64::MAX),
        n_leased: 0,
        item_ms,
        measured_on: item_ms.map(|_| "its model".to_owned()),
        n_workers: count(live.iter().filter(fits).count()),
        n_live: count(live.len()),
        opens_unix_ms: match window {
            None => Some(from),
            Some(None) => Some(i64::MAX),
            Some(Some(opening)) => Some(opening.opens_unix_ms.max(from)),
        },
        closes_unix_ms: window.flatten().map(|opening| opening.closes_unix_ms),
        time_window: running
            .window
            .as_ref()
            .map(|window| serde_json::to_value(window).expect("a window is plain data")),
        after: running.after.clone(),
        blocked: running.hold,
        reason: None,
        call: None,
        now_unix_ms: now,
    }
}

/// The forecast in lines of a plan.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut dyn Write, forecast: &Value) -> std::io::Result<()> {
    let n_workers = forecast["n_workers"].as_i64().unwrap_or(0);
    match (forecast["item_ms"].as_f64(), forecast["engine_hours"].as_f64()) {
        (Some(item_ms), Some(hours)) => writeln!(
            out,
            "  engine time  {hours:.2} h, {:.1} s an item in the last jobs of this model",
            item_ms / 1_000.0
        )?,
        _ => writeln!(out, "  engine time  not measured for this model and kind")?,
    }
    let workers = match n_workers {
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    };
    let at = |name: &str| forecast[name].as_i64().map(time);
    match (at("starts_unix_ms"), at("finishes_unix_ms")) {
        (Some(starts), Some(finishes)) => {
            writeln!(out, "  forecast     starts {starts}, finishes {finishes}, on {workers}")
        }
        (Some(starts), None) => writeln!(out, "  forecast     starts {starts}, on {workers}"),
        _ if n_workers == 0 => writeln!(out, "  forecast     no live worker may take it"),
        _ => writeln!(out, "  forecast     does not start by itself within a year"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {name: night}\ninput: {inline: [{prompt: a}]}\n\
        generate: {size: 64x64, images_per_prompt: 100, seeds: {start: 1}}\nmodel: {name: tiny, weights: f32, kv_cache: f32}\n\
        resources: {labels: {pool: night}, gpu: {min_memory: 1GB}, shard_items: 10}\n\
        schedule: {window: \"22:00-06:00 UTC\", not_before: \"1970-01-02T23:00 UTC\"}\noutput: {dest: \"s3://out/\"}\n";

    fn worker(state: &str, pool: &str, memory_bytes: u64) -> WorkerView {
        WorkerView {
            id: 1,
            name: "w".to_owned(),
            state: state.to_owned(),
            models: json!({"tiny/f32/f32": "f00d"}),
            info: json!({"labels": {"pool": pool}, "memory_bytes": memory_bytes}),
            health: json!({}),
            n_leased: 0,
            registered_unix_ms: 0,
            seen_unix_ms: 0,
        }
    }

    #[test]
    fn a_spec_waits_for_its_window_and_its_workers() {
        let parsed = nightshift_jobs::parse("job.yaml", SPEC).unwrap();
        let survey = Survey { n_rows: 1, n_items: 100, input_bytes: 0, first: Vec::new() };
        let workers = [
            worker("live", "night", 2_000_000_000),
            worker("live", "day", 2_000_000_000),
            worker("live", "night", 1_000),
            worker("gone", "night", 2_000_000_000),
        ];
        let row = as_if_submitted(&parsed, &survey, Some(1_000.0), &[], &workers, None, 0);
        assert_eq!((row.n_workers, row.n_live, row.shards_left), (1, 3, 10));
        let own = forecast(&[row], 0).pop().unwrap();
        let start = (24 + 23) * 3_600_000;
        assert_eq!(own.starts_unix_ms, Some(start));
        assert_eq!(own.finishes_unix_ms, Some(start + 100_000));
    }

    #[test]
    fn a_forecast_in_words() {
        let said = |forecast: Value| {
            let mut out = Vec::new();
            write(&mut out, &forecast).unwrap();
            String::from_utf8(out).unwrap().replace(&time(0), "TIME")
        };
        let whole = json!({"item_ms": 1_500.0, "engine_hours": 12.5, "n_workers": 2, "starts_unix_ms": 0, "finishes_unix_ms": 0});
        insta::assert_snapshot!(said(whole), @r"
          engine time  12.50 h, 1.5 s an item in the last jobs of this model
          forecast     starts TIME, finishes TIME, on 2 workers
        ");
        insta::assert_snapshot!(said(json!({"n_workers": 0})), @r"
          engine time  not measured for this model and kind
          forecast     no live worker may take it
        ");
    }
}
