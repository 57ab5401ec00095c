//! A system in a box: one database, one object store, one model with random weights, and processes on demand.
//!
//! The object store runs in the test's own process, so tests use a runtime of several threads: waiting for a process must not stop it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nightshift_local::S3Server;
use nightshift_objects::{Objects, Put, S3Uri, StoreConfig};
use nightshift_store::{DatabaseConfig, ItemReport, JobState, JobView, Store, Submission};
use tempfile::TempDir;

use crate::Database;
use crate::process::Process;

/// The bucket of every test.
pub const BUCKET: &str = "lab";
/// How long any job of a test may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// One system. Everything below `folder` is gone when it is dropped.
#[derive(Debug)]
pub struct System {
    /// Where logs, objects and models lie.
    pub folder: TempDir,
    /// Its database.
    pub database: Database,
    s3: Option<S3Server>,
    s3_address: SocketAddr,
    keys: (String, String),
    user: Store,
    objects: Objects,
}

impl System {
    /// A database on the run's cluster, an empty bucket, no processes yet.
    ///
    /// # Panics
    /// When a part cannot be started.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = Database::fresh().await;
        Self::with(folder, database).await
    }

    /// Like [`System::start`] with a Postgres server of its own, for tests that stop it.
    ///
    /// # Panics
    /// When a part cannot be started.
    pub async fn with_own_server() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = Database::on_own_cluster().await;
        Self::with(folder, database).await
    }

    async fn with(folder: TempDir, database: Database) -> Self {
        let s3 = S3Server::start(&folder.path().join("s3"), None).await.expect("an object store");
        let keys = (s3.access_key().to_owned(), s3.secret_key().to_owned());
        let s3_address = s3.endpoint().trim_start_matches("http://").parse().expect("an address");
        let objects = Objects::connect(StoreConfig {
            endpoint: Some(s3.endpoint()),
            access_key_id: Some(keys.0.clone()),
            secret_access_key: Some(keys.1.clone()),
            ..StoreConfig::default()
        })
        .await
        .expect("an S3 client");
        objects.create_bucket(BUCKET).await.expect("a bucket");
        let user = connect(&database.url_as("lab_user")).await;
        write_model(&folder.path().join("models/tiny"));
        Self { folder, database, s3: Some(s3), s3_address, keys, user, objects }
    }

    /// The program with the environment of this system, as `login` (`lab_user`, `lab_scheduler`, `lab_worker`).
    #[must_use]
    pub fn command(&self, login: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("NIGHTSHIFT_DATABASE_URL", self.database.url_as(login))
            .env("AWS_ENDPOINT_URL_S3", self.s3_endpoint())
            .env("AWS_ACCESS_KEY_ID", &self.keys.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.1)
            .env("NIGHTSHIFT_MODELS_DIR", self.folder.path().join("models"))
            .env("NIGHTSHIFT_WORKER_LEASE_MS", "3000")
            .env("NIGHTSHIFT_SCHEDULER_TICK_MS", "100")
            .env("NIGHTSHIFT_WORKER_THREADS", "1")
            .env("NIGHTSHIFT_WORKER_FORMATS", "f32/f32,int4/bf16,bf16/int8")
            .env("NIGHTSHIFT_LOG", "info,nightshift_worker=debug,nightshift_objects=debug");
        command
    }

    /// Starts a scheduler.
    #[must_use]
    pub fn scheduler(&self) -> Process {
        Process::start(
            "scheduler",
            self.folder.path(),
            &mut self.command("lab_scheduler", &["scheduler"]),
        )
    }

    /// Starts a worker with this many slots.
    #[must_use]
    pub fn worker(&self, name: &str, slots: usize) -> Process {
        let slots = slots.to_string();
        let arguments = ["worker", "--name", name, "--slots", &slots];
        Process::start(name, self.folder.path(), &mut self.command("lab_worker", &arguments))
    }

    /// Url of the object store.
    #[must_use]
    pub fn s3_endpoint(&self) -> String {
        format!("http://{}", self.s3_address)
    }

    /// The system as its user sees it.
    #[must_use]
    pub fn user(&self) -> &Store {
        &self.user
    }

    /// The object store as its user sees it.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Submits a spec and returns the job's id.
    ///
    /// # Panics
    /// When the store refuses.
    pub async fn submit(&self, spec: &str) -> i64 {
        let submission = Submission { spec: spec.to_owned(), ..Submission::default() };
        self.user.submit(&submission).await.expect("the store takes the spec")
    }

    /// The job, now.
    ///
    /// # Panics
    /// When the store cannot be asked.
    pub async fn job(&self, job: i64) -> JobView {
        self.user.job(job).await.expect("the job can be read")
    }

    /// Waits until the job is what `holds` asks for.
    ///
    /// # Panics
    /// When that takes more than two minutes; the panic shows the job.
    pub async fn until(&self, job: i64, what: &str, holds: impl Fn(&JobView) -> bool) -> JobView {
        let end = Instant::now() + PATIENCE;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            look.tick().await;
            // The server may be away: some tests stop it.
            match self.user.job(job).await {
                Ok(view) if holds(&view) => return view,
                answer => assert!(Instant::now() < end, "waited in vain until {what}: {answer:?}"),
            }
        }
    }

    /// Waits until the job has ended and returns it.
    ///
    /// # Panics
    /// When that takes more than two minutes.
    pub async fn wait(&self, job: i64) -> JobView {
        self.until(job, "the job ends", |view| ended(view.state)).await
    }

    /// What was reported of all finished items of a job.
    ///
    /// # Panics
    /// When the store cannot be asked.
    pub async fn items(&self, job: i64) -> Vec<ItemReport> {
        self.user
            .items(job, &nightshift_store::ItemFilter::default(), -1, 10_000)
            .await
            .expect("the items can be read")
            .into_iter()
            .map(|row| row.report)
            .collect()
    }

    /// Stores an object in the bucket.
    ///
    /// # Panics
    /// When the store refuses.
    pub async fn put(&self, key: &str, body: impl Into<bytes::Bytes>) {
        self.objects
            .put(&uri(key), body.into(), &Put::default())
            .await
            .expect("the object is stored");
    }

    /// Reads an object of the bucket; `None` when there is none.
    ///
    /// # Panics
    /// When the store cannot be asked.
    pub async fn read(&self, key: &str) -> Option<Vec<u8>> {
        let uri = uri(key);
        self.objects.head(&uri).await.expect("the object store answers")?;
        let got = self.objects.get(&uri, 1 << 30, None).await.expect("the object can be read");
        Some(got.body.to_vec())
    }

    /// Keys of the bucket below `prefix`, sorted.
    ///
    /// # Panics
    /// When the store cannot be asked.
    pub async fn list(&self, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let page = self.objects.list_page(&uri(prefix), after).await.expect("a listing");
            keys.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
            if after.is_none() {
                return keys;
            }
        }
    }

    /// Copies everything below `prefix` into `to`, as a user would download it.
    ///
    /// # Panics
    /// When an object cannot be read.
    pub async fn download(&self, prefix: &str, to: &Path) {
        for key in self.list(prefix).await {
            let path = to.join(key.strip_prefix(prefix).expect("a key below the prefix"));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, self.read(&key).await.expect("a listed object")).expect("a file");
        }
    }

    /// Stops the object store; [`System::start_s3`] starts it at the same address.
    ///
    /// # Panics
    /// When it is not running.
    pub async fn stop_s3(&mut self) {
        self.s3.take().expect("the object store runs").stop().await;
    }

    /// Starts the object store again.
    ///
    /// # Panics
    /// When its port was taken.
    pub async fn start_s3(&mut self) {
        let root = self.folder.path().join("s3");
        self.s3 = Some(
            S3Server::start(&root, Some(self.s3_address))
                .await
                .expect("the object store starts again"),
        );
    }
}

/// Whether a job in this state goes on by itself no more.
#[must_use]
pub fn ended(state: JobState) -> bool {
    matches!(
        state,
        JobState::Rejected
            | JobState::Cancelled
            | JobState::Finished
            | JobState::FinishedWithErrors
            | JobState::Failed
    )
}

/// Lower-case hex sha256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("{:x}", sha2::Sha256::digest(bytes))
}

/// `s3://lab/<key>`.
///
/// # Panics
/// Never for keys of tests.
#[must_use]
pub fn uri(key: &str) -> S3Uri {
    format!("s3://{BUCKET}/{key}").parse().expect("an S3 URI")
}

/// The copy of the program that belongs to this package.
#[must_use]
pub fn program() -> PathBuf {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join("nightshift-under-test")
}

async fn connect(url: &str) -> Store {
    Store::connect(&DatabaseConfig::new(url)).await.expect("the database answers")
}

/// A model with random weights, made once for the whole run beside the program and linked into each system.
fn write_model(folder: &Path) {
    std::fs::create_dir_all(folder.parent().expect("a folder")).expect("a folder");
    let status = Command::new(program())
        .args(["model", "random"])
        .arg(folder)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .expect("the program runs");
    assert!(status.success(), "no random model");
}
