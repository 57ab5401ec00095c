//! The cluster of a run.
//!
//! A runner may start every test in a process of its own, so the cluster belongs to a wrapper around the runner and travels by environment
//! variable.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use nightshift_local::{Postgres, PostgresOptions};
use nightshift_store::{DatabaseConfig, LoginKind, Store};

use crate::psql::psql;

/// Member of tenant `default`.
pub const USER: &str = "lab_user";
/// Member of tenants `blue` and `green`, where a database has them: [`crate::Database::add_tenants`].
pub const BOB: &str = "lab_bob";
/// A login for tenants that is no member of any.
pub const NOBODY: &str = "lab_nobody";
/// A worker's login.
pub const WORKER: &str = "lab_worker";
/// Another worker's login.
pub const WORKER2: &str = "lab_worker2";
/// A scheduler's login.
pub const SCHEDULER: &str = "lab_scheduler";
/// The password of all of them.
pub const PASSWORD: &str = "test";

/// Superuser URL of the run's cluster, without a database: `postgres://..@127.0.0.1:PORT`.
pub const CLUSTER_VARIABLE: &str = "NIGHTSHIFT_TEST_CLUSTER";

/// The migrated database that the tests' databases are copied from.
pub(crate) const TEMPLATE: &str = "nightshift_template";

/// A cluster without durability: a killed server loses nothing, a crashed machine does.
pub(crate) fn options() -> PostgresOptions {
    PostgresOptions { fsync: false, max_connections: 200, ..PostgresOptions::default() }
}

/// Starts a cluster, runs the command with [`CLUSTER_VARIABLE`] set, stops the cluster, passes the exit code on.
///
/// # Panics
/// When no cluster can be started or the command cannot be run.
pub fn run_under(command: impl Iterator<Item = OsString>) -> ExitCode {
    let command: Vec<OsString> = command.collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("an async runtime");
    let postgres = runtime
        .block_on(Postgres::start(folder.path(), options()))
        .unwrap_or_else(|error| panic!("no Postgres cluster for the tests: {error}"));
    let url = postgres.url("");
    let url = url.trim_end_matches('/');
    let _made = psql(&format!("{url}/postgres"), &format!("create database {TEMPLATE}"));
    runtime.block_on(prepare(&format!("{url}/{TEMPLATE}")));
    let status = Command::new(&command[0])
        .args(&command[1..])
        .env(CLUSTER_VARIABLE, url)
        .status()
        .expect("the command starts");
    runtime.block_on(postgres.stop()).expect("the cluster stops");
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

/// Migrates a database and makes its logins; tenant `default` may use every bucket.
pub(crate) async fn prepare(url: &str) {
    nightshift_store::migrate(url).await.expect("the database migrates");
    let admin = Store::connect(&DatabaseConfig::new(url)).await.expect("the database answers");
    for (kind, name, tenant) in [
        (LoginKind::Tenant, USER, Some("default")),
        (LoginKind::Tenant, BOB, Some("blue")),
        (LoginKind::Tenant, BOB, Some("green")),
        (LoginKind::Tenant, NOBODY, Some("blue")),
        (LoginKind::Worker, WORKER, None),
        (LoginKind::Worker, WORKER2, None),
        (LoginKind::Scheduler, SCHEDULER, None),
    ] {
        admin.create_login(kind, name, PASSWORD, tenant).await.expect("a login");
    }
    let everywhere = ["s3://".to_owned()];
    admin.set_prefixes("default", &everywhere, &everywhere).await.expect("prefixes");
    admin.close().await;
    // Most tests want one tenant; the logins of others stay.
    let _done = psql(
        url,
        "set search_path = nightshift;
        delete from member where tenant_id in (select id from tenant where name <> 'default');
        delete from share where tenant_id in (select id from tenant where name <> 'default');
        delete from tenant where name <> 'default'",
    );
}
