//! Hints that something changed. Polling with jitter stays the truth: a hint may be lost.

use crate::{DatabaseConfig, Error};

/// A hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A job became claimable (`nightshift_work`).
    Work(i64),
    /// A job reached a final state (`nightshift_job`).
    JobEnded(i64),
    /// The connection broke and was made again: hints may have been lost, look now.
    Gap,
}

/// A connection of its own that listens on both channels.
#[derive(Debug)]
pub struct Notices {
    listener: sqlx::postgres::PgListener,
}

impl Notices {
    /// Listens. The url must not lead through a pooler in transaction mode. Register first, then query, then wait.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Denied`].
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, Error> {
        let _ = config;
        todo!()
    }

    /// Waits for the next hint. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the connection cannot be made again.
    pub async fn next(&mut self) -> Result<Notice, Error> {
        let _ = &self.listener;
        todo!()
    }
}
