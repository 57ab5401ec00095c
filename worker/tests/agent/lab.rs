//! A database, an object store, a scheduler that ticks, and workers that tests start, signal and kill.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nightshift_jobs::{InputRow, InputSpec, JobVars, OnExisting};
use nightshift_lab::{Database, SCHEDULER, USER, WORKER};
use nightshift_local::S3Server;
use nightshift_objects::{Objects, Put, S3Uri, StoreConfig};
use nightshift_store::{
    DatabaseConfig, ItemFilter, ItemRow, JobState, LeaderTerm, Plan, Planned, Store, Submission,
};
use nightshift_worker::scripted::{Script, Scripted};
use nightshift_worker::{Config, ShutdownHandle, WorkerError, run, shutdown};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::gateway::Gateway;

pub(crate) const MODEL: &str = "nano/f32/f32";
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a counter of a script has reached a number.
pub(crate) async fn until_count(what: &str, least: u64, count: impl Fn() -> u64) {
    until(what, || async { (count() >= least).then_some(()) }).await;
}

/// Field order: connections go before the servers.
pub(crate) struct Lab {
    pub(crate) admin: Store,
    pub(crate) user: Store,
    scheduler: Store,
    term: LeaderTerm,
    ticking: JoinHandle<()>,
    pub(crate) objects: Objects,
    pub(crate) s3: Option<S3Server>,
    pub(crate) database: Database,
    folder: TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.ticking.abort();
    }
}

/// A worker as a task of the test.
pub(crate) struct Worker {
    pub(crate) script: Script,
    pub(crate) handle: ShutdownHandle,
    task: Option<JoinHandle<Result<(), WorkerError>>>,
}

impl Worker {
    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), WorkerError> {
        let task = self.task.take().expect("waited for once");
        tokio::time::timeout(DEADLINE, task)
            .await
            .expect("the worker ends in time")
            .expect("the worker does not panic")
    }

    /// As SIGKILL would: nothing more is sent. (Only what the system has in its buffers still arrives.)
    pub(crate) async fn kill(&mut self) {
        let task = self.task.take().expect("killed once");
        task.abort();
        drop(task.await);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(Database::fresh().await).await
    }

    /// With a server that the test may stop: [`Lab::database`].
    pub(crate) async fn with_own_server() -> Self {
        Self::with(Database::on_own_cluster().await).await
    }

    async fn with(database: Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let s3 = S3Server::start(&folder.path().join("s3"), None).await.unwrap();
        let scheduler = database.store(SCHEDULER).await;
        let term = scheduler.lead("test", Duration::from_secs(3600)).await.unwrap().unwrap();
        let objects = Objects::connect(storage(&s3)).await.unwrap();
        for bucket in ["output", "input"] {
            objects.create_bucket(bucket).await.unwrap();
        }
        Self {
            user: database.store(USER).await,
            ticking: tokio::spawn(tick(scheduler.clone(), term.clone())),
            admin: database.admin().await,
            scheduler,
            term,
            objects,
            s3: Some(s3),
            database,
            folder,
        }
    }

    /// Restarts the object store at the same address after `meanwhile`, which gets the number of connections that were refused so far.
    pub(crate) async fn without_s3<F: Future<Output = ()>>(
        &mut self,
        meanwhile: impl FnOnce(Arc<AtomicU64>) -> F,
    ) {
        let s3 = self.s3.take().unwrap();
        let addr = s3.addr();
        s3.stop().await;
        let nobody = TcpListener::bind(addr).await.unwrap();
        let refused = Arc::new(AtomicU64::new(0));
        let refusing = async {
            loop {
                drop(nobody.accept().await.unwrap());
                refused.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = meanwhile(Arc::clone(&refused)) => {}
            () = refusing => {}
        }
        drop(nobody);
        self.s3 = Some(S3Server::start(&self.folder.path().join("s3"), Some(addr)).await.unwrap());
    }

    /// A worker with a short lease whose script is open.
    pub(crate) fn worker(&self, slots: usize) -> Worker {
        self.worker_with(slots, |_| ())
    }

    pub(crate) fn worker_with(&self, slots: usize, adjust: impl FnOnce(&mut Config)) -> Worker {
        self.worker_of(self.objects.clone(), slots, adjust)
    }

    /// A worker whose secret the object store does not know.
    pub(crate) async fn stranger(&self) -> Worker {
        let known = storage(self.s3.as_ref().unwrap());
        let objects =
            Objects::connect(StoreConfig { secret_access_key: Some("wrong".to_owned()), ..known });
        self.worker_of(objects.await.unwrap(), 2, |_| ())
    }

    /// A gateway in front of the object store.
    pub(crate) async fn gateway(&self) -> Gateway {
        Gateway::new(self.s3.as_ref().unwrap().addr()).await
    }

    /// A worker that reaches the object store at another endpoint.
    pub(crate) async fn worker_through(
        &self,
        endpoint: &str,
        slots: usize,
        adjust: impl FnOnce(&mut Config),
    ) -> Worker {
        let storage = StoreConfig {
            endpoint: Some(endpoint.to_owned()),
            refusal_patience: Duration::from_millis(500),
            ..storage(self.s3.as_ref().unwrap())
        };
        self.worker_of(Objects::connect(storage).await.unwrap(), slots, adjust)
    }

    fn worker_of(
        &self,
        objects: Objects,
        slots: usize,
        adjust: impl FnOnce(&mut Config),
    ) -> Worker {
        let mut config = self.config();
        adjust(&mut config);
        let (generator, script) = Scripted::new(MODEL, slots);
        let (handle, stop) = shutdown();
        let mut database = DatabaseConfig::new(self.worker_url());
        database.acquire_timeout_ms = 1_000;
        let task = tokio::spawn(async move {
            let store = Store::connect_lazy(&database).unwrap();
            run(config, store, objects, Box::new(generator), stop).await
        });
        Worker { script, handle, task: Some(task) }
    }

    /// The database as workers reach it.
    pub(crate) fn worker_url(&self) -> String {
        self.database.url_as(WORKER)
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            name: "test".to_owned(),
            lease: Duration::from_secs(6),
            progress_every: Duration::from_millis(200),
            poll_every: Duration::from_millis(50),
            grace: Duration::from_secs(30),
            decoder: PathBuf::from(env!("CARGO_BIN_EXE_nightshift-decode-image")),
            spool: self.folder.path().join("spool"),
            ..Config::default()
        }
    }

    /// A folder for a test's own files.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Submits and plans a job over the rows of the spec, or over `rows`.
    pub(crate) async fn job(&self, spec: &str, rows: &[InputRow]) -> i64 {
        self.job_with(spec, rows, |plan| plan).await
    }

    pub(crate) async fn job_with(
        &self,
        spec: &str,
        rows: &[InputRow],
        change: impl FnOnce(Plan) -> Plan,
    ) -> i64 {
        let submission = Submission { spec: spec.to_owned(), ..Submission::default() };
        let job = self.user.submit(&submission).await.unwrap();
        let parsed =
            nightshift_jobs::parse("test.yaml", spec).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(parsed.cannot_run.is_empty(), "{:?}", parsed.cannot_run);
        let spec = parsed.spec;
        let rows = match spec.input() {
            InputSpec::Inline { rows } => rows.clone(),
            _ => rows.to_vec(),
        };
        if !rows.is_empty() {
            let chunk = pack(&rows);
            let n_rows = i32::try_from(rows.len()).unwrap();
            assert!(self.scheduler.add_chunk(&self.term, job, 0, n_rows, &chunk).await.unwrap());
        }
        let vars = JobVars { job_id: job, run_date: "2026-11-23".to_owned(), run_index: 0 };
        let plan = Plan {
            name: spec.name().to_owned(),
            kind: spec.kind().to_string(),
            labels: serde_json::json!({}),
            resolved: serde_json::to_value(&spec).unwrap(),
            warnings: String::new(),
            dest: spec.dest(&vars).unwrap(),
            on_existing: match spec.on_existing() {
                OnExisting::Refuse => "refuse",
                OnExisting::Resume => "resume",
                OnExisting::Overwrite => "overwrite",
            }
            .to_owned(),
            inputs: Vec::new(),
            model_key: spec.model().key(),
            allow_mixed: false,
            priority: 50,
            n_rows: rows.len() as i64,
            n_items: spec.n_items(rows.len() as u64).unwrap() as i64,
            shard_items: Some(4),
            max_attempts: 3,
            max_failed_items: None,
            policy: nightshift_store::Policy::default(),
        };
        assert_eq!(
            self.scheduler.planned(&self.term, job, &change(plan)).await.unwrap(),
            Planned::Ready
        );
        job
    }

    /// Waits for the end of a job.
    pub(crate) async fn ended(&self, job: i64) -> JobState {
        until(&format!("job {job} ends"), || async {
            let view = self.user.job(job).await.ok()?;
            view.state.is_final().then_some(view.state)
        })
        .await
    }

    pub(crate) async fn items(&self, job: i64) -> Vec<ItemRow> {
        self.user.items(job, &ItemFilter::default(), -1, 10_000).await.unwrap()
    }

    /// Index to error code of everything that is not ok.
    pub(crate) async fn codes(&self, job: i64) -> BTreeMap<i64, String> {
        let items = self.items(job).await;
        let code = |item: ItemRow| item.report.error_code.map(|code| (item.report.index, code));
        items.into_iter().filter_map(code).collect()
    }

    /// The keys below a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let prefix: S3Uri = prefix.parse().unwrap();
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = self.objects.list_page(&prefix, after).await.unwrap();
            keys.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
            if after.is_none() {
                return keys;
            }
        }
    }

    pub(crate) async fn get(&self, uri: &str) -> Vec<u8> {
        let got = self.objects.get(&uri.parse().unwrap(), 1 << 26, None).await;
        got.unwrap_or_else(|error| panic!("{uri}: {error}")).body.to_vec()
    }

    pub(crate) async fn lines(&self, uri: &str) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.get(uri).await).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn put(&self, uri: &str, body: &[u8]) {
        let body = bytes::Bytes::copy_from_slice(body);
        self.objects.put(&uri.parse().unwrap(), body, &Put::default()).await.unwrap();
    }
}

fn storage(s3: &S3Server) -> StoreConfig {
    StoreConfig {
        endpoint: Some(s3.endpoint()),
        access_key_id: Some(s3.access_key().to_owned()),
        secret_access_key: Some(s3.secret_key().to_owned()),
        // Short, so that the worker's own patience is what is tested.
        retry_budget: Duration::from_millis(500),
        ..StoreConfig::default()
    }
}

/// A scheduler that only expires leases and settles jobs.
async fn tick(store: Store, term: LeaderTerm) {
    let mut times = tokio::time::interval(Duration::from_millis(50));
    loop {
        times.tick().await;
        drop(store.tick(&term).await);
    }
}

fn pack(rows: &[InputRow]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for row in rows {
        writeln!(packed, "{}", serde_json::to_string(row).unwrap()).unwrap();
    }
    packed.finish().unwrap()
}

/// A text-to-image job of two rows with three pictures each, in shards of four.
pub(crate) fn pictures(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: nightshift/v1
kind: text_to_image
metadata: {{name: {name}}}
input:
  inline:
    - {{id: cat, prompt: \"a cat\"}}
    - {{id: fog, prompt: \"fog, später\"}}
generate: {{size: 64x64, images_per_prompt: 3, seeds: {{start: 1}}}}
model: {{name: nano, weights: f32, kv_cache: f32}}
output: {{dest: \"s3://output/{name}/\", name: \"{{{{ row.id }}}}_{{{{ k }}}}.{{{{ ext }}}}\"{extra}}}
"
    )
}
