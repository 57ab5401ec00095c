//! Handles and settings that all parts of a worker share.

use std::collections::BTreeMap;
use std::sync::Mutex;

use nightshift_objects::Objects;
use nightshift_store::Store;
use tokio::sync::OnceCell;

use crate::config::Config;
use crate::generate::Offer;
use crate::trouble::Troubles;

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
