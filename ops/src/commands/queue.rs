//! `queue`: who goes next, and when it will start and finish.

use nightshift_scheduler::{Forecast, forecast};
use nightshift_store::QueueRow;
use serde_json::{Value, json};

use crate::cli::QueueArgs;
use crate::connect;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Format;
use crate::output::{Column, column, rows};
use crate::words::{at_a_shell, time};

/// Lists the jobs that are not over, in the order in which they will start.
///
/// # Errors
/// Those of the store and of standard output.
pub async fn run(context: Context, args: QueueArgs) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift queue").await?;
    let queue = store.queue().await?;
    let format = args.output.output;
    let list = places(&queue, format);
    rows(&mut std::io::stdout().lock(), format, &COLUMNS, &list)?;
    if list.is_empty() && format == Format::Table {
        context.ui.note("nothing waits");
    }
    Ok(Exit::Ok)
}

const COLUMNS: [Column; 9] = [
    column("PLACE", "place"),
    column("JOB", "job"),
    column("NAME", "name"),
    column("PRIORITY", "priority"),
    column("LEFT", "items_left"),
    column("WORKERS", "n_workers"),
    column("STARTS", "starts"),
    column("FINISHES", "finishes"),
    column("WHY", "reason"),
];

/// One's own jobs, each with its place among all.
fn places(queue: &[QueueRow], format: Format) -> Vec<Value> {
    let now = queue.first().map_or(0, |row| row.now_unix_ms);
    let forecasts = forecast(queue, now);
    let mut order: Vec<usize> = (0..queue.len()).collect();
    // Those of which nothing is known come last; ties are in the order of claims already.
    order.sort_by_key(|place| forecasts[*place].starts_unix_ms.unwrap_or(i64::MAX));
    order
        .into_iter()
        .zip(1..)
        .filter(|(place, _)| queue[*place].job.is_some())
        .map(|(place, number)| row(&queue[place], forecasts[place], number, now, format))
        .collect()
}

fn row(row: &QueueRow, forecast: Forecast, place: usize, now: i64, format: Format) -> Value {
    let mut value = serde_json::to_value(row).expect("a row is plain data");
    value["place"] = json!(place);
    value["starts_unix_ms"] = json!(forecast.starts_unix_ms);
    value["finishes_unix_ms"] = json!(forecast.finishes_unix_ms);
    if format == Format::Table {
        value["reason"] =
            json!(row.reason.as_deref().map(|why| at_a_shell(why, row.call.as_deref(), row.job)));
        value["starts"] = json!(match forecast.starts_unix_ms {
            _ if row.n_leased > 0 => Some("running".to_owned()),
            Some(at) if at <= now => Some("now".to_owned()),
            at => at.map(time),
        });
        value["finishes"] = json!(match forecast.finishes_unix_ms {
            None if row.item_ms.is_none() => Some("not measured".to_owned()),
            at => at.map(time),
        });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(job: Option<i64>, priority: i32) -> QueueRow {
        QueueRow {
            job,
            tenant: job.map(|_| "default".to_owned()),
            name: job.map(|job| format!("job-{job}")),
            tenant_no: if job.is_some() { 1 } else { 2 },
            usage: 0.0,
            weight: 1.0,
            max_leased: None,
            priority,
            items_left: 100,
            shards_left: 10,
            n_leased: 0,
            item_ms: Some(1_000.0),
            measured_on: None,
            n_workers: 1,
            n_live: 1,
            opens_unix_ms: None,
            closes_unix_ms: None,
            time_window: None,
            after: Vec::new(),
            blocked: false,
            reason: None,
            call: None,
            now_unix_ms: 1_000,
        }
    }

    #[test]
    fn others_take_places_and_are_not_shown() {
        let queue = [
            waiting(None, 90),
            waiting(Some(7), 50),
            QueueRow { blocked: true, item_ms: None, ..waiting(Some(5), 50) },
        ];
        let list = places(&queue, Format::Json);
        let said: Vec<_> = list
            .iter()
            .map(|row| {
                (row["place"].as_i64(), row["job"].as_i64(), row["finishes_unix_ms"].as_i64())
            })
            .collect();
        assert_eq!(said, [(Some(2), Some(7), Some(201_000)), (Some(3), Some(5), None)]);
        let table = places(&queue, Format::Table);
        assert_eq!(table[0]["starts"], time(101_000));
        assert_eq!(table[1]["finishes"], "not measured");
        assert_eq!(table[1]["starts"], Value::Null);
    }
}
