//! What everything that is done for a lease needs, and the first touch of a job's destination.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use nightshift_objects::{ConditionalPut, Error as ObjectError, Put, S3Uri};
use nightshift_store::{Error as StoreError, Lease};
use serde_json::Value;

use crate::failure::{ShardError, Unserved};
use crate::job::{Job, PROBES};
use crate::lease::Guard;
use crate::retry::patiently;
use crate::shared::Shared;
use crate::trouble::Doing;

/// Largest plan.json that is read.
const PLAN_BYTES_MAX: u64 = 1 << 20;
/// Jobs whose destination is remembered as prepared.
const TOUCHED_MAX: usize = 1_000;

/// A job that is worked on under a lease.
#[derive(Clone)]
pub(crate) struct Work<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) guard: &'a Guard,
    pub(crate) job: Arc<Job>,
}

impl<'a> Work<'a> {
    /// Asks the store for the job behind a lease and makes sure that its destination is ours.
    ///
    /// # Errors
    /// [`ShardError`]: those of [`Job::new`], `dest_taken`, `storage`.
    pub(crate) async fn open(
        shared: &'a Shared,
        lease: &Lease,
        guard: &'a Guard,
    ) -> Result<Self, ShardError> {
        let info = patiently(guard, || shared.store.job_info(lease)).await??;
        let job = Job::new(info, |model| shared.models.get(model).cloned())?;
        let work = Self { shared, guard, job: Arc::new(job) };
        // The token keeps the probes of two workers apart.
        let scratch = format!("{PROBES}{}/", lease.token);
        work.probe(&scratch).await?;
        work.touch().await?;
        if shared.troubles.is_open(&work.job.dest, Doing::Writing) {
            // Before anything is drawn that could not be stored.
            work.try_to_write(&format!("{scratch}writable")).await?;
        }
        Ok(work)
    }

    /// Repeats a call to the database while it fails in passing and the lease is trusted.
    ///
    /// # Errors
    /// The lease ended, or the first error that does not pass.
    pub(crate) async fn patiently<T, F>(&self, call: impl FnMut() -> F) -> Result<T, ShardError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        Ok(patiently(self.guard, call).await??)
    }

    /// Repeats a request that reads while its place is in trouble; see [`Troubles::patiently`](crate::trouble::Troubles::patiently).
    ///
    /// # Errors
    /// [`Unserved`].
    pub(crate) async fn reading<T, F>(
        &self,
        uri: &S3Uri,
        call: impl FnMut() -> F,
    ) -> Result<T, Unserved>
    where
        F: Future<Output = Result<T, ObjectError>>,
    {
        let done = self.shared.troubles.patiently(self.guard, uri, Doing::Reading, call).await;
        done.map_err(Unserved::Shard)?.map_err(Unserved::Object)
    }

    /// Repeats a request that writes while its place is in trouble; see [`Troubles::patiently`](crate::trouble::Troubles::patiently).
    ///
    /// # Errors
    /// [`Unserved`].
    pub(crate) async fn writing<T, F>(
        &self,
        uri: &S3Uri,
        call: impl FnMut() -> F,
    ) -> Result<T, Unserved>
    where
        F: Future<Output = Result<T, ObjectError>>,
    {
        let done = self.shared.troubles.patiently(self.guard, uri, Doing::Writing, call).await;
        done.map_err(Unserved::Shard)?.map_err(Unserved::Object)
    }

    /// Whether create-only writes of the endpoint can be relied on.
    pub(crate) fn has_conditions(&self) -> bool {
        self.shared.conditions.get().copied().unwrap_or(false)
    }

    /// Finds out, below `scratch` and once per worker, whether they can.
    async fn probe(&self, scratch: &str) -> Result<(), ShardError> {
        if self.shared.conditions.initialized() {
            return Ok(());
        }
        let scratch = self.job.own_uri(scratch);
        // Nobody waits for another's probe: its bucket may be in trouble.
        let found = self.writing(&scratch, || self.shared.objects.probe(&scratch)).await?;
        for note in &found.notes {
            tracing::warn!("object store: {note}");
        }
        let honoured = found.conditional_put == ConditionalPut::Honoured;
        // Another task may have found it meanwhile.
        self.shared.conditions.get_or_init(|| async { honoured }).await;
        Ok(())
    }

    /// Waits until the destination takes an object again.
    async fn try_to_write(&self, name: &str) -> Result<(), ShardError> {
        self.write(name, "text/plain", String::new()).await?;
        let uri = self.job.own_uri(name);
        self.writing(&uri, || self.shared.objects.delete(&uri)).await?;
        Ok(())
    }

    /// Once per worker and round: whose destination this is, what the job is, and no `_SUCCESS` while it is not true.
    async fn touch(&self) -> Result<(), ShardError> {
        let info = &self.job.info;
        let touched = |map: &BTreeMap<i64, i32>| map.get(&info.job) == Some(&info.round);
        if self.shared.touched.lock().is_ok_and(|map| touched(&map)) {
            return Ok(());
        }
        let plan = self.job.plan();
        let owner = self.owner().await?;
        let ours = owner.as_ref() == Some(&plan["owner"]);
        if let (Some(other), false) = (&owner, ours)
            && self.job.refuses()
        {
            let message = format!("{} already holds the results of {}", info.dest, named(other));
            return Err(ShardError::failed("dest_taken", message));
        }
        if owner.is_some() && (!ours || info.round > 1) {
            let success = self.job.own_uri("_SUCCESS");
            self.writing(&success, || self.shared.objects.delete(&success)).await?;
        }
        if !ours {
            self.write("spec.yaml", "application/yaml", info.spec_text.clone()).await?;
            self.write("plan.json", "application/json", format!("{plan:#}\n")).await?;
        }
        if let Ok(mut map) = self.shared.touched.lock() {
            while map.len() >= TOUCHED_MAX {
                map.pop_first();
            }
            map.insert(info.job, info.round);
        }
        Ok(())
    }

    /// The owner that plan.json names.
    async fn owner(&self) -> Result<Option<Value>, ShardError> {
        let uri = self.job.own_uri("plan.json");
        match self.reading(&uri, || self.shared.objects.get(&uri, PLAN_BYTES_MAX, None)).await {
            Ok(got) => {
                let plan: Value = serde_json::from_slice(&got.body).unwrap_or_default();
                // A plan that cannot be read still marks the destination as taken.
                Ok(Some(plan["owner"].clone()))
            }
            Err(Unserved::Object(ObjectError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a small file below `_nightshift/`.
    ///
    /// # Errors
    /// [`ShardError`]: the lease ended, or the destination refuses.
    pub(crate) async fn write(
        &self,
        name: &str,
        content_type: &str,
        text: String,
    ) -> Result<(), ShardError> {
        let (uri, body) = (self.job.own_uri(name), bytes::Bytes::from(text));
        let how =
            Put { create_only: false, content_type: content_type.to_owned(), ..Put::default() };
        self.writing(&uri, || self.shared.objects.put(&uri, body.clone(), &how)).await?;
        Ok(())
    }
}

/// The owner of a plan.json, for messages.
fn named(owner: &Value) -> String {
    match (&owner["job"], owner["name"].as_str()) {
        (Value::Number(job), Some(name)) => format!("job {job} ({name})"),
        _ => "another job".to_owned(),
    }
}
