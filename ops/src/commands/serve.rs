//! `scheduler`, `worker` and `migrate`: the parts of a system that is not local.

use anyhow::Context as _;
use nightshift_scheduler::Scheduler;
use nightshift_worker::Shutdown;

use crate::config::scheduler::scheduler_config;
use crate::config::worker::{load, worker_config};
use crate::context::Context;
use crate::exit::Exit;
use crate::{connect, logging};

/// Runs a scheduler until it is told to stop.
///
/// # Errors
/// The database cannot be reached at the start, refuses the login, or is of another version.
pub async fn scheduler(context: Context) -> anyhow::Result<Exit> {
    logging::init(&context, None)?;
    let store = connect::store(&context.config, "nightshift scheduler").await?;
    let objects = connect::objects(&context.config).await?;
    let mut config = scheduler_config(&context.config);
    config.listen = connect::listening(&context.config, "nightshift scheduler (hints)");
    let mut scheduler = Scheduler::new(store.clone(), objects, config);
    if let Some(address) = context.config.get("scheduler.metrics") {
        let at = scheduler
            .listen_for_metrics(address)
            .await
            .with_context(|| format!("scheduler.metrics: cannot listen at {address}"))?;
        context.ui.note(&format!("scheduler: metrics at http://{at}/metrics"));
    }
    context.ui.note("scheduler: running");
    scheduler.run(connect::interrupted()).await?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Runs a worker: the first signal drains, the second releases at once.
///
/// # Errors
/// No model can be loaded; the database cannot be reached at the start or refuses the worker; the engine died.
pub async fn worker(context: Context) -> anyhow::Result<Exit> {
    logging::init(&context, None)?;
    let mut config = worker_config(&context.config)?;
    config.listen = connect::listening(&context.config, "nightshift worker (hints)");
    let store = connect::store(&context.config, "nightshift worker").await?;
    let objects = connect::objects(&context.config).await?;
    let models = load(config.clone()).await?;
    context.ui.note(&format!("worker {}: running", config.name));
    nightshift_worker::run(config, store.clone(), objects, Box::new(models), on_signals()).await?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Obeys SIGINT and SIGTERM.
fn on_signals() -> Shutdown {
    let (handle, shutdown) = nightshift_worker::shutdown();
    tokio::spawn(async move {
        loop {
            connect::interrupted().await;
            handle.signal();
        }
    });
    shutdown
}

/// Creates or upgrades the schema.
///
/// # Errors
/// No database is configured, it cannot be reached, the login may not, or the database is newer than this program.
pub async fn migrate(context: Context) -> anyhow::Result<Exit> {
    let database = connect::migrating(&context.config, "nightshift migrate")?;
    nightshift_store::migrate(&database.url).await.context("cannot migrate the database")?;
    context.ui.note("the schema is up to date");
    Ok(Exit::Ok)
}
