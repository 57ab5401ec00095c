//! Hints that something changed. Polling with jitter stays the truth: a hint may be lost.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};

use crate::config::connect_options;
use crate::{DatabaseConfig, Error};

/// A hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A job became claimable (`nightshift_work`).
    Work(i64),
    /// A job reached a final state (`nightshift_job`).
    JobEnded(i64),
    /// The connection broke, the next call makes a new one: hints may have been lost, look now.
    Gap,
}

/// A connection of its own that listens on both channels.
#[derive(Debug)]
pub struct Notices {
    listener: PgListener,
}

impl Notices {
    /// Listens. The url must not lead through a pooler in transaction mode. Register first, then query, then wait.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Denied`].
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_millis(config.acquire_timeout_ms))
            .connect_with(connect_options(config)?)
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener
            .listen_all(["nightshift_work", "nightshift_job"])
            .await?;
        Ok(Self { listener })
    }

    /// Waits for the next hint. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the connection cannot be made again.
    pub async fn next(&mut self) -> Result<Notice, Error> {
        loop {
            // `try_recv` says so when the connection broke; the next call makes a new one and listens again.
            let Some(notice) = self.listener.try_recv().await? else {
                return Ok(Notice::Gap);
            };
            let Ok(job) = notice.payload().parse() else {
                continue;
            };
            match notice.channel() {
                "nightshift_work" => return Ok(Notice::Work(job)),
                "nightshift_job" => return Ok(Notice::JobEnded(job)),
                _ => {}
            }
        }
    }
}
