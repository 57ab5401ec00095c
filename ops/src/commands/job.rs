//! Verbs about one job: `get`, `describe`, `cancel`, `pause`, `resume`, `retry`.

use std::io::Write;

use nightshift_store::{AttemptView, EventView, JobState, JobView, Only};

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::output::Format;
use crate::words::{standing, time, why};

/// Prints a job as data.
///
/// # Errors
/// There is no such job; those of the store and of standard output.
pub async fn get(context: Context, job: i64, format: Format) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift get").await?;
    let view = store.job(job).await?;
    let mut value = serde_json::to_value(&view).expect("a view is plain data");
    if format != Format::Table {
        value["spec"] = store.spec_text(job).await?.into();
        value["resolved"] = store.resolved(job).await?.unwrap_or_default();
    }
    output::one(&mut std::io::stdout().lock(), format, &value)?;
    Ok(Exit::Ok)
}

/// Explains a job in words.
///
/// # Errors
/// There is no such job; those of the store and of standard output.
pub async fn describe(context: Context, job: i64) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift describe").await?;
    let view = store.job(job).await?;
    let events = store.events(Some(job), 0, 1_000).await?;
    let attempts = store.attempts(job, 20).await?;
    let resolved = store.resolved(job).await?.unwrap_or_default();
    let mut out = std::io::stdout().lock();
    write_description(&mut out, &view, resolved["about"].as_str(), &attempts, &events)?;
    Ok(Exit::Ok)
}

fn write_description(
    out: &mut dyn Write,
    view: &JobView,
    about: Option<&str>,
    attempts: &[AttemptView],
    events: &[EventView],
) -> std::io::Result<()> {
    let name = view.name.as_deref().unwrap_or("not planned yet");
    writeln!(out, "job {} ({name})", view.id)?;
    let held = if view.held { ", held" } else { "" };
    let mut line = |name: &str, value: Option<String>| match value {
        Some(value) => writeln!(out, "  {name:<12} {value}"),
        None => Ok(()),
    };
    line("about", about.map(str::to_owned))?;
    line("state", Some(format!("{}{held}", standing(view))))?;
    let rest = (view.state == JobState::Cancelled && view.planned_unix_ms.is_some())
        .then(|| format!("`nightshift retry {}` continues with the rest", view.id));
    line("why", why(view).or(rest))?;
    line("kind", view.kind.clone())?;
    line("tenant", Some(format!("{}, submitted by {}", view.tenant, view.submitted_by)))?;
    line("model", view.model_key.clone())?;
    line("fingerprint", view.fingerprint.clone())?;
    line("destination", view.dest.clone())?;
    line("rows", view.n_rows.map(|n| n.to_string()))?;
    let counts = |items: i64| {
        format!(
            "{items}: {} ok, {} failed, {} skipped, {} in progress",
            view.n_ok, view.n_failed, view.n_skipped, view.n_in_flight
        )
    };
    line("items", view.n_items.map(counts))?;
    let planned = view.planned_unix_ms.is_some();
    line("priority", planned.then(|| view.priority.to_string()))?;
    line("round", planned.then(|| view.round.to_string()))?;
    for (name, at) in [
        ("submitted", Some(view.submitted_unix_ms)),
        ("planned", view.planned_unix_ms),
        ("started", view.started_unix_ms),
        ("ended", view.finished_unix_ms),
    ] {
        line(name, at.map(time))?;
    }
    for (head, text) in [("errors", &view.errors), ("warnings", &view.warnings)] {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            writeln!(out, "\n{head}:")?;
            text.lines().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
    }
    if !attempts.is_empty() {
        writeln!(out, "\nattempts that did not simply finish:")?;
    }
    for attempt in attempts {
        let outcome = attempt.outcome.map_or("running".to_owned(), |outcome| outcome.to_string());
        let why = [&attempt.code, &attempt.message]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(": ");
        let line = format!(
            "  {}  shard {} attempt {} on worker {}: {outcome} {why}",
            time(attempt.started_unix_ms),
            attempt.shard,
            attempt.attempt,
            attempt.worker
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    if !events.is_empty() {
        writeln!(out, "\nevents:")?;
    }
    for event in events {
        writeln!(
            out,
            "  {}  {:<12} {}",
            time(event.at_unix_ms),
            event.what,
            // The other mistakes are shown above.
            event.message.lines().next().unwrap_or_default()
        )?;
    }
    Ok(())
}

/// Stops a job; `retry` would continue it.
///
/// # Errors
/// There is no such job; [`Exit::Refused`] when it had already ended.
pub async fn cancel(context: Context, job: i64) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift cancel").await?;
    match store.cancel(job).await? {
        true => done(
            &context,
            format!(
                "job {job} is being cancelled: pictures in progress are dropped, finished ones stay"
            ),
        ),
        false => refused(job, "cannot be cancelled", store.job(job).await?.state),
    }
}

/// Stops handing out work of a job.
///
/// # Errors
/// There is no such job; [`Exit::Refused`] when it is not in a state to be paused.
pub async fn pause(context: Context, job: i64) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift pause").await?;
    match store.pause(job).await? {
        true => {
            done(&context, format!("job {job} is paused; pictures in progress will be finished"))
        }
        false => refused(job, "cannot be paused", store.job(job).await?.state),
    }
}

/// Goes on with a paused or held job.
///
/// # Errors
/// There is no such job; [`Exit::Refused`] when it is neither paused nor held.
pub async fn resume(context: Context, job: i64) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift resume").await?;
    let resumed = store.resume(job).await?;
    let unheld = store.unhold(job).await?;
    match resumed || unheld {
        true => done(&context, format!("job {job} continues")),
        false => refused(job, "is neither paused nor held", store.job(job).await?.state),
    }
}

/// Goes on with an ended job: failed items, and what it never ran.
///
/// # Errors
/// There is no such job; the store refuses (it has not ended, nothing failed).
pub async fn retry(
    context: Context,
    job: i64,
    item: Option<u64>,
    code: Option<String>,
) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift retry").await?;
    let only = match (item, code) {
        (Some(item), _) => Only::Item(i64::try_from(item).unwrap_or(i64::MAX)),
        (None, Some(code)) => Only::Code(code),
        (None, None) => Only::Failed,
    };
    let items = store.retry(job, &only).await?;
    if store.job(job).await?.held {
        let waits = format!(
            "job {job} is ready to run again, but it is still held; `nightshift resume {job}`"
        );
        return done(&context, waits);
    }
    done(
        &context,
        match items {
            0 => format!("job {job} continues with the items that never ran"),
            1 => format!("job {job} continues: 1 failed item runs again"),
            _ => format!("job {job} continues: {items} failed items run again"),
        },
    )
}

fn done(context: &Context, message: String) -> anyhow::Result<Exit> {
    context.ui.note(&message);
    Ok(Exit::Ok)
}

fn refused(job: i64, why: &str, state: JobState) -> anyhow::Result<Exit> {
    Err(Failure::new(Exit::Refused, format!("job {job} {why}: its state is {state}")).into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A job that runs although somebody holds it.
    pub(crate) fn view() -> JobView {
        JobView {
            id: 7,
            tenant: "default".into(),
            name: Some("sweep".into()),
            kind: Some("text_to_image".into()),
            state: JobState::Ready,
            held: true,
            reason: Some("held".into()),
            call: Some("release".into()),
            call_id: Some(7),
            priority: 50,
            round: 1,
            labels: serde_json::json!({}),
            dest: Some("s3://b/x/".into()),
            model_key: Some("tiny/f32/f32".into()),
            fingerprint: None,
            n_rows: Some(2),
            n_items: Some(8),
            n_ok: 3,
            n_failed: 1,
            n_skipped: 0,
            n_in_flight: 2,
            n_leased: 1,
            errors: None,
            warnings: Some("warning: one\n  two".into()),
            submitted_by: "ann".into(),
            idempotency_key: None,
            submitted_unix_ms: 0,
            planned_unix_ms: Some(0),
            started_unix_ms: None,
            finished_unix_ms: None,
        }
    }

    #[test]
    fn a_job_in_words() {
        let view = view();
        let mut out = Vec::new();
        write_description(&mut out, &view, Some("for the demo"), &[], &[]).unwrap();
        let text = String::from_utf8(out).unwrap().replace(&time(0), "TIME");
        insta::assert_snapshot!(text, @r"
        job 7 (sweep)
          about        for the demo
          state        ready (1 running), held
          why          held; `nightshift resume 7`
          kind         text_to_image
          tenant       default, submitted by ann
          model        tiny/f32/f32
          destination  s3://b/x/
          rows         2
          items        8: 3 ok, 1 failed, 0 skipped, 2 in progress
          priority     50
          round        1
          submitted    TIME
          planned      TIME

        warnings:
          warning: one
            two
        ");
    }
}
