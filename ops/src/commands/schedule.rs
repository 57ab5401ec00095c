//! `schedule`: recurring jobs.

use nightshift_store::ScheduleMove;
use serde_json::{Value, json};

use crate::cli::ScheduleVerb;
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::Format;
use crate::output::{Column, column, rows};
use crate::words::time;

const COLUMNS: [Column; 7] = [
    column("SCHEDULE", "id"),
    column("NAME", "name"),
    column("STATE", "state"),
    column("CRON", "cron"),
    column("RUNS", "n_runs"),
    column("NEXT", "next"),
    column("LAST JOB", "last_job"),
];

/// Lists or changes recurring jobs.
///
/// # Errors
/// There is no such schedule; [`Exit::Refused`] when its state does not allow it; those of the store and of standard output.
pub async fn run(context: Context, verb: ScheduleVerb) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift schedule").await?;
    let (schedule, to, done, refused) = match verb {
        ScheduleVerb::Ls { all, output } => {
            let list: Vec<Value> = store
                .schedules(all)
                .await?
                .iter()
                .map(|schedule| {
                    let mut row = serde_json::to_value(schedule).expect("a view is plain data");
                    if output.output == Format::Table {
                        row["next"] = json!(schedule.next_due_unix_ms.map(time));
                    }
                    row
                })
                .collect();
            rows(&mut std::io::stdout().lock(), output.output, &COLUMNS, &list)?;
            if list.is_empty() && output.output == Format::Table {
                context.ui.note("no recurring jobs");
            }
            return Ok(Exit::Ok);
        }
        ScheduleVerb::Pause { schedule } => {
            let done = "is paused; runs that have started continue";
            (schedule, ScheduleMove::Pause, done, "is not active")
        }
        ScheduleVerb::Resume { schedule } => {
            (schedule, ScheduleMove::Resume, "continues with its next due time", "is not paused")
        }
        ScheduleVerb::Rm { schedule } => {
            let done = "is removed; runs that have started continue";
            (schedule, ScheduleMove::Remove, done, "was already removed")
        }
    };
    if !store.move_schedule(schedule, to).await? {
        let message = format!("schedule {schedule} {refused}");
        return Err(Failure::new(Exit::Refused, message).into());
    }
    context.ui.note(&format!("schedule {schedule} {done}"));
    Ok(Exit::Ok)
}
