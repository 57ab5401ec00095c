//! Why an item was not made, and why a shard cannot go on.

use nightshift_jobs::{Item, ItemError};
use nightshift_objects::Error as ObjectError;
use nightshift_store::{ItemReport, ItemStatus, signed};

use crate::lease::Ended;

/// One item fails; its neighbours go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Stable word for tables and `retry --error-code`.
    pub(crate) code: String,
    /// One sentence for people.
    pub(crate) message: String,
    /// Whether the input is to blame: then `on_bad_input` decides.
    pub(crate) bad_input: bool,
}

impl Failure {
    /// The input is to blame.
    pub(crate) fn bad_input(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), bad_input: true }
    }

    /// Something else is.
    pub(crate) fn own(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), bad_input: false }
    }

    /// The row of an item that failed or was skipped.
    pub(crate) fn report(&self, index: u64, item: Option<&Item>, status: ItemStatus) -> ItemReport {
        ItemReport {
            index: signed(index),
            status,
            item_id: item.map(|item| item.item_id.clone()),
            seed: item.map(|item| signed(item.seed)),
            fingerprint: None,
            error_code: Some(self.code.clone()),
            error_message: Some(self.message.clone()),
            artifacts: Vec::new(),
            gpu_ms: None,
            tokens: None,
            steps: None,
            info: None,
        }
    }
}

impl From<&ItemError> for Failure {
    fn from(error: &ItemError) -> Self {
        Self::own(error.code(), error.to_string())
    }
}

/// The whole shard cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    /// The lease is over: drop everything, say nothing.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The object store does not know this worker, whatever the job: it must not work.
    #[error("{0}")]
    Unauthenticated(String),
    /// The object store refuses the whole place for longer than a lease may wait for it: the lease is given back.
    #[error("{0}")]
    Trouble(String),
    /// This machine is in trouble (no process, no disk): the lease is given back, and this worker asks for work more slowly.
    #[error("{0}")]
    Machine(String),
    /// The attempt failed; the next one may do better, until the job's attempts are spent.
    #[error("{message}")]
    Failed {
        /// Stable word.
        code: &'static str,
        /// One sentence for people.
        message: String,
    },
}

impl ShardError {
    pub(crate) fn failed(code: &'static str, message: impl std::fmt::Display) -> Self {
        Self::Failed { code, message: message.to_string() }
    }
}

impl From<nightshift_store::Error> for ShardError {
    fn from(error: nightshift_store::Error) -> Self {
        use nightshift_store::Error as E;
        match error {
            E::LeaseLost | E::UnknownWorker => Self::Ended(Ended),
            other => Self::failed("database", other),
        }
    }
}

impl From<ObjectError> for ShardError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Unauthenticated { .. } => Self::Unauthenticated(error.to_string()),
            error if error.is_of_the_place() => Self::Trouble(error.to_string()),
            error => Self::failed("storage", error),
        }
    }
}

impl From<std::io::Error> for ShardError {
    fn from(error: std::io::Error) -> Self {
        Self::Machine(format!("the folder for spooled files does not take them: {error}"))
    }
}

/// Why work on an item ends without a result.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The item fails; its neighbours go on.
    Item(Failure),
    /// The whole shard cannot go on.
    Shard(ShardError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Item(failure)
    }
}

impl<E: Into<ShardError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Shard(error.into())
    }
}

/// Why a request to the object store has no result.
#[derive(Debug)]
pub(crate) enum Unserved {
    /// It concerns the whole shard: the lease ended, or its place is in trouble.
    Shard(ShardError),
    /// It concerns this object, or the worker's credentials.
    Object(ObjectError),
}

impl From<Unserved> for ShardError {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::Shard(error) => error,
            Unserved::Object(error) => error.into(),
        }
    }
}
