//! A database whose clock stands where a test puts it, and the looks of schedulers, so that days pass in seconds.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nightshift_local::{Postgres, PostgresOptions};
use nightshift_objects::{Objects, StoreConfig};
use nightshift_store::{DatabaseConfig, LoginKind, Store};
use tokio::sync::watch;

use crate::plan::plan_job;
use crate::schedules::advance_schedules;
use crate::windows::refresh_windows;

const PASSWORD: &str = "test";

/// A database whose clock stands where the test puts it.
pub(crate) struct Lab {
    _folder: tempfile::TempDir,
    url: String,
    pub(crate) user: Store,
    scheduler: Store,
    pub(crate) worker: Store,
    objects: Objects,
    psql: Child,
    answers: BufReader<std::process::ChildStdout>,
    _own: Option<Postgres>,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cluster, own) = match std::env::var("NIGHTSHIFT_TEST_CLUSTER") {
            Ok(url) => (url, None),
            Err(_) => {
                let options = PostgresOptions { fsync: false, ..PostgresOptions::default() };
                let postgres =
                    Postgres::start(&folder.path().join("postgres"), options).await.unwrap();
                let url = postgres.url("").trim_end_matches('/').to_owned();
                (url, Some(postgres))
            }
        };
        // Logins belong to the whole cluster, which other tests share.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = format!("night_{}_{number}", std::process::id());
        let made = Command::new("psql")
            .args(["-Xqc", &format!("create database {database}")])
            .arg(format!("{cluster}/postgres"))
            .status()
            .unwrap();
        assert!(made.success(), "no database");
        let url = format!("{cluster}/{database}");
        nightshift_store::migrate(&url).await.unwrap();
        let admin = Store::connect(&DatabaseConfig::new(&url)).await.unwrap();
        let everything = ["s3://".to_owned()];
        admin.set_prefixes("default", &everything, &everything).await.unwrap();
        for (kind, name, tenant) in [
            (LoginKind::Tenant, "user", Some("default")),
            (LoginKind::Scheduler, "scheduler", None),
            (LoginKind::Worker, "worker", None),
        ] {
            admin
                .create_login(kind, &format!("{database}_{name}"), PASSWORD, tenant)
                .await
                .unwrap();
        }
        let mut psql = Command::new("psql")
            .args(["-Xqt", "-v", "ON_ERROR_STOP=1", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Nothing is read from it: inputs stand in the specs, and what does not answer says nothing of a destination.
        let objects = Objects::connect(StoreConfig {
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            access_key_id: Some("none".to_owned()),
            secret_access_key: Some("none".to_owned()),
            retry_budget: Duration::ZERO,
            ..StoreConfig::default()
        })
        .await
        .unwrap();
        let answers = BufReader::new(psql.stdout.take().unwrap());
        let connect = async |login: &str| {
            let host = url.rsplit('@').next().unwrap();
            let url = format!("postgres://{database}_{login}:{PASSWORD}@{host}");
            Store::connect(&DatabaseConfig::new(url)).await.unwrap()
        };
        let mut lab = Self {
            user: connect("user").await,
            scheduler: connect("scheduler").await,
            worker: connect("worker").await,
            objects,
            _folder: folder,
            url: url.clone(),
            psql,
            answers,
            _own: own,
        };
        lab.sql(
            "create schema lab; grant usage on schema lab to nightshift_owner;
            create table lab.clock (at timestamptz not null); insert into lab.clock values ('epoch');
            grant select on lab.clock to nightshift_owner;
            create or replace function nightshift.clock() returns timestamptz language sql stable as 'select at from lab.clock';",
        );
        lab
    }

    fn sql(&mut self, statements: &str) {
        let input = self.psql.stdin.as_mut().unwrap();
        writeln!(input, "{statements}\n\\echo done").unwrap();
        let mut line = String::new();
        while line.trim() != "done" {
            line.clear();
            let read = self.answers.read_line(&mut line).unwrap();
            assert!(read > 0, "psql ended at {statements} in {}", self.url);
        }
    }

    pub(crate) fn set_clock(&mut self, unix_ms: i64) {
        self.sql(&format!("update lab.clock set at = to_timestamp({unix_ms} / 1000.0);"));
    }

    /// What a scheduler does in one look, if it leads.
    pub(crate) async fn look(&self, holder: &str) {
        let term = self.scheduler.lead(holder, Duration::from_secs(600)).await;
        let Some(term) = term.unwrap() else { return };
        advance_schedules(&self.scheduler, &term).await.unwrap();
        self.scheduler.tick(&term).await.unwrap();
        refresh_windows(&self.scheduler, &term).await.unwrap();
        for job in self.scheduler.submitted(&term, 10).await.unwrap() {
            let (_, term) = watch::channel(term.clone());
            plan_job(&self.scheduler, &self.objects, &term, &job).await.unwrap();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.psql.stdin.take());
        let _ = self.psql.wait();
    }
}
