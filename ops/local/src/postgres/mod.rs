//! A private PostgreSQL cluster, run from the system's own programs.
//!
//! Promise: one folder holds one cluster; it listens on the loopback interface only, behind a random password; it ends when this process ends, even by
//! SIGKILL; and a cluster that was killed starts again.
//!
//! Main path: lock the folder, find the programs, `initdb` once, run the server, wait until it is ready.
//!
//! Layout of the data folder: `cluster/` (the server's own, mode 0700), `password` (0600), `port`, `lock`, `postgres.log`.

mod acl;
mod binaries;
mod cluster;
mod server;
mod user;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, files};
use server::Server;

/// How to run the cluster.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Whether commits survive a power cut. Off is for tests: a killed server still loses nothing, a crashed machine may lose the cluster.
    pub fsync: bool,
    /// The port to listen on; by default the one used last time if it is free, else any free one.
    pub port: Option<u16>,
    /// How many connections the server accepts.
    pub max_connections: u32,
    /// How long to wait until the server is ready (after a kill it first replays its log).
    pub start_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            port: None,
            max_connections: 100,
            start_timeout: Duration::from_secs(60),
        }
    }
}

/// A running private cluster. Dropping it stops the server too (and waits for that, some tenths of a second); [`Postgres::stop`] reports errors.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    password: String,
    port: u16,
    // Held for its lock: released last, when the server is gone.
    _lock: File,
}

impl Postgres {
    /// Starts the cluster in `data`, making it first if there is none, and returns when it accepts connections.
    ///
    /// As root the server runs as user `postgres` (else `nobody`), and only `data/cluster` is given to that user. If a folder above is closed to it, that one user
    /// gets permission to pass through (an access control entry).
    ///
    /// # Errors
    /// [`Error::BinariesMissing`], [`Error::VersionMismatch`], [`Error::AlreadyRunning`], [`Error::NoUnprivilegedUser`], [`Error::NotTraversable`],
    /// [`Error::ForeignOwner`], [`Error::InitFailed`], [`Error::StartFailed`], [`Error::StartTimeout`], [`Error::Io`].
    pub async fn start(data: &Path, options: PostgresOptions) -> Result<Self, Error> {
        let data = data.to_path_buf();
        // All of it is processes and files, so it is plain blocking code. If the caller goes away meanwhile, the value is dropped there, which stops the server.
        match tokio::task::spawn_blocking(move || start(&data, &options)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Connection URL of the superuser for `database` (`postgres` always exists). Contains the password.
    pub fn url(&self, database: &str) -> String {
        let database: String = database
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        format!(
            "postgres://{}:{}@127.0.0.1:{}/{database}",
            cluster::SUPERUSER,
            self.password,
            self.port
        )
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server: open transactions are rolled back, connections closed.
    ///
    /// # Errors
    /// [`Error::Io`] when the server cannot be waited for. A server that hangs is killed after ten seconds, which is safe.
    pub async fn stop(self) -> Result<(), Error> {
        let mut this = self;
        match tokio::task::spawn_blocking(move || this.server.stop()).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn start(data: &Path, options: &PostgresOptions) -> Result<Postgres, Error> {
    files::make_folder(data)?;
    let data: PathBuf =
        data.canonicalize().map_err(Error::io(format!("find {}", data.display())))?;
    let lock = files::lock(&data)?;
    let cluster = data.join("cluster");
    let programs = binaries::find(&cluster)?;
    let user = user::choose(&cluster)?;
    if let Some(user) = &user {
        user::let_through(&data, user)?;
    }
    cluster::clear_leftovers(&data);
    cluster::end_orphan(&cluster);
    let password = files::secret(&data.join("password"), 32)?;
    if !cluster.join("PG_VERSION").exists() {
        cluster::create(&data, &programs, user.as_ref(), &password, options.fsync)?;
    }
    let (server, port) = server::start(&data, &programs, user.as_ref(), options)?;
    Ok(Postgres { server, password, port, _lock: lock })
}
