//! Closing a job: when all items are final, one worker writes what belongs to the whole job, and last `_SUCCESS`.
//!
//! Everything streams: pages of items and chunks of inputs in order into files of a private folder, then one upload each.
//! It may be stopped and begun again at any point: the files are a function of the rows, and `_SUCCESS` comes last.

mod manifest;
mod parquet;
mod spool;
mod stats;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use nightshift_jobs::{InputRow, Sidecar};
use nightshift_objects::{Put, S3Uri, SHA256_KEY, sha256_hex};
use nightshift_store::{ItemRow, Lease, unsigned};
use serde_json::json;

use crate::failure::ShardError;
use crate::item::inputs;
use crate::job::{FOLDER, Job, PROBES};
use crate::lease::{Ended, Guard};
use crate::shared::Shared;
use crate::work::Work;

use spool::{Spool, Spooled};

/// Items of one page; their input rows are held at the same time.
const PAGE: i64 = 1_000;

/// Closes the job of a lease.
///
/// # Errors
/// [`ShardError`]: the lease ended, the destination refuses writes, the spool folder is full.
pub(crate) async fn close(shared: &Shared, lease: &Lease, guard: &Guard) -> Result<(), ShardError> {
    let work = Box::pin(Work::open(shared, lease, guard)).await?;
    let job = &work.job;
    let mut spool = Spool::create(&shared.config.spool, job)?;
    let mut after = -1;
    loop {
        let page = work.patiently(|| shared.store.finished(lease, after, PAGE)).await?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            break;
        };
        after = last.report.index;
        let from = job.spec.row_of(unsigned(first.report.index));
        let to = job.spec.row_of(unsigned(last.report.index)) + 1;
        let rows = inputs::rows(&work, lease, from, to).await?;
        spool = write_page(spool, Arc::clone(job), page, rows).await?;
    }
    let spooled = blocking(move || spool.finish()).await?;
    if job.overwrites() {
        // Before the new manifest replaces the only list of what was there.
        manifest::delete_stale(&work, &spooled.keys).await?;
    }
    sweep_probes(&work).await?;
    publish(&work, &spooled).await
}

/// Deletes what workers that died during a probe left behind, if the store lets us list it.
async fn sweep_probes(work: &Work<'_>) -> Result<(), Ended> {
    let (probes, objects) = (work.job.own_uri(PROBES), &work.shared.objects);
    let mut after = None;
    loop {
        let page = match work.guard.run(Box::pin(objects.list_page(&probes, after.clone()))).await?
        {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%error, "cannot list what probes left behind");
                return Ok(());
            }
        };
        for object in page.objects {
            let uri = S3Uri { bucket: probes.bucket.clone(), key: object.key };
            if let Err(error) = work.guard.run(Box::pin(objects.delete(&uri))).await? {
                tracing::debug!(%error, "cannot delete what a probe left behind");
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn write_page(
    mut spool: Spool,
    job: Arc<Job>,
    page: Vec<ItemRow>,
    rows: BTreeMap<u64, InputRow>,
) -> Result<Spool, ShardError> {
    blocking(move || {
        for item in &page {
            let row = &rows[&job.spec.row_of(unsigned(item.report.index))];
            spool.add(&job, item, row)?;
        }
        Ok(spool)
    })
    .await
}

/// Compression and disks are kept off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ShardError> + Send + 'static,
) -> Result<T, ShardError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ShardError::failed("worker_panic", error)))
}

/// Uploads everything; the table first, `_SUCCESS` last.
async fn publish(work: &Work<'_>, spooled: &Spooled) -> Result<(), ShardError> {
    let job = &work.job;
    let (name, content_type, other) = match job.spec.output().sidecar {
        Sidecar::Parquet => {
            ("metadata.parquet", "application/vnd.apache.parquet", "metadata.jsonl")
        }
        Sidecar::Jsonl => ("metadata.jsonl", "application/jsonl", "metadata.parquet"),
    };
    if !job.refuses() {
        // Readers refuse two tables; the destination may have had the other one.
        let uri = job.uri(other);
        work.writing(&uri, || work.shared.objects.delete(&uri)).await?;
    }
    put(work, name, content_type, &spooled.metadata).await?;
    for (name, file) in [("items.jsonl", &spooled.items), ("errors.jsonl", &spooled.errors)] {
        put(work, &format!("{FOLDER}{name}"), "application/jsonl", file).await?;
    }
    work.write("stats.json", "application/json", format!("{:#}\n", spooled.stats)).await?;
    let manifest = format!("{FOLDER}manifest.jsonl");
    let manifest_sha256 = put(work, &manifest, "application/jsonl", &spooled.manifest).await?;
    let success = json!({ "manifest_sha256": manifest_sha256, "items": spooled.stats["items"] });
    work.write("_SUCCESS", "application/json", format!("{success}\n")).await
}

/// Uploads one spooled file and returns its sha256 in hex.
async fn put(
    work: &Work<'_>,
    key: &str,
    content_type: &str,
    file: &tempfile::NamedTempFile,
) -> Result<String, ShardError> {
    let body = spool::bytes_of(file)?;
    let to_hash = body.clone();
    let sha256 = blocking(move || Ok(sha256_hex(&to_hash))).await?;
    let how = Put {
        create_only: false,
        content_type: content_type.to_owned(),
        metadata: BTreeMap::from([(SHA256_KEY.to_owned(), sha256.clone())]),
    };
    let uri = work.job.uri(key);
    work.writing(&uri, || work.shared.objects.put(&uri, body.clone(), &how)).await?;
    Ok(sha256)
}
