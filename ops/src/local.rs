//! The local system: private Postgres, embedded object store, scheduler and worker in one process tree below one folder.
//!
//! Everything but Postgres and the image decoders runs in this process, and those end with it even when it is killed. The
//! folder may be used again after any end.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nightshift_local::{Postgres, PostgresOptions, S3Server};
use nightshift_objects::{Objects, StoreConfig};
use nightshift_scheduler::Scheduler;
use nightshift_store::{DatabaseConfig, LoginKind, Store};
use nightshift_worker::ShutdownHandle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::scheduler::scheduler_config;
use crate::config::worker::load;
use crate::config::{Origin, redact_url};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::models;
use crate::secret::random_password;

/// The bucket that local specs use.
pub const BUCKET: &str = "nightshift";
/// The model that is made when it is missing.
const TINY: &str = "tiny";
const TENANT: &str = "default";
const REGION: &str = "us-east-1";
const OWNER_URL: &str = "NIGHTSHIFT_OWNER_URL";

/// A running local system. End it with [`System::stop`]; dropping it only kills the Postgres server.
pub struct System {
    /// The folder, absolute.
    pub data: PathBuf,
    /// A connection as the tenant.
    pub store: Store,
    /// A client of the embedded store.
    pub objects: Objects,
    postgres: Option<Postgres>,
    s3: S3Server,
    tenant_url: String,
    owner_url: String,
    models_dir: PathBuf,
    scheduler: (oneshot::Sender<()>, JoinHandle<anyhow::Result<()>>),
    worker: (ShutdownHandle, JoinHandle<anyhow::Result<()>>),
}

/// What a local system is started with.
pub struct Options {
    /// Port of the embedded store; 0 is any.
    pub s3_port: u16,
    /// The worker's settings.
    pub worker: nightshift_worker::Config,
}

impl System {
    /// Starts everything: makes what is missing in the folder, migrates, gives every login a new password.
    ///
    /// # Errors
    /// No Postgres on this machine, the folder is in use or not writable, a model cannot be loaded.
    pub async fn start(context: &Context, options: Options) -> anyhow::Result<Self> {
        let data = context.config.data_dir();
        nightshift_local::make_folder(&data)?;
        let data = data.canonicalize()?;
        logging::init(context, Some(&data.join("nightshift.log")))?;

        context.ui.note(&format!("starting the local system in {}", data.display()));
        let (postgres, admin_url) = match own_database(context) {
            Some(url) => (None, url),
            None => {
                let postgres =
                    Postgres::start(&data.join("postgres"), PostgresOptions::default()).await?;
                let url = postgres.url("postgres");
                (Some(postgres), url)
            }
        };
        let logins = prepare_database(&admin_url).await?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, options.s3_port));
        let s3 = S3Server::start(&data.join("s3"), Some(addr)).await?;
        let objects = Objects::connect(storage(&s3)).await?;
        objects.create_bucket(BUCKET).await?;

        // After the embedded store, which holds the folder's lock: two of us must not write one model.
        ensure_models(context, &options.worker.models_dir)?;
        let models_dir = options.worker.models_dir.canonicalize()?;
        let models = load(options.worker.clone()).await?;

        let scheduler = {
            let store = connect(&logins.scheduler, "nightshift scheduler").await?;
            let (stop, stopped) = oneshot::channel::<()>();
            let mut config = scheduler_config(&context.config);
            config.listen = Some(DatabaseConfig::new(&logins.scheduler));
            let scheduler = Scheduler::new(store, objects.clone(), config);
            let task = tokio::spawn(async move {
                scheduler.run(async { _ = stopped.await }).await.context("the scheduler ended")
            });
            (stop, task)
        };
        let worker = {
            let store = connect(&logins.worker, "nightshift worker").await?;
            let (handle, stopped) = nightshift_worker::shutdown();
            let (objects, mut config) = (objects.clone(), options.worker);
            config.listen = Some(DatabaseConfig::new(&logins.worker));
            let task = tokio::spawn(async move {
                nightshift_worker::run(config, store, objects, Box::new(models), stopped)
                    .await
                    .context("the worker ended")
            });
            (handle, task)
        };
        let store = connect(&logins.tenant, "nightshift").await?;
        let system = Self {
            data,
            store,
            objects,
            postgres,
            s3,
            tenant_url: logins.tenant,
            owner_url: admin_url,
            models_dir,
            scheduler,
            worker,
        };
        system.write_env()?;
        Ok(system)
    }

    /// The plain folder behind an `s3://` address of the embedded store.
    #[must_use]
    pub fn folder_of(&self, uri: &str) -> PathBuf {
        self.data.join("s3").join(uri.strip_prefix("s3://").unwrap_or(uri))
    }

    /// A file that exports what other programs need to talk to this system; only its owner may read it.
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.data.join("env")
    }

    /// The lines of [`System::env_file`] as they may be shown.
    #[must_use]
    pub fn env_shown(&self) -> Vec<String> {
        let shown = |(name, value): (&str, String)| match name {
            "DATABASE_URL" | OWNER_URL => format!("{name}={}", redact_url(&value)),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => format!("{name}=..."),
            _ => format!("{name}={value}"),
        };
        self.env().into_iter().map(shown).collect()
    }

    fn env(&self) -> [(&'static str, String); 7] {
        [
            ("DATABASE_URL", self.tenant_url.clone()),
            (OWNER_URL, self.owner_url.clone()),
            ("AWS_ENDPOINT_URL_S3", self.s3.endpoint()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", self.s3.access_key().to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.s3.secret_key().to_owned()),
            ("NIGHTSHIFT_MODELS_DIR", self.models_dir.display().to_string()),
        ]
    }

    fn write_env(&self) -> anyhow::Result<()> {
        let path = self.env_file();
        let write = || -> std::io::Result<()> {
            // A new file, so that its permissions are those asked for.
            let _ = std::fs::remove_file(&path);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            for (name, value) in self.env() {
                writeln!(file, "export {name}={}", in_quotes(&value))?;
            }
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Returns when the scheduler or the worker has ended without being asked to.
    ///
    /// # Errors
    /// Always: why it ended.
    pub async fn broken(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            ended = &mut self.scheduler.1 => ended,
            ended = &mut self.worker.1 => ended,
        };
        match ended {
            Ok(Ok(())) => anyhow::anyhow!("a part of the local system ended unexpectedly"),
            Ok(Err(error)) => error,
            Err(panic) => anyhow::anyhow!("a part of the local system failed: {panic}"),
        }
    }

    /// Stops everything; pictures in progress will be finished first, unless `hurry` is ready before.
    ///
    /// # Errors
    /// The Postgres server could not be stopped.
    pub async fn stop(mut self, hurry: impl Future<Output = ()>) -> anyhow::Result<()> {
        let _ = std::fs::remove_file(self.env_file());
        self.worker.0.signal();
        if !self.worker.1.is_finished() {
            tokio::select! {
                _ = &mut self.worker.1 => {}
                () = hurry => {
                    self.worker.0.signal();
                    let _ = (&mut self.worker.1).await;
                }
            }
        }
        let _ = self.scheduler.0.send(());
        if !self.scheduler.1.is_finished() {
            let _ = self.scheduler.1.await;
        }
        self.store.close().await;
        self.s3.stop().await;
        if let Some(postgres) = self.postgres {
            postgres.stop().await?;
        }
        Ok(())
    }
}

/// A text as one word of a shell.
fn in_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A server of the user's own, if one is named for nightshift. A `DATABASE_URL` is not enough: it may be there for another
/// program, and this one would be migrated and given logins.
fn own_database(context: &Context) -> Option<String> {
    match context.config.origin("database.url") {
        Origin::Flag(_) => {}
        Origin::Env(name) if name == "NIGHTSHIFT_DATABASE_URL" => {}
        _ => return None,
    }
    context.config.get("database.url").map(str::to_owned)
}

struct Logins {
    tenant: String,
    scheduler: String,
    worker: String,
}

/// Migrates, and makes one login for each role.
async fn prepare_database(admin_url: &str) -> anyhow::Result<Logins> {
    nightshift_store::migrate(admin_url).await.context("cannot prepare the database")?;
    let admin = connect(admin_url, "nightshift setup").await?;
    let everything = ["s3://".to_owned()];
    admin.set_prefixes(TENANT, &everything, &everything).await?;
    let mut urls = Vec::new();
    for (kind, name, tenant) in [
        (LoginKind::Tenant, "nightshift_local", Some(TENANT)),
        (LoginKind::Scheduler, "nightshift_local_scheduler", None),
        (LoginKind::Worker, "nightshift_local_worker", None),
    ] {
        let password = random_password()?;
        admin.create_login(kind, name, &password, tenant).await?;
        urls.push(with_login(admin_url, name, &password)?);
    }
    admin.close().await;
    let [tenant, scheduler, worker] = urls.try_into().expect("one url for each of three logins");
    Ok(Logins { tenant, scheduler, worker })
}

async fn connect(url: &str, application: &str) -> anyhow::Result<Store> {
    let mut database = DatabaseConfig::new(url);
    application.clone_into(&mut database.application_name);
    Store::connect(&database).await.context("cannot connect to the local database")
}

/// The same server and database with another login.
fn with_login(url: &str, login: &str, password: &str) -> Result<String, Failure> {
    let unreadable = || {
        Failure::new(
            Exit::Usage,
            "database.url is not postgres://login:password@host:port/database",
        )
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(unreadable)?;
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Ok(format!("{scheme}://{login}:{password}@{host}{path}"))
}

fn storage(s3: &S3Server) -> StoreConfig {
    StoreConfig {
        endpoint: Some(s3.endpoint()),
        region: Some(REGION.to_owned()),
        access_key_id: Some(s3.access_key().to_owned()),
        secret_access_key: Some(s3.secret_key().to_owned()),
        force_path_style: Some(true),
        ..StoreConfig::default()
    }
}

/// The trained nano model, and one with random weights for those who need other sizes than its own.
fn ensure_models(context: &Context, models: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write to the folder {}", models.display());
    std::fs::create_dir_all(models).with_context(failed)?;
    nightshift_nano::checkpoint::ensure(&models.join(nightshift_nano::checkpoint::NAME))
        .with_context(failed)?;
    let dir = models.join(TINY);
    if dir.exists() {
        return Ok(());
    }
    context.ui.note("making the model `tiny`: its weights are random, so its pictures are noise");
    models::write_random(&dir, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_put_into_any_url() {
        let url = |url| with_login(url, "l", "p").unwrap();
        assert_eq!(url("postgres://a:b@h:5432/db"), "postgres://l:p@h:5432/db");
        assert_eq!(
            url("postgresql://h/db?sslmode=require"),
            "postgresql://l:p@h/db?sslmode=require"
        );
        assert_eq!(url("postgres://a:p@ss@h"), "postgres://l:p@h");
        assert!(with_login("host=h", "l", "p").is_err());
    }

    #[test]
    fn a_shell_reads_back_what_is_quoted() {
        let text = r#"it's a "folder" $HOME"#;
        let said = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", in_quotes(text))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), text);
    }
}
