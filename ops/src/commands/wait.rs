//! `wait`: until a job is over; the exit code says how it went.

use std::time::{Duration, Instant};

use nightshift_store::{Error, JobState, JobView, Store};

use crate::connect;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Progress, Ui};
use crate::words::at_a_shell;

/// Longest time between two looks at the job.
const POLL: Duration = Duration::from_millis(500);

/// Waits for the job.
///
/// # Errors
/// There is no such job, or the database cannot be reached at first.
pub async fn run(context: Context, job: i64, timeout: Option<Duration>) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift wait").await?;
    until_over(context.ui, &store, job, timeout).await
}

/// Waits until the job has reached a final state, the timeout ran out, or someone interrupts. A database that goes away
/// meanwhile is waited for.
///
/// # Errors
/// There is no such job, or the login may not see it.
pub async fn until_over(
    ui: Ui,
    store: &Store,
    job: i64,
    timeout: Option<Duration>,
) -> anyhow::Result<Exit> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut progress = Progress::new(ui, format!("job {job}"));
    let interrupted = connect::interrupted();
    tokio::pin!(interrupted);
    let mut answering = true;
    let view = loop {
        match store.job(job).await {
            Ok(view) => {
                tell(&mut progress, &view);
                answering = true;
                if view.state.is_final() {
                    break view;
                }
            }
            Err(error @ Error::Unreachable(_)) if answering => {
                ui.warning(&format!("{error}; waiting for it"));
                answering = false;
            }
            Err(Error::Unreachable(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let pause = deadline
            .map_or(POLL, |deadline| deadline.saturating_duration_since(Instant::now()).min(POLL));
        if pause.is_zero() {
            progress.finish();
            ui.note(&format!("job {job} continues; `nightshift wait {job}` waits again"));
            return Ok(Exit::TimedOut);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut interrupted => {
                progress.finish();
                ui.note(&format!("job {job} continues; `nightshift wait {job}` waits again, `nightshift cancel {job}` stops it"));
                return Ok(Exit::Interrupted);
            }
        }
    };
    progress.finish();
    tell_end(ui, &view);
    Ok(exit_of(view.state))
}

/// Shows the progress of a job.
pub fn tell(progress: &mut Progress, view: &JobView) {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let done = count(view.n_ok + view.n_failed + view.n_skipped);
    let state = match &view.reason {
        Some(reason) if view.n_in_flight == 0 => {
            format!("{} ({})", view.state, at_a_shell(reason, view.call.as_deref(), view.call_id))
        }
        _ => view.state.to_string(),
    };
    progress.update(&state, done, count(view.n_failed), count(view.n_items.unwrap_or(0)));
}

/// Says on standard error how a job ended.
pub fn tell_end(ui: Ui, view: &JobView) {
    let name = view.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let counts = match view.n_items {
        Some(items) => format!(
            ": {} of {items} items ok, {} failed, {} skipped",
            view.n_ok, view.n_failed, view.n_skipped
        ),
        None => String::new(),
    };
    ui.note(&format!("job {}{name} {}{counts}", view.id, words(view.state)));
    if let Some(errors) = &view.errors {
        ui.write(errors);
    }
    if view.n_failed > 0 {
        ui.note(&format!("help: `nightshift items {} --state failed` lists them", view.id));
    }
}

fn words(state: JobState) -> &'static str {
    match state {
        JobState::FinishedWithErrors => "finished with errors",
        other => other.as_str(),
    }
}

/// The exit code that a final state stands for.
#[must_use]
pub fn exit_of(state: JobState) -> Exit {
    match state {
        JobState::Finished => Exit::Ok,
        JobState::FinishedWithErrors => Exit::ItemsFailed,
        JobState::Cancelled => Exit::JobCancelled,
        JobState::Failed | JobState::Rejected => Exit::JobFailed,
        // Not final: the caller keeps waiting.
        JobState::Submitted
        | JobState::Ready
        | JobState::Paused
        | JobState::Closing
        | JobState::Cancelling => Exit::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_final_state_has_its_code() {
        let codes: Vec<(&str, u8)> = JobState::ALL
            .iter()
            .filter(|state| state.is_final())
            .map(|state| (state.as_str(), exit_of(*state).code()))
            .collect();
        assert_eq!(
            codes,
            [
                ("rejected", 6),
                ("cancelled", 7),
                ("finished", 0),
                ("finished_with_errors", 1),
                ("failed", 6)
            ]
        );
    }
}
