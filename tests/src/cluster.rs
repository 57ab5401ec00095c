//! One Postgres cluster for a whole test run, one database for each test.
//!
//! The test runner starts every test in a process of its own, so the cluster belongs to a wrapper around the runner
//! ([`run_under`]) and travels by environment variable. A test run by hand, without the wrapper, starts its own.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nightshift_local::{Postgres, PostgresOptions};
use nightshift_store::{DatabaseConfig, LoginKind, Store};

/// Superuser URL of the run's cluster, without a database: `postgres://..@127.0.0.1:PORT`.
pub const CLUSTER_VARIABLE: &str = "NIGHTSHIFT_TEST_CLUSTER";

/// The migrated database that the tests' databases are copied from.
const TEMPLATE: &str = "nightshift_template";
/// Password of the logins `lab_user`, `lab_scheduler` and `lab_worker`, which every database of a test has.
pub(crate) const PASSWORD: &str = "test";

/// A cluster without durability: a killed server loses nothing, a crashed machine does.
fn options() -> PostgresOptions {
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
    make_template(&runtime, url);
    let status = Command::new(&command[0])
        .args(&command[1..])
        .env(CLUSTER_VARIABLE, url)
        .status()
        .expect("the command starts");
    runtime.block_on(postgres.stop()).expect("the cluster stops");
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

fn make_template(runtime: &tokio::runtime::Runtime, cluster: &str) {
    let _made = psql(&format!("{cluster}/postgres"), &format!("create database {TEMPLATE}"));
    runtime.block_on(prepare(&format!("{cluster}/{TEMPLATE}")));
}

/// Migrates a database and gives it a user, a scheduler and a worker; tenant `default` may use every bucket.
async fn prepare(url: &str) {
    nightshift_store::migrate(url).await.expect("the database migrates");
    let admin = Store::connect(&DatabaseConfig::new(url)).await.expect("the database answers");
    for (kind, name, tenant) in [
        (LoginKind::Tenant, "lab_user", Some("default")),
        (LoginKind::Scheduler, "lab_scheduler", None),
        (LoginKind::Worker, "lab_worker", None),
    ] {
        admin.create_login(kind, name, PASSWORD, tenant).await.expect("a login");
    }
    let everywhere = ["s3://".to_owned()];
    admin.set_prefixes("default", &everywhere, &everywhere).await.expect("prefixes");
    admin.close().await;
}

/// A database of a test's own, already migrated, dropped with the value.
#[derive(Debug)]
pub struct Database {
    cluster: String,
    name: String,
    /// Kept while it runs, when this test had to start its own.
    own: Option<Postgres>,
}

impl Database {
    /// On the run's cluster, or on one below `folder` when the test runs by itself.
    ///
    /// # Panics
    /// When Postgres cannot be started or refuses.
    pub async fn create(folder: &Path) -> Self {
        match std::env::var(CLUSTER_VARIABLE) {
            Ok(cluster) => {
                let name = format!("t_{}_{}", std::process::id(), unique());
                let make = format!("create database {name} template {TEMPLATE}");
                let _made = psql(&format!("{cluster}/postgres"), &make);
                Self { cluster, name, own: None }
            }
            Err(_) => Self::on_own_cluster(folder).await,
        }
    }

    /// On a cluster of its own below `folder`: for tests that stop the server.
    ///
    /// # Panics
    /// When Postgres cannot be started.
    pub async fn on_own_cluster(folder: &Path) -> Self {
        let postgres = Postgres::start(&folder.join("postgres"), options())
            .await
            .unwrap_or_else(|error| panic!("no Postgres cluster for this test: {error}"));
        let cluster = postgres.url("").trim_end_matches('/').to_owned();
        let name = "nightshift".to_owned();
        let _made = psql(&format!("{cluster}/postgres"), &format!("create database {name}"));
        let database = Self { cluster, name, own: Some(postgres) };
        prepare(&database.url()).await;
        database
    }

    /// Superuser URL of this database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }

    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Port of the server on 127.0.0.1.
    ///
    /// # Panics
    /// Never: the cluster's URL names a port.
    #[must_use]
    pub fn port(&self) -> u16 {
        let port = self.cluster.rsplit(':').next();
        port.and_then(|port| port.parse().ok()).expect("a URL with a port")
    }

    /// URL of this database for `lab_user`, `lab_scheduler` or `lab_worker`.
    ///
    /// # Panics
    /// Never: the cluster's URL names a host.
    #[must_use]
    pub fn url_as(&self, login: &str) -> String {
        let host = self.cluster.rsplit('@').next().expect("a URL with a host");
        format!("postgres://{login}:{PASSWORD}@{host}/{}", self.name)
    }

    /// Runs SQL as superuser and returns what psql prints, unaligned.
    ///
    /// # Panics
    /// When psql fails.
    #[must_use]
    pub fn sql(&self, sql: &str) -> String {
        psql(&self.url(), sql)
    }

    /// Stops the server of a test's own cluster.
    ///
    /// # Panics
    /// When the cluster is shared or does not stop.
    pub async fn stop(&mut self) {
        let postgres = self.own.take().expect("only a cluster of its own can be stopped");
        postgres.stop().await.expect("the server stops");
    }

    /// Starts it again on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self, folder: &Path) {
        let port = self.cluster.rsplit(':').next().and_then(|port| port.parse().ok());
        let postgres =
            Postgres::start(&folder.join("postgres"), PostgresOptions { port, ..options() })
                .await
                .expect("the server starts again");
        self.own = Some(postgres);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.own.is_none() && std::env::var(CLUSTER_VARIABLE).is_ok() {
            // The run's cluster is thrown away as a whole; dropping early only saves space.
            let drop = format!("drop database if exists {} with (force)", self.name);
            let _done = try_psql(&format!("{}/postgres", self.cluster), &drop);
        }
    }
}

/// A number no other call in this process got.
#[must_use]
pub fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs SQL with the system's own client.
///
/// # Panics
/// When psql cannot be run or the server refuses; the panic carries its words.
#[must_use]
pub fn psql(url: &str, sql: &str) -> String {
    try_psql(url, sql).unwrap_or_else(|error| panic!("psql: {error}\n{sql}"))
}

/// Like [`psql`], with the server's refusal as an error.
///
/// # Errors
/// What psql printed on standard error.
pub fn try_psql(url: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            url,
        ])
        .args(["--command", sql])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
