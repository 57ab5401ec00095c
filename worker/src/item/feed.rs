//! One shard of items: what is final already is skipped, what was published is adopted, what cannot be made is a failed row,
//! and the rest is prepared for the engine one step ahead of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use nightshift_jobs::{GivenPanel, InputRow, Item, OnBadInput, Size};
use nightshift_objects::S3Uri;
use nightshift_store::{ItemReport, ItemStatus, Lease, signed, unsigned};
use tokio::sync::mpsc;

use super::inputs::{self, Given};
use super::report;
use super::sink::{self, Existing};
use crate::failure::{Failure, ShardError, Stop};
use crate::job::Job;
use crate::lease::{Ended, Guard};
use crate::shared::Shared;
use crate::work::Work;

/// Rows of one page of finished items.
const PAGE: i64 = 5_000;
/// Inputs that are remembered to compare others with.
const NEIGHBOURS: usize = 8;

/// An item that only needs a slot.
pub(crate) struct Prepared {
    /// The lease it belongs to.
    pub(crate) token: i64,
    pub(crate) job: Arc<Job>,
    pub(crate) item: Item,
    pub(crate) given: Option<Arc<Given>>,
}

/// What a feeder reports to the agent.
pub(crate) enum Fed {
    /// So many items of the shard were final before.
    Known(u64),
    /// An item became final without the engine.
    Final(Box<ItemReport>),
}

/// Where a feeder's results go.
pub(crate) struct Outlets {
    /// Bounded by the configured prefetch: the feeder waits here for the engine.
    pub(crate) prepared: mpsc::Sender<Prepared>,
    /// The lease's token and what happened.
    pub(crate) fed: mpsc::Sender<(i64, Fed)>,
}

/// Feeds a whole shard; returns when every item is final or handed over.
///
/// # Errors
/// [`ShardError`]: the lease ended, or the shard cannot be run.
pub(crate) async fn feed(
    shared: &Shared,
    lease: &Lease,
    guard: &Guard,
    outlets: &Outlets,
) -> Result<(), ShardError> {
    let work = Box::pin(Work::open(shared, lease, guard)).await?;
    let job = &work.job;
    if job.fingerprint.is_empty() {
        let message = format!("this worker has no model {}", job.model);
        return Err(ShardError::failed("no_such_model", message));
    }
    let known = known(&work, lease).await?;
    tell(outlets, lease, Fed::Known(known.len() as u64)).await?;
    let (mut items, failures) = items(&work, lease, &known).await?;
    // The others do not wait for one that may kill the process.
    items.sort_by_key(|item| lease.alone.contains(&signed(item.index)));
    for (index, failure) in failures {
        let report = failure.report(index, None, ItemStatus::Failed);
        tell(outlets, lease, Fed::Final(Box::new(report))).await?;
    }
    let existing = Existing::of(&work, &items).await?;
    let mut panels = Panels { last: None, neighbours: neighbours(&items) };
    for item in items {
        if let Some(adopted) = sink::adopt(&work, &item, &existing).await? {
            let report = report::ok(job, &item, adopted.artifacts, adopted.given.as_ref());
            tell(outlets, lease, Fed::Final(Box::new(report))).await?;
            continue;
        }
        match panels.of(&work, &item).await {
            Ok(given) => {
                let prepared = Prepared { token: lease.token, job: Arc::clone(job), item, given };
                outlets.prepared.send(prepared).await.map_err(|_| Ended)?;
            }
            Err(Stop::Item(failure)) => {
                let report = failure.report(item.index, Some(&item), status(job, &failure));
                tell(outlets, lease, Fed::Final(Box::new(report))).await?;
            }
            Err(Stop::Shard(error)) => return Err(error),
        }
    }
    Ok(())
}

/// What `on_bad_input` makes of a failure. `fail_job` is kept by the store, which stops a job over its failed items.
fn status(job: &Job, failure: &Failure) -> ItemStatus {
    match job.spec.on_bad_input() {
        OnBadInput::Skip if failure.bad_input => ItemStatus::Skipped,
        _ => ItemStatus::Failed,
    }
}

async fn tell(outlets: &Outlets, lease: &Lease, fed: Fed) -> Result<(), ShardError> {
    // The receiver is gone: the worker is ending.
    outlets.fed.send((lease.token, fed)).await.map_err(|_| ShardError::from(Ended))
}

/// Indices of the shard's items that are final.
async fn known(work: &Work<'_>, lease: &Lease) -> Result<BTreeSet<u64>, ShardError> {
    let mut known = BTreeSet::new();
    let mut after = -1;
    loop {
        let page = work.patiently(|| work.shared.store.finished(lease, after, PAGE)).await?;
        let Some(last) = page.last() else {
            return Ok(known);
        };
        after = last.report.index;
        known.extend(page.iter().map(|row| unsigned(row.report.index)));
    }
}

/// The items of the shard that are not final, and those among them that cannot be made at all.
async fn items(
    work: &Work<'_>,
    lease: &Lease,
    known: &BTreeSet<u64>,
) -> Result<(Vec<Item>, Vec<(u64, Failure)>), ShardError> {
    let job = &work.job;
    let range = unsigned(lease.first_item)..unsigned(lease.end_item);
    let open: Vec<u64> = range.filter(|index| !known.contains(index)).collect();
    let (Some(first), Some(last)) = (open.first(), open.last()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let (from, to) = (job.spec.row_of(*first), job.spec.row_of(*last) + 1);
    let rows = inputs::rows(work, lease, from, to).await?;
    let (mut items, mut failures) = (Vec::new(), Vec::new());
    for index in open {
        let row: &InputRow = &rows[&job.spec.row_of(index)];
        match job.item(index, row) {
            Ok(item) => items.push(item),
            Err(error) => failures.push((index, Failure::from(&error))),
        }
    }
    Ok((items, failures))
}

/// A few of the shard's inputs, far apart from each other.
fn neighbours(items: &[Item]) -> Vec<S3Uri> {
    let mut uris: Vec<&str> = items
        .iter()
        .filter_map(|item| item.given.as_ref())
        .map(|given| given.uri.as_str())
        .collect();
    uris.dedup();
    let step = uris.len().div_ceil(NEIGHBOURS).max(1);
    uris.into_iter().step_by(step).filter_map(|uri| uri.parse().ok()).collect()
}

/// The last panel that was fetched: neighbouring items (maps, cells, seeds) share their input.
struct Panels {
    /// Inputs from all over the shard.
    neighbours: Vec<S3Uri>,
    last: Option<(GivenPanel, Size, Result<Arc<Given>, Failure>)>,
}

impl Panels {
    /// The panel that is given to an item, if its task has one.
    async fn of(&mut self, work: &Work<'_>, item: &Item) -> Result<Option<Arc<Given>>, Stop> {
        let Some(wanted) = &item.given else {
            return Ok(None);
        };
        if let Some((panel, size, given)) = &self.last
            && (panel, *size) == (wanted, item.picture)
        {
            return Ok(Some(given.clone()?));
        }
        let given = match inputs::given(work, wanted, item.picture, &self.neighbours).await {
            Ok(given) => Ok(Arc::new(given)),
            Err(Stop::Item(failure)) => Err(failure),
            Err(stop) => return Err(stop),
        };
        self.last = Some((wanted.clone(), item.picture, given.clone()));
        Ok(Some(given?))
    }
}
