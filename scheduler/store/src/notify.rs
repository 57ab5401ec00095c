//! Hints that something changed. Polling with jitter stays the truth: a hint may be lost.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::connect_options;
use crate::connections::no_answer;
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

    /// Asks the server whether it is there. Its answer says nothing else.
    async fn ask(&mut self) -> Result<(), Error> {
        (&mut self.listener).execute("/* are you there */ select").await?;
        Ok(())
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
    heard: Arc<Notify>,
    /// Listens, and ends with its owner.
    _listening: JoinSet<()>,
}

impl Hints {
    /// For a worker that waits for work. `None`: there is no url around the pooler, so there are no hints.
    #[must_use]
    pub fn for_worker(config: Option<DatabaseConfig>) -> Self {
        Self::on("nightshift_work", config)
    }

    /// For a scheduler that waits for submissions.
    #[must_use]
    pub fn for_scheduler(config: Option<DatabaseConfig>) -> Self {
        Self::on("nightshift_submitted", config)
    }

    fn on(channel: &'static str, config: Option<DatabaseConfig>) -> Self {
        let heard = Arc::new(Notify::new());
        let mut listening = JoinSet::new();
        if let Some(config) = config {
            listening.spawn(listen(config, channel, Arc::clone(&heard)));
        }
        Self { heard, _listening: listening }
    }

    /// Returns when it is worth looking; also after a connection was made, since hints were lost before it. Safe to drop.
    pub async fn wait(&mut self) {
        self.heard.notified().await;
    }
}

/// Pause after a connection that could not be made or broke.
const PAUSE: Duration = Duration::from_secs(5);
/// After so long without a hint the server is asked whether it is still there: a silent connection looks like one without news.
const QUIET: Duration = Duration::from_secs(20);
/// How long it may take to answer.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

async fn listen(config: DatabaseConfig, channel: &'static str, heard: Arc<Notify>) {
    loop {
        let Err(error) = hear(&config, channel, &heard).await;
        tracing::debug!(%error, "no hints for now; polling goes on");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn hear(config: &DatabaseConfig, channel: &str, heard: &Notify) -> Result<Infallible, Error> {
    let connecting = Duration::from_millis(config.acquire_timeout_ms);
    let mut notices = timeout(connecting, Notices::listen(config, &[channel]))
        .await
        .map_err(|_| no_answer(connecting))??;
    loop {
        heard.notify_one();
        loop {
            match timeout(QUIET, notices.next()).await {
                Ok(notice) => {
                    notice?;
                    break;
                }
                Err(_quiet) => timeout(SIGN_OF_LIFE, notices.ask())
                    .await
                    .map_err(|_| no_answer(SIGN_OF_LIFE))??,
            }
        }
    }
}
