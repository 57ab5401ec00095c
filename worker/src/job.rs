//! A job as its worker knows it.

use nightshift_jobs::{
    Decoding, InputRow, Item, ItemError, JobSpec, JobVars, OnExisting, Window, is_allowed,
};
use nightshift_objects::S3Uri;
use nightshift_store::{JobInfo, unsigned};
use serde_json::{Value, json};

use crate::failure::ShardError;
use crate::generate::Offer;

/// Folder of everything about a job that is not a result.
pub(crate) const FOLDER: &str = "_nightshift/";
/// Where in it workers try what the object store can do.
pub(crate) const PROBES: &str = "probe/";

/// A job and what follows from its spec.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) info: JobInfo,
    pub(crate) spec: JobSpec,
    pub(crate) vars: JobVars,
    pub(crate) dest: S3Uri,
    pub(crate) content_sha256: String,
    /// `"name/weights/kv_cache"`.
    pub(crate) model: String,
    /// Of this worker's engine for that model.
    pub(crate) fingerprint: String,
    /// What `window: auto` means for coupled decoding with it.
    coupled_window: Option<u32>,
}

/// The facts of a job that its files carry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// `"name/weights/kv_cache"`.
    pub(crate) model: &'a str,
    pub(crate) fingerprint: &'a str,
    /// `JobSpec::content_sha256`.
    pub(crate) content_sha256: &'a str,
}

impl Job {
    /// Checks what the store returns for a job. `offer` gives what this worker's engine has for a model.
    ///
    /// # Errors
    /// [`ShardError`]: `bad_spec`, `no_such_model`, `dest_forbidden`.
    pub(crate) fn new(
        info: JobInfo,
        offer: impl FnOnce(&str) -> Option<Offer>,
    ) -> Result<Self, ShardError> {
        let bad = |error: String| ShardError::failed("bad_spec", error);
        let spec: JobSpec = serde_json::from_value(info.resolved.clone())
            .map_err(|error| bad(error.to_string()))?;
        let dest: S3Uri =
            info.dest.parse().map_err(|error| bad(format!("{}: {error}", info.dest)))?;
        if !is_allowed(&info.dest, &info.dest_prefixes) {
            let message =
                format!("{} is not under any destination prefix of this tenant", info.dest);
            return Err(ShardError::failed("dest_forbidden", message));
        }
        let model = spec.model().key();
        let offer = offer(&model);
        let coupled_window = offer.as_ref().map(|offer| offer.coupled_window);
        let fingerprint = offer.map_or_else(String::new, |offer| offer.fingerprint);
        let pinned = info.fingerprint.as_ref();
        if pinned.is_some_and(|pinned| *pinned != fingerprint && !fingerprint.is_empty()) {
            let message = format!(
                "the job is pinned to a different build or copy of {model} than the one on this worker"
            );
            return Err(ShardError::failed("no_such_model", message));
        }
        let vars = JobVars {
            job_id: info.job,
            run_date: info.run_date.clone(),
            run_index: unsigned(info.run_index),
        };
        let content_sha256 = spec.content_sha256();
        Ok(Self { info, spec, vars, dest, content_sha256, model, fingerprint, coupled_window })
    }

    /// An item of the job. A window that coupled decoding leaves to the model is that of this worker's, which the fingerprint
    /// covers: it decides the picture.
    ///
    /// # Errors
    /// The item cannot be made of its row.
    pub(crate) fn item(&self, index: u64, row: &InputRow) -> Result<Item, ItemError> {
        let mut item = self.spec.item(index, row, &self.vars)?;
        let sampler = &mut item.sampler;
        if let (Decoding::Coupled, Window::Auto, Some(positions)) =
            (sampler.decoding, sampler.window, self.coupled_window)
        {
            sampler.window = Window::Fixed(positions);
        }
        Ok(item)
    }

    /// The facts of the job that its files carry.
    pub(crate) fn origin(&self) -> Origin<'_> {
        Origin {
            model: &self.model,
            fingerprint: &self.fingerprint,
            content_sha256: &self.content_sha256,
        }
    }

    /// The object of a key relative to the destination.
    pub(crate) fn uri(&self, key: &str) -> S3Uri {
        S3Uri { bucket: self.dest.bucket.clone(), key: format!("{}{key}", self.dest.key) }
    }

    /// The object of a name below `_nightshift/`.
    pub(crate) fn own_uri(&self, name: &str) -> S3Uri {
        self.uri(&format!("{FOLDER}{name}"))
    }

    /// Whether the tenant may read this input.
    pub(crate) fn may_read(&self, uri: &str) -> bool {
        is_allowed(uri, &self.info.input_prefixes)
    }

    /// Whether a destination with another job's results is left alone.
    pub(crate) fn refuses(&self) -> bool {
        self.spec.on_existing() == OnExisting::Refuse
    }

    pub(crate) fn overwrites(&self) -> bool {
        self.spec.on_existing() == OnExisting::Overwrite
    }

    /// `_nightshift/plan.json`: the same whoever writes it, in whatever round.
    pub(crate) fn plan(&self) -> Value {
        let info = &self.info;
        json!({
            "nightshift": env!("CARGO_PKG_VERSION"),
            "owner": {
                "job": info.job, "name": info.name, "tenant": info.tenant, "submitted_unix_ms": info.submitted_unix_ms,
            },
            "kind": info.kind,
            "dest": info.dest,
            "model": self.model,
            "spec_sha256": info.spec_sha256,
            "spec_content_sha256": self.content_sha256,
            "n_rows": info.n_rows,
            "n_items": info.n_items,
            "run_date": info.run_date,
            "run_index": info.run_index,
        })
    }
}
