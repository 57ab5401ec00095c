//! The handle that all calls are made on.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgPoolOptions;

use crate::config::connect_options;
use crate::connections::{Connections, no_answer};
use crate::{DatabaseConfig, Error, Pooler};

/// A handle to the database of one nightshift system. Clones share one connection pool.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: Connections,
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
