//! A migrated database whose clock stands still until it is moved, and one connection for each role.

use nightshift_store::{DatabaseConfig, Plan, Policy, Registration, Store, WorkerId};
use nightshift_tests::Database;
use sqlx::{Connection, PgConnection};

/// The model that all jobs need and all workers have.
const MODEL: &str = "tiny/f32/f32";
/// When the database's clock starts, in milliseconds.
const START_MS: i64 = 1_800_000_000_000;

pub(crate) struct Lab {
    pub(crate) user: Store,
    pub(crate) worker: Store,
    pub(crate) scheduler: Store,
    /// Superuser.
    pub(crate) admin: PgConnection,
    /// The clock, in milliseconds.
    pub(crate) now: i64,
    /// Dropped after the connections.
    database: Database,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let database = Database::fresh().await;
        database.take_clock();
        let _done = database.sql(
            "update lab.clock set at = to_timestamp(1800000000);
            create function lab.ms(at timestamptz) returns bigint language sql immutable
                as $$ select case at when 'infinity' then 9223372036854775807 when '-infinity' then -9223372036854775808
                    else (extract(epoch from at) * 1000)::bigint end $$",
        );
        let mut admin = PgConnection::connect(&database.url()).await.unwrap();
        sqlx::raw_sql("set jit = off").execute(&mut admin).await.unwrap();
        Self {
            user: connect(&database.url_as("lab_user")).await,
            worker: connect(&database.url_as("lab_worker")).await,
            scheduler: connect(&database.url_as("lab_scheduler")).await,
            admin,
            now: START_MS,
            database,
        }
    }

    /// Another connection of a login.
    pub(crate) async fn store(&self, login: &str) -> Store {
        connect(&self.database.url_as(login)).await
    }

    /// A bare connection of a login.
    pub(crate) async fn connection(&self, login: &str) -> PgConnection {
        PgConnection::connect(&self.database.url_as(login)).await.unwrap()
    }

    /// Another connection of the superuser.
    pub(crate) async fn superuser(&self) -> PgConnection {
        PgConnection::connect(&self.database.url()).await.unwrap()
    }

    /// Moves the clock.
    pub(crate) async fn forward(&mut self, ms: i64) {
        self.now += ms;
        sqlx::query("update lab.clock set at = to_timestamp($1::numeric / 1000)")
            .bind(self.now)
            .execute(&mut self.admin)
            .await
            .unwrap();
    }

    /// Lets an administrator set the tenant's prefixes to what they are: that looks at all of its jobs.
    pub(crate) async fn tighten(&mut self) {
        sqlx::query("select nightshift.set_prefixes('default', '{s3://}', '{s3://}')")
            .execute(&mut self.admin)
            .await
            .unwrap();
    }

    pub(crate) async fn register(&self, name: &str) -> WorkerId {
        let registration = Registration {
            name: name.to_owned(),
            models: [(MODEL.to_owned(), "f00d".to_owned())].into(),
            info: serde_json::json!({}),
        };
        self.worker.register(&registration).await.unwrap()
    }

    /// Waits until no other session has a transaction that locks something. Postgres says that a call is refused before it gives up what
    /// the call had locked, and a tick passes over that.
    pub(crate) async fn nobody_locks(&mut self) {
        let holders = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'transactionid' and l.granted
            and l.mode = 'ExclusiveLock' and a.datname = current_database() and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()";
        while self.number(holders).await > 0 {}
    }

    /// One number.
    pub(crate) async fn number(&mut self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.admin).await.unwrap()
    }
}

async fn connect(url: &str) -> Store {
    Store::connect(&DatabaseConfig {
        acquire_timeout_ms: 30_000,
        // One call at a time: a second connection would only plan everything once more.
        max_connections: 1,
        ..DatabaseConfig::new(url)
    })
    .await
    .unwrap()
}

/// A plan with a destination of its own; pauses are not drawn, so that a seed always gives the same run.
pub(crate) fn plan(job: i64, n_items: i64, shard_items: i32) -> Plan {
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
        n_items,
        shard_items: Some(shard_items),
        max_attempts: 3,
        max_failed_items: None,
        policy: Policy { jitter: Some(false), ..Policy::default() },
    }
}
