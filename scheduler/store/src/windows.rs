//! Windows of jobs: the database says whose has passed and what time it is, the scheduler says when the next one is.

use serde::Serialize;

use crate::{Error, LeaderTerm, Store};

/// A job whose window has passed, or was never computed.
#[derive(Debug, Clone)]
pub struct WindowDue {
    /// The job.
    pub job: i64,
    /// [`Policy::time_window`](crate::Policy::time_window) as it was planned.
    pub time_window: serde_json::Value,
    /// The database's clock.
    pub now_unix_ms: i64,
    /// Before this nothing starts.
    pub not_before_unix_ms: Option<i64>,
    /// Leases of the window that has passed are still to be given back: a later end would keep them.
    pub busy: bool,
}

/// The current or next window of a job. Without times: no window opens within a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NextWindow {
    /// The job.
    pub job: i64,
    /// Its first moment.
    pub opens_unix_ms: Option<i64>,
    /// The first moment after it.
    pub closes_unix_ms: Option<i64>,
}

impl Store {
    /// Jobs that need a window, at most 1,000. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn windows_due(&self, term: &LeaderTerm) -> Result<Vec<WindowDue>, Error> {
        Ok(sqlx::query_as!(
            WindowDue,
            r#"/* windows_due */ select job_id as "job!", time_window as "time_window!", now_unix_ms as "now_unix_ms!", not_before_unix_ms, busy as "busy!"
            from nightshift.windows_due($1)"#,
            term.term,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Stores windows. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn open_windows(
        &self,
        term: &LeaderTerm,
        windows: &[NextWindow],
    ) -> Result<(), Error> {
        let windows =
            serde_json::to_value(windows).map_err(|e| Error::inconsistent("windows", e))?;
        sqlx::query!(
            "/* open_windows */ select nightshift.open_windows($1, $2)",
            term.term,
            windows,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(())
    }
}
