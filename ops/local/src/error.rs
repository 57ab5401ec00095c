//! What can go wrong while a local server starts, by what the user can do about it.

use std::path::PathBuf;

/// Why a local server did not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server programs of PostgreSQL are not on this machine.
    #[error(
        "the PostgreSQL server programs (initdb, postgres) were not found; looked in: {looked}\nhelp: install them with `apt-get install postgresql`, or use a server of your own with NIGHTSHIFT_DATABASE_URL"
    )]
    BinariesMissing {
        /// The folders that were searched, comma separated.
        looked: String,
    },
    /// The cluster on disk was made by another major version than any that is installed.
    #[error(
        "the cluster in {} was made by PostgreSQL {wanted}, and only {found} is installed\nhelp: `apt-get install postgresql-{wanted}`, or move the folder away to start with an empty database", .cluster.display()
    )]
    VersionMismatch {
        /// The cluster's folder.
        cluster: PathBuf,
        /// Major version that made it.
        wanted: u32,
        /// Major versions that are installed, comma separated.
        found: String,
    },
    /// Another live process uses this data folder.
    #[error("{} is in use by another running nightshift{}; stop that one first, or choose another data folder", .data.display(), .pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    AlreadyRunning {
        /// The data folder.
        data: PathBuf,
        /// The process that uses it, if it could be told.
        pid: Option<u32>,
    },
    /// We are root, and there is no user to run the server as (PostgreSQL refuses to run as root).
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor `nobody` to run it as"
    )]
    NoUnprivilegedUser,
    /// The user that runs the server cannot reach the data folder.
    #[error(
        "user `{user}`, which runs PostgreSQL because it refuses to run as root, cannot enter {}\nhelp: `chmod o+x {}`, or choose a data folder elsewhere, for example below /var/lib", .folder.display(), .folder.display()
    )]
    NotTraversable {
        /// The folder that is closed to it.
        folder: PathBuf,
        /// The user's name.
        user: String,
    },
    /// The cluster belongs to someone else, so that we can neither read nor run it.
    #[error("{} belongs to user id {owner}, and this process runs as user id {uid}; run as that user, or choose another data folder", .cluster.display())]
    ForeignOwner {
        /// The cluster's folder.
        cluster: PathBuf,
        /// User id that owns it.
        owner: u32,
        /// Our own user id.
        uid: u32,
    },
    /// Somebody else owns a data folder or may write into it, and could make this process obey what lies there.
    #[error("{} belongs to user id {owner} and has mode {mode:o}; a data folder must belong to you and not be writable by others\nhelp: `chmod go-w {}` if it is yours, else choose another data folder", .folder.display(), .folder.display())]
    ForeignFolder {
        /// The folder.
        folder: PathBuf,
        /// User id that owns it.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// `initdb` failed.
    #[error("initdb could not make a cluster: {output}")]
    InitFailed {
        /// What initdb said.
        output: String,
    },
    /// The server ended before it was ready.
    #[error("PostgreSQL ended before it was ready ({status}); the end of {} reads:\n{tail}", .log.display())]
    StartFailed {
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// Last lines of the log.
        tail: String,
    },
    /// The server was not ready in time; it has been stopped again.
    #[error("PostgreSQL was not ready after {seconds} s; the end of {} reads:\n{tail}", .log.display())]
    StartTimeout {
        /// How long we waited.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
        /// Last lines of the log.
        tail: String,
    },
    /// The address asked for is not on the loopback interface; local servers never listen elsewhere.
    #[error("a local server listens on the loopback interface only, not on {addr}")]
    NotLoopback {
        /// The address asked for.
        addr: std::net::SocketAddr,
    },
    /// A file, folder or socket could not be used.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// Wraps an I/O error with what was tried; meant for `map_err`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
