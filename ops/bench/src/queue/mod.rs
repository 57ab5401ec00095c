//! `bench queue`: the queue alone, on a private cluster with fsync on. No engine: workers say that items are done. An object store
//! serves the manifest alone.

mod figures;
mod lab;
mod manifest;
mod waiting;
mod work;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use figures::{Asked, Figures, percentile};
use lab::{Lab, TENANTS};
use work::{Work, rate};

/// Jobs that are active while shards are counted.
const ACTIVE: usize = 1000;

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Items to finish, at least, before tables are weighed.
    pub items: i64,
    /// How long each rate is measured.
    pub time: Duration,
    /// Lines of the manifest that is listed.
    pub manifest_lines: u64,
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// All figures, with what is asked of them.
    pub report: Value,
    /// Whether each is as asked.
    pub met: bool,
}

/// Measures; `told` hears what begins.
///
/// # Errors
/// No Postgres on this machine, or a call that failed.
pub async fn run(options: Options, told: impl Fn(&str)) -> anyhow::Result<Measured> {
    let Options { items, time, manifest_lines } = options;
    let mut figures = Figures::default();
    told("bench: items");
    let tables = items_and_bytes(&mut figures, items, time).await?;
    told("bench: shards");
    cycles(&mut figures, time).await?;
    told("bench: waiting times and shares");
    waits(&mut figures).await?;
    told("bench: manifest");
    let manifest = manifest::run(&mut figures, manifest_lines).await?;
    let missed = figures.missed().to_vec();
    let met = missed.is_empty();
    let report = json!({
        "bench": "queue",
        "version": env!("CARGO_PKG_VERSION"),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "items": items,
        "seconds_each": time.as_secs(),
        "figures": figures.into_json(),
        "tables": tables,
        "manifest": manifest,
        "missed": missed,
    });
    Ok(Measured { report, met })
}

/// One long job: planning it, items at two batch sizes, and what the rows take.
async fn items_and_bytes(
    figures: &mut Figures,
    items: i64,
    time: Duration,
) -> anyhow::Result<Value> {
    let lab = Arc::new(Lab::start().await?);
    let before = lab.sizes().await?;
    let mut plans = Vec::new();
    for n in 0..20 {
        let job = lab.submit(n % TENANTS).await?;
        plans.push(lab.plan(job, 10_000_000, 1000).await?.as_secs_f64() * 1e3);
        lab.user.hold(job).await?;
    }
    figures.add("plan_10m_items_p50", percentile(&mut plans, 0.5), "ms", Asked::AtMost(50.0));

    let workers = lab.workers(4).await?;
    let job = lab.ready(0, 1_000_000_000, 1000).await?;
    let batch = |n| Work::Items(n);
    let thousand = rate(&lab, &workers[..2], batch(1000), time).await?;
    figures.add("items_at_1000_two_clients", thousand.per_s, "1/s", Asked::AtLeast(120_000.0));
    figures.add("items_at_1000_server_cpu", thousand.server_us, "us", Asked::Nothing);
    let sixteen = rate(&lab, &workers, batch(16), time).await?;
    figures.add("items_at_16_four_clients", sixteen.per_s, "1/s", Asked::AtLeast(30_000.0));
    figures.add("items_at_16_server_cpu", sixteen.server_us, "us", Asked::Nothing);

    // Up to the number asked for, so that the bytes are those of a long run.
    let mut n = i64::try_from(thousand.n + sixteen.n)?;
    while n < items {
        n += i64::try_from(rate(&lab, &workers[..2], batch(1000), time).await?.n)?;
    }
    let beats = rate(&lab, &workers, Work::Heartbeats, time).await?;
    figures.add("heartbeats_four_clients", beats.per_s, "1/s", Asked::Nothing);
    figures.add("heartbeat_server_cpu", beats.server_us, "us", Asked::Nothing);
    lab.user.hold(job).await?;
    let after = lab.sizes().await?;
    let bytes = |wanted: fn(&str) -> bool| -> f64 {
        let total: i64 = after
            .iter()
            .filter(|size| wanted(&size.table))
            .map(|size| size.heap_bytes + size.index_bytes)
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "bytes of tables")]
        let total = total as f64;
        total
    };
    #[expect(clippy::cast_precision_loss, reason = "a count of items")]
    let per_item = bytes(|table| table == "item") / n as f64;
    figures.add("bytes_per_finished_item", per_item, "B", Asked::AtMost(250.0));
    figures.add("other_tables", bytes(|table| table != "item") / 1e6, "MB", Asked::AtMost(10.0));
    let table = |size: &nightshift_store::TableSize| {
        let old = before.iter().find(|old| old.table == size.table);
        json!({"table": size.table, "heap_bytes": size.heap_bytes, "index_bytes": size.index_bytes,
            "bytes_before": old.map_or(0, |old| old.heap_bytes + old.index_bytes)})
    };
    let tables = json!({"after_items": n, "of": after.iter().map(table).collect::<Vec<_>>()});
    stop(lab).await?;
    Ok(tables)
}

/// 1,000 active jobs of 20 tenants; shards of one item.
async fn cycles(figures: &mut Figures, time: Duration) -> anyhow::Result<()> {
    let lab = Arc::new(Lab::start().await?);
    let workers = lab.workers(8).await?;
    let submitted = rate(&lab, &workers, Work::Submissions, time).await?;
    figures.add("submissions_eight_clients", submitted.per_s, "1/s", Asked::Nothing);
    figures.add("submission_server_cpu", submitted.server_us, "us", Asked::Nothing);
    let room = |sizes: &[nightshift_store::TableSize]| -> i64 {
        sizes.iter().map(|size| size.heap_bytes + size.index_bytes).sum()
    };
    let before = room(&lab.sizes().await?);
    for n in 0..ACTIVE {
        lab.ready(n % TENANTS, 10_000_000, 1).await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "bytes of tables")]
    let per_job = (room(&lab.sizes().await?) - before) as f64 / ACTIVE as f64;
    figures.add("bytes_per_waiting_job", per_job, "B", Asked::AtMost(1024.0));

    let one = rate(&lab, &workers, Work::Cycles, time).await?;
    figures.add("shards_one_by_one", one.per_s, "1/s", Asked::AtLeast(600.0));
    figures.add("shards_one_by_one_server_cpu", one.server_us, "us", Asked::Nothing);
    let many = rate(&lab, &workers, Work::CyclesOf16, time).await?;
    figures.add("shards_in_claims_of_16", many.per_s, "1/s", Asked::AtLeast(5_000.0));
    figures.add("shards_in_claims_of_16_server_cpu", many.server_us, "us", Asked::Nothing);
    stop(lab).await
}

async fn waits(figures: &mut Figures) -> anyhow::Result<()> {
    let lab = Arc::new(Lab::start().await?);
    let workers = lab.workers(8).await?;
    let mut times = waiting::ready_to_claim(&lab, workers[0], 300).await?;
    figures.add("ready_to_claim_p50", percentile(&mut times, 0.5), "ms", Asked::AtMost(6.0));
    figures.add("ready_to_claim_p99", percentile(&mut times, 0.99), "ms", Asked::AtMost(20.0));
    let mut times = waiting::ready_to_claim_by_polling(&lab, workers[0], 20).await?;
    figures.add(
        "poll_only",
        percentile(&mut times, 1.0),
        "ms",
        Asked::AtMost(millis(waiting::POLL_EVERY)),
    );
    let rescue = waiting::rescue(&lab, &workers).await?;
    figures.add("rescue_after_lease", rescue, "ms", Asked::AtMost(2000.0));
    let window = Duration::from_secs(10);
    let (least, most) = waiting::shares(&lab, &workers, window, 3).await?;
    figures.add("least_share_in_10_s", least, "of equal", Asked::AtLeast(0.9));
    figures.add("largest_share_in_10_s", most, "of equal", Asked::AtMost(1.1));
    let mut times = waiting::submit_to_claim(&lab, workers[0], 200).await?;
    figures.add("submit_to_claim_p50", percentile(&mut times, 0.5), "ms", Asked::Nothing);
    figures.add("submit_to_claim_p99", percentile(&mut times, 0.99), "ms", Asked::AtMost(250.0));
    stop(lab).await
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

async fn stop(lab: Arc<Lab>) -> anyhow::Result<()> {
    match Arc::into_inner(lab) {
        Some(lab) => lab.stop().await,
        // A task of a measurement still ends; dropping the last handle stops the server too.
        None => Ok(()),
    }
}
