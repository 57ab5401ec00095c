//! The files of a job that is being closed, on the worker's disk until they are whole.

use std::io::{BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use nightshift_jobs::{InputRow, Sidecar};
use nightshift_store::{ItemRow, ItemStatus, unsigned};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::manifest::KeySet;
use super::parquet::ParquetFile;
use super::stats::Stats;
use super::table::{self, Cell};
use crate::failure::ShardError;
use crate::job::Job;

/// Files being written.
pub(super) struct Spool {
    metadata: Metadata,
    items: BufWriter<NamedTempFile>,
    errors: BufWriter<NamedTempFile>,
    manifest: BufWriter<NamedTempFile>,
    stats: Stats,
    keys: KeySet,
}

enum Metadata {
    Parquet(Box<ParquetFile>),
    Jsonl(BufWriter<NamedTempFile>),
}

/// Files that are whole; they vanish with this value.
pub(super) struct Spooled {
    pub(super) metadata: NamedTempFile,
    pub(super) items: NamedTempFile,
    pub(super) errors: NamedTempFile,
    pub(super) manifest: NamedTempFile,
    pub(super) stats: Value,
    /// Keys that the manifest names.
    pub(super) keys: KeySet,
}

impl Spool {
    pub(super) fn create(folder: &Path, job: &Job) -> Result<Self, ShardError> {
        std::fs::create_dir_all(folder)?;
        let file = || NamedTempFile::with_prefix_in("nightshift-close-", folder);
        Ok(Self {
            metadata: match job.spec.output().sidecar {
                Sidecar::Parquet => {
                    Metadata::Parquet(Box::new(ParquetFile::create(file()?, &table::columns(job))?))
                }
                Sidecar::Jsonl => Metadata::Jsonl(BufWriter::new(file()?)),
            },
            items: BufWriter::new(file()?),
            errors: BufWriter::new(file()?),
            manifest: BufWriter::new(file()?),
            stats: Stats::default(),
            keys: KeySet::default(),
        })
    }

    /// Adds one final item; items come in order.
    pub(super) fn add(
        &mut self,
        job: &Job,
        item: &ItemRow,
        row: &InputRow,
    ) -> Result<(), ShardError> {
        let report = &item.report;
        self.stats.add(item);
        let mut whole = serde_json::to_value(item).map_err(std::io::Error::from)?;
        // Many readers of JSON keep only doubles.
        if let Some(seed) = report.seed {
            whole["seed"] = json!(seed.to_string());
        }
        whole["row_id"] = json!(row.row_id());
        line(&mut self.items, &whole)?;
        if report.status != ItemStatus::Ok {
            whole["input_uri"] = json!(row.uri);
            return Ok(line(&mut self.errors, &whole)?);
        }
        for artifact in &report.artifacts {
            self.keys.insert(&artifact.key);
            let entry = json!({
                "key": artifact.key, "role": artifact.role, "bytes": artifact.bytes, "sha256": artifact.sha256,
                "index": report.index, "item_id": report.item_id,
            });
            line(&mut self.manifest, &entry)?;
        }
        let computed = job.spec.item(unsigned(report.index), row, &job.vars);
        // It was made, so it can be computed again: item() is a pure function.
        let computed = computed.map_err(|error| ShardError::failed("bad_spec", error))?;
        let cells = table::cells(job, &computed, row, item);
        match &mut self.metadata {
            Metadata::Parquet(file) => file.add(cells)?,
            Metadata::Jsonl(file) => {
                let names = table::columns(job).into_iter().map(|column| column.name);
                let object: serde_json::Map<String, Value> =
                    names.zip(cells.into_iter().map(Cell::into_json)).collect();
                line(file, &Value::Object(object))?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Spooled, ShardError> {
        let whole = |file: BufWriter<NamedTempFile>| {
            file.into_inner().map_err(|error| ShardError::from(error.into_error()))
        };
        Ok(Spooled {
            metadata: match self.metadata {
                Metadata::Parquet(file) => file.finish()?,
                Metadata::Jsonl(file) => whole(file)?,
            },
            items: whole(self.items)?,
            errors: whole(self.errors)?,
            manifest: whole(self.manifest)?,
            stats: self.stats.json(),
            keys: self.keys,
        })
    }
}

fn line(file: &mut impl Write, value: &Value) -> std::io::Result<()> {
    writeln!(file, "{value}")
}

/// The bytes of a spooled file, read from disk as they are needed.
pub(super) fn bytes_of(file: &NamedTempFile) -> std::io::Result<Bytes> {
    if file.as_file().metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    #[expect(
        unsafe_code,
        reason = "a memory map keeps the upload of a table of any size off the heap"
    )]
    // SAFETY: the file is private to this process (created with mode 0600 under a random name), whole, and never written or
    // truncated again, so the mapped bytes do not change.
    let map = unsafe { memmap2::Mmap::map(file.as_file()) }?;
    Ok(Bytes::from_owner(map))
}
