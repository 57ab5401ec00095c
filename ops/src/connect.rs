//! From the configuration to open connections, and to signals that end a verb.

use anyhow::Context as _;
use nightshift_objects::{ChecksumMode, Objects, StoreConfig};
use nightshift_store::{DatabaseConfig, Pooler, Store};

use crate::config::{Config, Origin};
use crate::exit::{Exit, Failure};

/// How to reach the configured database.
///
/// # Errors
/// [`Exit::Usage`] when no database is configured.
pub fn database(config: &Config, application: &str) -> Result<DatabaseConfig, Failure> {
    let url = config.get("database.url").ok_or_else(|| {
        Failure::new(Exit::Usage, "no database is configured").help(format!(
            "set DATABASE_URL; for a system on this machine run `nightshift up` and then `source {}`",
            config.data_dir().join("env").display()
        ))
    })?;
    let mut database = DatabaseConfig::new(url);
    application.clone_into(&mut database.application_name);
    database.call_timeout_ms = config.number("database.timeout_ms");
    if config.get("database.pooler") == Some("transaction") {
        database.pooler = Pooler::Transaction;
    }
    Ok(database)
}

/// How to reach the database as its owner, where that is another way: `database.owner_url`, unless a URL was typed.
fn owner(config: &Config, application: &str) -> Option<DatabaseConfig> {
    if matches!(config.origin("database.url"), Origin::Flag(_)) {
        return None;
    }
    let mut database = DatabaseConfig::new(config.get("database.owner_url")?);
    application.clone_into(&mut database.application_name);
    database.call_timeout_ms = config.number("database.timeout_ms");
    Some(database)
}

/// How to listen for hints: on a direct connection. None when there is only the way through a pooler.
#[must_use]
pub fn listening(config: &Config, application: &str) -> Option<DatabaseConfig> {
    let database = database(config, application).ok()?;
    around_pooler(config, database)
}

/// How to reach the database as its owner with what a pooler in transaction mode cannot pass on.
///
/// # Errors
/// [`Exit::Usage`] when no database is configured, or only such a pooler.
pub fn migrating(config: &Config, application: &str) -> Result<DatabaseConfig, Failure> {
    if let Some(database) = owner(config, application) {
        return Ok(database);
    }
    let database = database(config, application)?;
    around_pooler(config, database).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("{application} cannot work through a pooler in transaction mode"),
        )
        .help("set database.direct_url to the server itself")
    })
}

fn around_pooler(config: &Config, mut database: DatabaseConfig) -> Option<DatabaseConfig> {
    if database.pooler == Pooler::Transaction {
        config.get("database.direct_url")?.clone_into(&mut database.url);
        database.pooler = Pooler::None;
    }
    Some(database)
}

/// A connection to the configured database, whose version fits this program.
///
/// # Errors
/// No database is configured, it cannot be reached, or it is too old or too new.
pub async fn store(config: &Config, application: &str) -> anyhow::Result<Store> {
    connect(&database(config, application)?).await
}

/// As [`store`], as the owner of the database.
///
/// # Errors
/// Those of [`store`].
pub async fn owner_store(config: &Config, application: &str) -> anyhow::Result<Store> {
    match owner(config, application) {
        Some(database) => connect(&database).await,
        None => store(config, application).await,
    }
}

async fn connect(database: &DatabaseConfig) -> anyhow::Result<Store> {
    let store = Store::connect(database).await.context("cannot connect to the database")?;
    store.check_versions().await?;
    Ok(store)
}

/// How to reach the configured object store; credentials come from the environment or the shared file.
#[must_use]
pub fn storage(config: &Config) -> StoreConfig {
    let mut storage = StoreConfig::from_env();
    if let Some(endpoint) = config.get("storage.endpoint") {
        storage.endpoint = Some(endpoint.to_owned());
    }
    if let Some(region) = config.get("storage.region") {
        storage.region = Some(region.to_owned());
    }
    storage.force_path_style = match config.get("storage.path_style") {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => storage.force_path_style,
    };
    storage.checksum_mode = match config.get("storage.checksum_mode") {
        Some("when_supported") => ChecksumMode::WhenSupported,
        Some("when_required") => ChecksumMode::WhenRequired,
        _ => storage.checksum_mode,
    };
    storage
}

/// A client of the configured object store.
///
/// # Errors
/// No credentials, or a configuration the client refuses.
pub async fn objects(config: &Config) -> anyhow::Result<Objects> {
    Objects::connect(storage(config)).await.context("cannot set up the object store's client")
}

/// Waits for SIGINT or SIGTERM.
///
/// # Panics
/// When the process cannot listen for signals at all.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("a process may listen for SIGTERM");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
