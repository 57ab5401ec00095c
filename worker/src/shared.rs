//! What everybody inside a worker may use.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;

use nightshift_objects::{Error as ObjectError, Objects, S3Uri};
use nightshift_store::Store;
use tokio::sync::OnceCell;

use crate::config::Config;
use crate::failure::ShardError;
use crate::generate::Offer;
use crate::lease::Guard;
use crate::trouble::{Doing, Troubles};

/// Handles and settings of one worker.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) objects: Objects,
    /// By `"name/weights/kv_cache"`.
    pub(crate) models: BTreeMap<String, Offer>,
    /// Whether the endpoint honours `If-None-Match: *`; found out once.
    pub(crate) conditions: OnceCell<bool>,
    /// Job to the last round whose destination this worker has prepared.
    pub(crate) touched: Mutex<BTreeMap<i64, i32>>,
    /// What refuses at the moment.
    pub(crate) troubles: Troubles,
}

impl Shared {
    /// Repeats a request that reads while its place is in trouble; see [`Troubles::patiently`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn reading<T, F>(
        &self,
        guard: &Guard,
        uri: &S3Uri,
        call: impl FnMut() -> F,
    ) -> Result<Result<T, ObjectError>, ShardError>
    where
        F: Future<Output = Result<T, ObjectError>>,
    {
        self.troubles.patiently(guard, uri, Doing::Reading, call).await
    }

    /// Repeats a request that writes while its place is in trouble; see [`Troubles::patiently`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn writing<T, F>(
        &self,
        guard: &Guard,
        uri: &S3Uri,
        call: impl FnMut() -> F,
    ) -> Result<Result<T, ObjectError>, ShardError>
    where
        F: Future<Output = Result<T, ObjectError>>,
    {
        self.troubles.patiently(guard, uri, Doing::Writing, call).await
    }
}
