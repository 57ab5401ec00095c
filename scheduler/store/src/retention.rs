//! What keeps the database small: partitions of events, and the removal of jobs that ended long ago.

use std::time::Duration;

use serde::Serialize;

use crate::{Error, LeaderTerm, Store};

/// What [`Store::prune`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Jobs, whole.
    pub jobs: i64,
    /// Rows of their items.
    pub items: i64,
    /// Rows of their attempts.
    pub attempts: i64,
    /// Rows of their logs.
    pub logs: i64,
    /// Rows of their shards.
    pub shards: i64,
    /// Rows of their input snapshots.
    pub chunks: i64,
    /// Registrations of processes that are gone.
    pub workers: i64,
    /// Weeks of events.
    pub event_partitions: i64,
    /// There is more to remove: call again.
    #[serde(skip)]
    pub more: bool,
}

impl std::ops::AddAssign for Pruned {
    /// Adds the counts; `more` is that of the later call.
    fn add_assign(&mut self, later: Self) {
        self.jobs += later.jobs;
        self.items += later.items;
        self.attempts += later.attempts;
        self.logs += later.logs;
        self.shards += later.shards;
        self.chunks += later.chunks;
        self.workers += later.workers;
        self.event_partitions += later.event_partitions;
        self.more = later.more;
    }
}

impl Store {
    /// Removes about `max_rows` rows of jobs that ended longer ago than `older_than`, in one transaction; when none is left, also
    /// workers not seen since and whole weeks of events. Role: administrator.
    ///
    /// # Errors
    /// [`Error::Refused`] unless `older_than` is an hour or more and `max_rows` is 1 to 1,000,000.
    pub async fn prune(&self, older_than: Duration, max_rows: i32) -> Result<Pruned, Error> {
        Ok(sqlx::query_as!(
            Pruned,
            r#"/* prune */ select jobs as "jobs!", items as "items!", attempts as "attempts!", logs as "logs!", shards as "shards!",
                chunks as "chunks!", workers as "workers!", event_partitions as "event_partitions!", more as "more!"
            from nightshift.prune($1::double precision * interval '1 second', $2)"#,
            older_than.as_secs_f64(),
            max_rows,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Sees that events of this week and the next have a partition; returns how many were made. Once an hour will do. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`]; [`Error::Locked`] when a reader is in the way: try again later.
    pub async fn keep_events(&self, term: &LeaderTerm) -> Result<i32, Error> {
        Ok(sqlx::query_scalar!(
            r#"/* keep_events */ select nightshift.keep_events($1) as "made!""#,
            term.term
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
