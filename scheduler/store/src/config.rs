//! How to reach the database.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::Error;

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
