//! A database of a test's own.

use std::sync::atomic::{AtomicU64, Ordering};

use nightshift_local::{Postgres, PostgresOptions};
use nightshift_store::{DatabaseConfig, Store};
use tempfile::TempDir;

use crate::cluster::{BOB, CLUSTER_VARIABLE, PASSWORD, TEMPLATE, options, prepare};
use crate::psql::{Session, psql, try_psql};

/// A migrated database with the logins of [`crate::USER`] and the others, dropped with the value.
#[derive(Debug)]
pub struct Database {
    cluster: String,
    name: String,
    /// The cluster of a test that does not share the run's, and where it lies.
    own: Option<(Option<Postgres>, TempDir)>,
}

impl Database {
    /// On the run's cluster, or on one of its own when the test runs by itself.
    ///
    /// # Panics
    /// When Postgres cannot be started or refuses.
    pub async fn fresh() -> Self {
        let Ok(cluster) = std::env::var(CLUSTER_VARIABLE) else {
            return Self::on_own_cluster().await;
        };
        // Tests run in processes and in threads of one process.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("t_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // A process id comes back some day, and a killed test drops nothing.
        let _dropped =
            psql(&format!("{cluster}/postgres"), &format!("drop database if exists {name}"));
        let make = format!("create database {name} template {TEMPLATE}");
        let _made = psql(&format!("{cluster}/postgres"), &make);
        Self { cluster, name, own: None }
    }

    /// On a cluster of its own: for tests that stop the server.
    ///
    /// # Panics
    /// When Postgres cannot be started.
    pub async fn on_own_cluster() -> Self {
        Self::on_cluster_with(options()).await
    }

    /// On a cluster of its own with other options than those of tests.
    ///
    /// # Panics
    /// When Postgres cannot be started.
    pub async fn on_cluster_with(options: PostgresOptions) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let postgres = Postgres::start(&folder.path().join("postgres"), options)
            .await
            .unwrap_or_else(|error| panic!("no Postgres cluster for this test: {error}"));
        let cluster = postgres.url("").trim_end_matches('/').to_owned();
        let name = "nightshift".to_owned();
        let _made = psql(&format!("{cluster}/postgres"), &format!("create database {name}"));
        let database = Self { cluster, name, own: Some((Some(postgres), folder)) };
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

    /// Process id of the server of a cluster of its own.
    #[must_use]
    pub fn server_pid(&self) -> Option<u32> {
        self.own.as_ref()?.0.as_ref().map(Postgres::pid)
    }

    /// URL of this database for one of its logins.
    ///
    /// # Panics
    /// Never: the cluster's URL names a host.
    #[must_use]
    pub fn url_as(&self, login: &str) -> String {
        let host = self.cluster.rsplit('@').next().expect("a URL with a host");
        format!("postgres://{login}:{PASSWORD}@{host}/{}", self.name)
    }

    /// A connection of one of its logins.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn store(&self, login: &str) -> Store {
        connect(&self.url_as(login)).await
    }

    /// A connection of the superuser, who passes row-level security by.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn admin(&self) -> Store {
        connect(&self.url()).await
    }

    /// Makes the tenants `blue` and `green`, which may use every bucket and whose member is [`BOB`].
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn add_tenants(&self) {
        let (admin, everywhere) = (self.admin().await, ["s3://".to_owned()]);
        for tenant in ["blue", "green"] {
            admin.set_prefixes(tenant, &everywhere, &everywhere).await.expect("a tenant");
            admin.add_member(BOB, tenant).await.expect("a member");
        }
        admin.close().await;
    }

    /// Runs SQL as superuser and returns what psql prints, unaligned.
    ///
    /// # Panics
    /// When psql fails.
    pub fn sql(&self, sql: &str) -> String {
        psql(&self.url(), sql)
    }

    /// A superuser's psql that stays open.
    ///
    /// # Panics
    /// When psql cannot be run.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::open(&self.url())
    }

    /// Replaces the database's clock by table `lab.clock`, one row: `at`, where it stands (null: it runs), and `shift`, which is added.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn take_clock(&self) {
        let _done = self.sql(
            "create schema lab;
            grant usage on schema lab to nightshift_owner;
            create table lab.clock (at timestamptz, shift interval not null);
            insert into lab.clock values (null, '0');
            grant select on lab.clock to nightshift_owner;
            create or replace function nightshift.clock() returns timestamptz language plpgsql stable
                as $$ begin return (select coalesce(at, pg_catalog.clock_timestamp()) + shift from lab.clock); end $$",
        );
    }

    /// Stops the server of a test's own cluster.
    ///
    /// # Panics
    /// When the cluster is shared, or does not stop.
    pub async fn stop(&mut self) {
        let (postgres, _) = self.own.as_mut().expect("only a cluster of its own can be stopped");
        postgres.take().expect("the server runs").stop().await.expect("the server stops");
    }

    /// Starts it again on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self) {
        let port = Some(self.port());
        let (postgres, folder) = self.own.as_mut().expect("a cluster of its own");
        let options = PostgresOptions { port, ..options() };
        let started = Postgres::start(&folder.path().join("postgres"), options).await;
        *postgres = Some(started.expect("the server starts again"));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.own.is_none() {
            // The run's cluster is thrown away as a whole; dropping early only saves space.
            let drop = format!("drop database if exists {} with (force)", self.name);
            let _done = try_psql(&format!("{}/postgres", self.cluster), &drop);
        }
    }
}

async fn connect(url: &str) -> Store {
    Store::connect(&DatabaseConfig::new(url)).await.expect("the database answers")
}
