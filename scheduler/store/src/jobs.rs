//! What users do to jobs. Reading them is in `views`.

use crate::{Error, Store};

/// A spec to submit.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// The YAML (or JSON) text.
    pub spec: String,
    /// The tenant's name; `None` is the login's only one.
    pub tenant: Option<String>,
    /// A second submission with this key and the same spec returns the first one's job.
    pub idempotency_key: Option<String>,
    /// Plan it, but let nobody claim it until [`Store::unhold`].
    pub hold: bool,
}

/// Which failed items to run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// All failed items.
    Failed,
    /// Those with this error code.
    Code(String),
    /// This one.
    Item(i64),
}

impl std::fmt::Display for Only {
    /// The words of `nightshift.retry(job, only)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed => f.write_str("failed"),
            Self::Code(code) => write!(f, "code:{code}"),
            Self::Item(index) => write!(f, "{index}"),
        }
    }
}

impl Store {
    /// Stores a spec as a job in state `submitted` and returns its id. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Refused`] with hint: no tenant or several, not a member, key used with another spec, empty or over 1 MiB.
    pub async fn submit(&self, submission: &Submission) -> Result<i64, Error> {
        let id = sqlx::query_scalar!(
            r#"/* submit */ select nightshift.submit($1::text, $2, $3, $4) as "id!""#,
            submission.spec,
            submission.tenant,
            submission.idempotency_key,
            submission.hold,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(id)
    }

    /// Stops a job: waiting shards end now, leased ones hear it at their next progress call. `false` when it had
    /// already ended. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn cancel(&self, job: i64) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(r#"/* cancel */ select nightshift.cancel($1) as "done!""#, job)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Lets nobody claim from it and asks running shards to give back. `false` when not `ready`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn pause(&self, job: i64) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(r#"/* pause */ select nightshift.pause($1) as "done!""#, job)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Undoes [`Store::pause`]. `false` when not `paused`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn resume(&self, job: i64) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(r#"/* resume */ select nightshift.resume($1) as "done!""#, job)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Lets nobody claim from it; running shards go on. `false` when already held. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn hold(&self, job: i64) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(r#"/* hold */ select nightshift.hold($1) as "done!""#, job)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Undoes [`Store::hold`] (SQL: `nightshift.release(job)`). `false` when not held. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn unhold(&self, job: i64) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(r#"/* release */ select nightshift.release($1) as "done!""#, job)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Runs failed items of an ended job again (and what a cancelled or failed job never ran); the job becomes
    /// `ready` with `round + 1`. Returns how many failed items were taken back. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] when the job has not ended, has nothing to retry, or its destination
    /// belongs to another job by now.
    pub async fn retry(&self, job: i64, only: &Only) -> Result<i64, Error> {
        Ok(sqlx::query_scalar!(
            r#"/* retry */ select nightshift.retry($1, $2) as "n!""#,
            job,
            only.to_string()
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
