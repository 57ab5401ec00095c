//! A private cluster with fsync on, 20 equal tenants, one login of each role, and what all measurements share.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nightshift_lab::{Database, SCHEDULER, USER, WORKER};
use nightshift_local::{PostgresOptions, S3Server};
use nightshift_objects::{Objects, StoreConfig};
use nightshift_store::{
    Artifact, DatabaseConfig, ItemReport, ItemStatus, LeaderTerm, Plan, Policy, Registration,
    Store, Submission, TableSize, WorkerId,
};
use serde_json::json;

pub(super) const TENANTS: usize = 20;
pub(super) const MODEL: &str = "bench/int4/bf16";
pub(super) const LEASE: Duration = Duration::from_secs(60);
const FINGERPRINT: &str = "4be7c1f0a1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c";

pub(super) struct Lab {
    pub(super) admin: Store,
    pub(super) user: Store,
    pub(super) worker: Store,
    pub(super) scheduler: Store,
    pub(super) term: LeaderTerm,
    /// The spec of every job with its defaults, as a scheduler stores it.
    resolved: serde_json::Value,
    database: Database,
}

impl Lab {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let database = Database::on_cluster_with(PostgresOptions::default()).await;
        let admin = database.admin().await;
        let everywhere = ["s3://".to_owned()];
        for n in 0..TENANTS {
            admin.set_prefixes(&tenant(n), &everywhere, &everywhere).await?;
            admin.add_member(USER, &tenant(n)).await?;
        }
        let scheduler = connect(&database, SCHEDULER, 4).await?;
        let parsed = nightshift_jobs::parse("bench.yaml", SPEC).map_err(anyhow::Error::msg)?;
        let term = scheduler.lead("bench", Duration::from_secs(3600)).await?;
        Ok(Self {
            user: connect(&database, USER, 8).await?,
            worker: connect(&database, WORKER, 16).await?,
            term: term.context("nobody else leads")?,
            resolved: serde_json::to_value(&parsed.spec)?,
            admin,
            scheduler,
            database,
        })
    }

    /// How a login listens.
    pub(super) fn listening(&self, login: &str) -> DatabaseConfig {
        DatabaseConfig::new(self.database.url_as(login))
    }

    /// Processor seconds that the server has used so far.
    pub(super) fn cpu_s(&self) -> f64 {
        let server = self.database.server_pid().unwrap_or(0);
        let ticks: u64 = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(|pid: u32| ticks(pid, server))
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "far below the precision of a double")]
        let seconds = ticks as f64 / 100.0;
        seconds
    }

    pub(super) async fn workers(&self, n: usize) -> anyhow::Result<Vec<WorkerId>> {
        let mut workers = Vec::new();
        for n in 0..n {
            let registration = Registration {
                name: format!("bench-{n}"),
                models: [(MODEL.to_owned(), FINGERPRINT.to_owned())].into(),
                info: json!({}),
            };
            workers.push(self.worker.register(&registration).await?);
        }
        Ok(workers)
    }

    pub(super) async fn submit(&self, of_tenant: usize) -> anyhow::Result<i64> {
        let submission = Submission {
            spec: SPEC.to_owned(),
            tenant: Some(tenant(of_tenant)),
            ..Submission::default()
        };
        Ok(self.user.submit(&submission).await?)
    }

    /// A ready job of a tenant.
    pub(super) async fn ready(
        &self,
        of_tenant: usize,
        n_items: i64,
        shard_items: i32,
    ) -> anyhow::Result<i64> {
        let job = self.submit(of_tenant).await?;
        self.plan(job, n_items, shard_items).await?;
        Ok(job)
    }

    /// Makes a submitted job ready; the time the call took.
    pub(super) async fn plan(
        &self,
        job: i64,
        n_items: i64,
        shard_items: i32,
    ) -> anyhow::Result<Duration> {
        let plan = Plan {
            name: format!("job-{job}"),
            kind: "text_to_image".to_owned(),
            labels: json!({}),
            resolved: self.resolved.clone(),
            warnings: String::new(),
            dest: format!("s3://out/{job}/"),
            on_existing: "refuse".to_owned(),
            inputs: Vec::new(),
            model_key: MODEL.to_owned(),
            allow_mixed: false,
            priority: 50,
            n_rows: 0,
            n_items,
            shard_items: Some(shard_items),
            max_attempts: 3,
            max_failed_items: None,
            policy: Policy::default(),
        };
        let before = Instant::now();
        self.scheduler.planned(&self.term, job, &plan).await?;
        Ok(before.elapsed())
    }

    pub(super) async fn sizes(&self) -> anyhow::Result<Vec<TableSize>> {
        Ok(self.admin.table_sizes().await?)
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for store in [&self.admin, &self.user, &self.worker, &self.scheduler] {
            store.close().await;
        }
        let mut database = self.database;
        database.stop().await;
        Ok(())
    }
}

const SPEC: &str = "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {name: bench}\nmodel: {name: bench, weights: int4, kv_cache: bf16}\ninput: {inline: [{id: a, prompt: \"a lighthouse at dusk\"}]}\ngenerate: {size: 64x64}\noutput: {dest: \"s3://out/{{ job.id }}/\"}\n";

/// A client of an embedded object store.
pub(super) async fn objects(s3: &S3Server) -> anyhow::Result<Objects> {
    let config = StoreConfig {
        endpoint: Some(s3.endpoint()),
        access_key_id: Some(s3.access_key().to_owned()),
        secret_access_key: Some(s3.secret_key().to_owned()),
        ..StoreConfig::default()
    };
    Ok(Objects::connect(config).await?)
}

fn tenant(n: usize) -> String {
    format!("bench-{n}")
}

async fn connect(database: &Database, login: &str, connections: u32) -> anyhow::Result<Store> {
    let config = DatabaseConfig {
        max_connections: connections,
        ..DatabaseConfig::new(database.url_as(login))
    };
    Ok(Store::connect(&config).await?)
}

/// Clock ticks of a process, if it is this server or a child of it; the server's own count holds its dead children.
fn ticks(pid: u32, server: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(") ") else {
        return 0;
    };
    let fields: Vec<u64> = fields.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    let sum = |range: std::ops::Range<usize>| fields.get(range).map_or(0, |f| f.iter().sum());
    // After the name: state, parent, ... user and system time are the 12th and 13th, those of dead children follow.
    if pid == server {
        sum(11..15)
    } else if fields.get(1) == Some(&u64::from(server)) {
        sum(11..13)
    } else {
        0
    }
}

/// A finished item as a worker of a text_to_image job reports it: one full row.
pub(super) fn item(index: i64) -> ItemReport {
    ItemReport {
        index,
        status: ItemStatus::Ok,
        item_id: Some(format!("{:032x}", index.wrapping_mul(0x9e37_79b9_7f4a))),
        seed: Some(i64::MAX - index),
        fingerprint: Some(FINGERPRINT.to_owned()),
        error_code: None,
        error_message: None,
        artifacts: vec![Artifact {
            role: "image".to_owned(),
            key: format!("data/{:04}/{index:09}.png", index / 10_000),
            bytes: 1_000_000 + index,
            sha256: format!("{:064x}", index.wrapping_mul(0x9e37_79b9_7f4a)),
        }],
        gpu_ms: Some(1000),
        tokens: Some(2352),
        steps: Some(700),
        info: None,
    }
}
