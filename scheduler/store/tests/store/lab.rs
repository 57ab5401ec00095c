//! A migrated database with one login of each kind, a clock that tests move, and short ways to make jobs and leases.

use std::time::Duration;

use nightshift_lab::{BOB, Database, SCHEDULER, USER, WORKER};
use nightshift_store::{
    Artifact, ItemReport, ItemStatus, JobView, LeaderTerm, Lease, Plan, Planned, Registration,
    Report, Store, Submission, TickCounts, WorkerId,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

pub(crate) const MODEL: &str = "nano/int4/bf16";
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// A test's own database. Field order: connections go before the server.
pub(crate) struct Lab {
    /// Superuser; bypasses row-level security.
    pub(crate) admin: Store,
    /// Member of tenant `default`.
    pub(crate) alice: Store,
    /// Member of tenants `blue` and `green`.
    pub(crate) bob: Store,
    pub(crate) worker: Store,
    pub(crate) scheduler: Store,
    pub(crate) term: LeaderTerm,
    database: Database,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let database = Database::fresh().await;
        database.add_tenants().await;
        database.take_clock();
        let scheduler = database.store(SCHEDULER).await;
        Self {
            admin: database.admin().await,
            alice: database.store(USER).await,
            bob: database.store(BOB).await,
            worker: database.store(WORKER).await,
            term: scheduler.lead("test", Duration::from_secs(3600)).await.unwrap().unwrap(),
            scheduler,
            database,
        }
    }

    /// Runs statements as the superuser.
    pub(crate) async fn sql(&self, statements: &str) {
        self.sql_as(None, statements).await.unwrap();
    }

    /// Runs statements as one of the logins (`None`: superuser).
    pub(crate) async fn sql_as(
        &self,
        login: Option<&str>,
        statements: &str,
    ) -> Result<(), sqlx::Error> {
        let mut connection = PgConnection::connect(&self.url(login)).await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
        connection.close().await
    }

    /// One text of one row, as the superuser.
    pub(crate) async fn text(&self, query: &str) -> String {
        self.text_as(None, query).await.unwrap()
    }

    /// One text of one row, as one of the logins (`None`: superuser); null is the empty text.
    pub(crate) async fn text_as(
        &self,
        login: Option<&str>,
        query: &str,
    ) -> Result<String, sqlx::Error> {
        let mut connection = PgConnection::connect(&self.url(login)).await?;
        let text: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(text.unwrap_or_default())
    }

    pub(crate) fn url(&self, login: Option<&str>) -> String {
        login.map_or_else(|| self.database.url(), |login| self.database.url_as(login))
    }

    /// Moves the database's clock forward.
    pub(crate) async fn advance(&self, seconds: u32) {
        self.sql(&format!("update lab.clock set shift = shift + {seconds} * interval '1 second'"))
            .await;
    }

    pub(crate) async fn tick(&self) -> TickCounts {
        self.scheduler.tick(&self.term).await.unwrap()
    }

    pub(crate) async fn register(&self, name: &str) -> WorkerId {
        self.register_with(name, "f00d").await
    }

    pub(crate) async fn register_with(&self, name: &str, fingerprint: &str) -> WorkerId {
        let registration = Registration {
            name: name.to_owned(),
            models: [(MODEL.to_owned(), fingerprint.to_owned())].into(),
            info: serde_json::json!({}),
        };
        self.worker.register(&registration).await.unwrap()
    }

    /// A job of alice.
    pub(crate) async fn submitted(&self) -> i64 {
        let submission =
            Submission { spec: "kind: text_to_image".to_owned(), ..Submission::default() };
        self.alice.submit(&submission).await.unwrap()
    }

    /// A ready job of alice with this many items.
    pub(crate) async fn ready(&self, n_items: i64, shard_items: i32) -> i64 {
        self.ready_with(|plan| Plan { n_items, shard_items: Some(shard_items), ..plan }).await
    }

    /// A ready job of a tenant of bob.
    pub(crate) async fn ready_of(&self, tenant: &str, n_items: i64) -> i64 {
        let submission = Submission {
            spec: "kind: text_to_image".to_owned(),
            tenant: Some(tenant.to_owned()),
            ..Submission::default()
        };
        let job = self.bob.submit(&submission).await.unwrap();
        let plan = Plan { n_items, shard_items: Some(1), ..plan(job) };
        let planned = self.scheduler.planned(&self.term, job, &plan).await;
        assert_eq!(planned.unwrap(), Planned::Ready);
        job
    }

    pub(crate) async fn ready_with(&self, change: impl FnOnce(Plan) -> Plan) -> i64 {
        let job = self.submitted().await;
        let planned = self.scheduler.planned(&self.term, job, &change(plan(job))).await.unwrap();
        assert_eq!(planned, Planned::Ready);
        job
    }

    /// Exactly one lease.
    pub(crate) async fn claim(&self, worker: WorkerId) -> Lease {
        let mut leases = self.worker.claim(worker, 1, LEASE).await.unwrap();
        leases.pop().expect("something to claim")
    }

    /// Claims and finishes everything, the closing too; every item is ok.
    pub(crate) async fn run_all(&self, worker: WorkerId) {
        while let Some(lease) = self.worker.claim(worker, 1, LEASE).await.unwrap().pop() {
            self.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
        }
    }

    pub(crate) async fn job(&self, job: i64) -> JobView {
        self.alice.job(job).await.unwrap()
    }
}

/// 10 items in shards of 4, no inputs, a destination of its own.
pub(crate) fn plan(job: i64) -> Plan {
    Plan {
        name: format!("job-{job}"),
        kind: "text_to_image".to_owned(),
        labels: serde_json::json!({}),
        resolved: serde_json::json!({"kind": "text_to_image"}),
        warnings: String::new(),
        dest: format!("s3://out/{job}/"),
        on_existing: "refuse".to_owned(),
        inputs: Vec::new(),
        model_key: MODEL.to_owned(),
        allow_mixed: false,
        priority: 0,
        n_rows: 0,
        n_items: 10,
        shard_items: Some(4),
        max_attempts: 3,
        max_failed_items: None,
        // A pause that is drawn may be none at all.
        policy: nightshift_store::Policy {
            jitter: Some(false),
            ..nightshift_store::Policy::default()
        },
    }
}

pub(crate) fn ok(index: i64) -> ItemReport {
    ItemReport {
        index,
        status: ItemStatus::Ok,
        item_id: Some(format!("{index:032x}")),
        seed: Some(i64::MAX - index.abs()),
        fingerprint: Some("f00d".to_owned()),
        error_code: None,
        error_message: None,
        artifacts: vec![Artifact {
            role: "image".to_owned(),
            key: format!("{index}.png"),
            bytes: 1000 + index,
            sha256: format!("{index:064x}"),
        }],
        gpu_ms: Some(12),
        tokens: Some(256),
        steps: Some(99),
        info: None,
    }
}

pub(crate) fn failed(index: i64, code: &str) -> ItemReport {
    ItemReport {
        status: ItemStatus::Failed,
        error_code: Some(code.to_owned()),
        error_message: Some("it did not work".to_owned()),
        artifacts: Vec::new(),
        item_id: None,
        seed: None,
        fingerprint: None,
        ..ok(index)
    }
}

pub(crate) fn report(items: Vec<ItemReport>) -> Report {
    Report { items, ..Report::default() }
}

/// Nothing for a closing shard.
pub(crate) fn all_ok(lease: &Lease) -> Report {
    match lease.kind {
        nightshift_store::ShardKind::Items => {
            report((lease.first_item..lease.end_item).map(ok).collect())
        }
        nightshift_store::ShardKind::Close => Report::default(),
    }
}
