//! How to reach the database, and the pool that does.

use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::connections::{Connections, no_answer};
use crate::{Error, Store};

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooler {
    /// A direct connection, or a pooler in session mode: prepared statements are cached.
    #[default]
    None,
    /// A pooler in transaction mode (PgBouncer): each call is one short explicit transaction, no statement is kept between
    /// calls, and [`crate::Notices`] and [`crate::migrate`] need a url that goes around the pooler.
    Transaction,
}

/// Where the database is and how many connections to open.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// `postgres://login:password@host:port/database`.
    pub url: String,
    /// What stands in between.
    pub pooler: Pooler,
    /// Upper bound of open connections of this process, at least 1.
    pub max_connections: u32,
    /// How long a call waits for a free connection, and for a new one, before it is [`Error::Unreachable`].
    pub acquire_timeout_ms: u64,
    /// How long a call waits for its answer before it is [`Error::Unreachable`] and its connection is cut.
    pub call_timeout_ms: u64,
    /// Shown in `pg_stat_activity`, for example `nightshift worker`.
    pub application_name: String,
}

impl DatabaseConfig {
    /// Direct, at most 4 connections, 5 s to get one and 15 s for an answer.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pooler: Pooler::None,
            max_connections: 4,
            acquire_timeout_ms: 5_000,
            call_timeout_ms: 15_000,
            application_name: "nightshift".to_owned(),
        }
    }
}

impl std::fmt::Debug for DatabaseConfig {
    /// Without the url: it carries a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("pooler", &self.pooler)
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout_ms", &self.acquire_timeout_ms)
            .field("call_timeout_ms", &self.call_timeout_ms)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a pool and makes one connection, to fail early. Does not look at versions: see [`Store::check_versions`].
    ///
    /// # Errors
    /// [`Error::BadConfig`] when the url cannot be read, [`Error::Unreachable`] when nobody answers in time,
    /// [`Error::Denied`] when the login or password is refused.
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, Error> {
        let store = Self::connect_lazy(config)?;
        store.pool.reach().await?;
        Ok(store)
    }

    /// Like [`Store::connect`], but connects at the first call.
    ///
    /// # Errors
    /// [`Error::BadConfig`] when the url cannot be read.
    pub fn connect_lazy(config: &DatabaseConfig) -> Result<Self, Error> {
        let deadline = Duration::from_millis(config.call_timeout_ms);
        let mut options = connect_options(config)?;
        if config.pooler == Pooler::None {
            // The server gives up what nobody waits for any more, with the locks that it holds.
            options = options.options([("statement_timeout", config.call_timeout_ms)]);
        }
        let pool = pool_options(config).connect_lazy_with(options);
        Ok(Self { pool: Connections::new(pool, config.pooler, deadline) })
    }

    /// Closes every connection; calls in flight end first.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// How long a connection is believed to live after its last answer.
const TRUSTED: Duration = Duration::from_secs(1);
/// How long a connection may take to say that it lives. All those of a pool may be dead at once, so this is short.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

fn pool_options(config: &DatabaseConfig) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(config.max_connections.max(1))
        .acquire_timeout(Duration::from_millis(config.acquire_timeout_ms))
        // A connection that answered a moment ago is not asked again whether it lives: that is a round trip for each call.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED {
                    let alive = tokio::time::timeout(SIGN_OF_LIFE, connection.ping()).await;
                    alive.map_err(|_| no_answer(SIGN_OF_LIFE))??;
                }
                Ok(true)
            })
        })
}

pub(crate) fn connect_options(config: &DatabaseConfig) -> Result<PgConnectOptions, Error> {
    let scheme = config.url.split_once(':').map_or("", |(scheme, _)| scheme);
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(Error::BadConfig {
            message: "the url does not begin with postgres://".to_owned(),
        });
    }
    let options = PgConnectOptions::from_str(&config.url)
        .map_err(|source| Error::BadConfig { message: source.to_string() })?
        .application_name(&config.application_name);
    Ok(match config.pooler {
        // Costs that a switched-off plan node carries look enormous to the planner, which would compile every call for 100 ms.
        Pooler::None => options.options([("jit", "off")]),
        // PgBouncer refuses start-up parameters that it does not know; ours reads no floats as text.
        Pooler::Transaction => options.statement_cache_capacity(0).extra_float_digits(None),
    })
}
