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
    /// A job was submitted while none waited (`nightshift_submitted`).
    Submitted(i64),
    /// The connection broke, the next call makes a new one: hints may have been lost, look now.
    Gap,
}

/// A connection of its own that listens.
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
        Self::listen(config, &["nightshift_work", "nightshift_job"]).await
    }

    /// Like [`Notices::connect`], for what a scheduler waits for: [`Notice::Submitted`].
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Denied`].
    pub async fn connect_for_scheduler(config: &DatabaseConfig) -> Result<Self, Error> {
        Self::listen(config, &["nightshift_submitted"]).await
    }

    async fn listen(config: &DatabaseConfig, channels: &[&str]) -> Result<Self, Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_millis(config.acquire_timeout_ms))
            .connect_with(connect_options(config)?)
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen_all(channels.iter().copied()).await?;
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
                "nightshift_submitted" => return Ok(Notice::Submitted(job)),
                _ => {}
            }
        }
    }
}

/// Wakes a loop early. Never fails: without a configuration, or without a connection, it only never wakes anybody.
#[derive(Debug)]
pub struct Hints {
    config: Option<DatabaseConfig>,
    for_scheduler: bool,
    notices: Option<Notices>,
    /// When a connection may be tried again.
    again: Option<tokio::time::Instant>,
}

impl Hints {
    /// Pause after a connection that could not be made.
    const PAUSE: Duration = Duration::from_secs(5);

    /// For a worker that waits for work. `None`: there is no url around the pooler, so there are no hints.
    #[must_use]
    pub fn for_worker(config: Option<DatabaseConfig>) -> Self {
        Self { config, for_scheduler: false, notices: None, again: None }
    }

    /// For a scheduler that waits for submissions.
    #[must_use]
    pub fn for_scheduler(config: Option<DatabaseConfig>) -> Self {
        Self { for_scheduler: true, ..Self::for_worker(config) }
    }

    /// Returns when it is worth looking; also after a connection was made, since hints were lost before it. Safe to drop.
    pub async fn wait(&mut self) {
        let Some(config) = &self.config else {
            return std::future::pending().await;
        };
        loop {
            if let Some(at) = self.again {
                tokio::time::sleep_until(at).await;
                self.again = None;
            }
            let heard = match &mut self.notices {
                Some(notices) => loop {
                    match notices.next().await {
                        Ok(Notice::JobEnded(_)) => {}
                        other => break other.map(|_| ()),
                    }
                },
                None if self.for_scheduler => Notices::connect_for_scheduler(config)
                    .await
                    .map(|notices| self.notices = Some(notices)),
                None => Notices::connect(config).await.map(|notices| self.notices = Some(notices)),
            };
            match heard {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, "no hints for now; polling goes on");
                    self.notices = None;
                    self.again = Some(tokio::time::Instant::now() + Self::PAUSE);
                }
            }
        }
    }
}
