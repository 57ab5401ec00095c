//! Workers: who they are and what they can run.

use std::collections::BTreeMap;

use crate::{Error, PROTOCOL, SCHEMA, Store};

/// Names one registration of a worker process; a restarted process gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub i64);

/// What a worker says about itself when it starts.
#[derive(Debug, Clone)]
pub struct Registration {
    /// A name for people, for example the host name and a number.
    pub name: String,
    /// `"<model name>/<weights>/<kv_cache>"` (the `model_key` of [`crate::Plan`]) to the engine's fingerprint.
    pub models: BTreeMap<String, String>,
    /// Anything worth showing: version, host, slots, threads, device. JSON object.
    pub info: serde_json::Value,
}

impl Store {
    /// Announces a worker and compares versions. Role: worker.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] in words that say which side is too old and what to run.
    pub async fn register(&self, registration: &Registration) -> Result<WorkerId, Error> {
        let models = serde_json::to_value(&registration.models)
            .map_err(|e| Error::inconsistent("register.models", e))?;
        let id = sqlx::query_scalar!(
            r#"/* register */ select nightshift.register($1, $2, $3, $4, $5) as "id!""#,
            PROTOCOL,
            SCHEMA,
            registration.name,
            models,
            registration.info,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(WorkerId(id))
    }

    /// Says that a worker ends, so that nobody counts on it any more. `false`: this login registered no such worker. Role: worker.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: then it counts as gone a minute after it was last heard.
    pub async fn leave(&self, worker: WorkerId) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(r#"/* leave */ select nightshift.leave($1) as "left!""#, worker.0)
            .fetch_one(&self.pool)
            .await?)
    }
}
