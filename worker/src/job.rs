//! A job as its worker knows it, and the first touch of its destination.

use nightshift_jobs::{
    Decoding, InputRow, Item, ItemError, JobSpec, JobVars, OnExisting, Window, is_allowed,
};
use nightshift_objects::{ConditionalPut, Error as ObjectError, Put, S3Uri};
use nightshift_store::{JobInfo, Lease};
use serde_json::{Value, json};

use crate::failure::{ShardError, unsigned};
use crate::lease::Guard;
use crate::retry::patiently;
use crate::shared::Shared;
use crate::trouble::Doing;

/// Folder of everything about a job that is not a result.
pub(crate) const FOLDER: &str = "_nightshift/";
/// Where in it workers try what the object store can do.
pub(crate) const PROBES: &str = "probe/";
/// Bytes of a plan.json that somebody may have put there.
const PLAN_BYTES_MAX: u64 = 1 << 20;
/// Jobs whose destination is remembered as prepared.
const TOUCHED_MAX: usize = 1_000;

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
    /// `If-None-Match: *` can be relied on.
    pub(crate) conditions: bool,
}

/// What of a job stands inside its files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// `"name/weights/kv_cache"`.
    pub(crate) model: &'a str,
    pub(crate) fingerprint: &'a str,
    /// `JobSpec::content_sha256`.
    pub(crate) content_sha256: &'a str,
}

impl Job {
    /// Asks the store for the job behind a lease and makes sure that its destination is ours.
    ///
    /// # Errors
    /// [`ShardError`]: `bad_spec`, `no_such_model`, `dest_forbidden`, `dest_taken`, `storage`.
    pub(crate) async fn open(
        shared: &Shared,
        lease: &Lease,
        guard: &Guard,
    ) -> Result<Self, ShardError> {
        let info = patiently(guard, || shared.store.job_info(lease)).await??;
        let bad = |error: String| ShardError::failed("bad_spec", error);
        let spec: JobSpec = serde_json::from_value(info.resolved.clone())
            .map_err(|error| bad(error.to_string()))?;
        let dest: S3Uri =
            info.dest.parse().map_err(|error| bad(format!("{}: {error}", info.dest)))?;
        if !is_allowed(&info.dest, &info.dest_prefixes) {
            let message = format!("{} is not below a destination prefix of this tenant", info.dest);
            return Err(ShardError::failed("dest_forbidden", message));
        }
        let model = spec.model().key();
        let offer = shared.models.get(&model);
        let fingerprint = offer.map_or_else(String::new, |offer| offer.fingerprint.clone());
        let coupled_window = offer.map(|offer| offer.coupled_window);
        if info
            .fingerprint
            .as_ref()
            .is_some_and(|pinned| *pinned != fingerprint && !fingerprint.is_empty())
        {
            let message =
                format!("the job is pinned to another build or copy of {model} than this worker's");
            return Err(ShardError::failed("no_such_model", message));
        }
        let vars = JobVars {
            job_id: info.job,
            run_date: info.run_date.clone(),
            run_index: unsigned(info.run_index),
        };
        let content_sha256 = spec.content_sha256();
        let conditions = conditions(shared, guard, &dest, lease.token).await?;
        let job = Self {
            info,
            spec,
            vars,
            dest,
            content_sha256,
            model,
            fingerprint,
            coupled_window,
            conditions,
        };
        job.touch(shared, guard).await?;
        if shared.troubles.is_open(&job.dest, Doing::Writing) {
            // Before anything is drawn that could not be stored.
            job.try_to_write(shared, guard, lease.token).await?;
        }
        Ok(job)
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

    /// What of the job stands inside its files.
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

    pub(crate) fn overwrites(&self) -> bool {
        self.spec.on_existing() == OnExisting::Overwrite
    }

    /// Once per worker and round: whose destination this is, what the job is, and no `_SUCCESS` while it is not true.
    async fn touch(&self, shared: &Shared, guard: &Guard) -> Result<(), ShardError> {
        let touched = |map: &std::collections::BTreeMap<i64, i32>| {
            map.get(&self.info.job) == Some(&self.info.round)
        };
        if shared.touched.lock().is_ok_and(|map| touched(&map)) {
            return Ok(());
        }
        let plan = self.plan();
        let owner = self.owner(shared, guard).await?;
        let ours = owner.as_ref() == Some(&plan["owner"]);
        if let (Some(other), false) = (&owner, ours)
            && self.spec.on_existing() == OnExisting::Refuse
        {
            let message =
                format!("{} already holds the results of {}", self.info.dest, named(other));
            return Err(ShardError::failed("dest_taken", message));
        }
        if owner.is_some() && (!ours || self.info.round > 1) {
            let success = self.own_uri("_SUCCESS");
            shared.writing(guard, &success, || shared.objects.delete(&success)).await??;
        }
        if !ours {
            self.write(shared, guard, "spec.yaml", "application/yaml", self.info.spec_text.clone())
                .await?;
            let text = format!("{plan:#}\n");
            self.write(shared, guard, "plan.json", "application/json", text).await?;
        }
        if let Ok(mut map) = shared.touched.lock() {
            while map.len() >= TOUCHED_MAX {
                map.pop_first();
            }
            map.insert(self.info.job, self.info.round);
        }
        Ok(())
    }

    /// Waits until the destination takes an object again.
    async fn try_to_write(
        &self,
        shared: &Shared,
        guard: &Guard,
        token: i64,
    ) -> Result<(), ShardError> {
        let name = format!("{PROBES}{token}/writable");
        self.write(shared, guard, &name, "text/plain", String::new()).await?;
        let uri = self.own_uri(&name);
        let deleting = || shared.objects.delete(&uri);
        shared.writing(guard, &uri, deleting).await??;
        Ok(())
    }

    /// Writes a small file below `_nightshift/`.
    pub(crate) async fn write(
        &self,
        shared: &Shared,
        guard: &Guard,
        name: &str,
        content_type: &str,
        text: String,
    ) -> Result<(), ShardError> {
        let (uri, body) = (self.own_uri(name), bytes::Bytes::from(text));
        let how =
            Put { create_only: false, content_type: content_type.to_owned(), ..Put::default() };
        shared.writing(guard, &uri, || shared.objects.put(&uri, body.clone(), &how)).await??;
        Ok(())
    }

    /// Who says in plan.json that this destination is theirs.
    async fn owner(&self, shared: &Shared, guard: &Guard) -> Result<Option<Value>, ShardError> {
        let uri = self.own_uri("plan.json");
        match shared.reading(guard, &uri, || shared.objects.get(&uri, PLAN_BYTES_MAX, None)).await?
        {
            Ok(got) => {
                let plan: Value = serde_json::from_slice(&got.body).unwrap_or_default();
                // Somebody's plan that cannot be read is still somebody's.
                Ok(Some(plan["owner"].clone()))
            }
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// `_nightshift/plan.json`: the same whoever writes it, in whatever round.
    fn plan(&self) -> Value {
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

/// The owner of a plan.json in words.
fn named(owner: &Value) -> String {
    match (&owner["job"], owner["name"].as_str()) {
        (Value::Number(job), Some(name)) => format!("job {job} ({name})"),
        _ => "another job".to_owned(),
    }
}

/// Whether the endpoint's create-only writes can be relied on; asked once per worker.
async fn conditions(
    shared: &Shared,
    guard: &Guard,
    dest: &S3Uri,
    token: i64,
) -> Result<bool, ShardError> {
    // The token keeps the probes of two workers apart.
    let scratch = dest.join(&format!("{FOLDER}{PROBES}{token}/"));
    if let Some(known) = shared.conditions.get() {
        return Ok(*known);
    }
    // Nobody waits for another's probe: its bucket may be in trouble.
    let found = shared.writing(guard, &scratch, || shared.objects.probe(&scratch)).await??;
    for note in &found.notes {
        tracing::warn!("object store: {note}");
    }
    let honoured = found.conditional_put == ConditionalPut::Honoured;
    // Somebody else may have found it meanwhile.
    Ok(*shared.conditions.get_or_init(|| async { honoured }).await)
}
