//! Debian's PgBouncer in transaction mode, in front of a test's database.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::Database;
use crate::process::{Process, until};
use nightshift_lab::{PASSWORD, psql};

/// A running pooler. Ends when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    process: Process,
    /// Readable for everybody: as root the pooler becomes another user before it reads its files.
    _folder: TempDir,
}

impl PgBouncer {
    /// With at most `server_connections` to the server, whoever asks. `None`: this machine has no PgBouncer.
    ///
    /// # Panics
    /// When it is there and does not start.
    #[must_use]
    pub fn start(database: &Database, server_connections: u32) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("an open folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let logins = ["lab_user", "lab_scheduler", "lab_worker"];
        let users: String =
            logins.iter().map(|login| format!("\"{login}\" \"{PASSWORD}\"\n")).collect();
        let users_file = folder.path().join("users.txt");
        std::fs::write(&users_file, users).expect("a file");
        let config = folder.path().join("pgbouncer.ini");
        std::fs::write(
            &config,
            format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
                 default_pool_size = {server_connections}\nmax_db_connections = {server_connections}\nadmin_users = lab_user\n",
                database.port(),
                users_file.display()
            ),
        )
        .expect("a file");
        let mut command = Command::new(program);
        // Refuses to run as root; for anybody else the user is nothing but himself.
        if is_root() {
            command.args(["-u", "nobody"]);
        }
        let process = Process::start("pgbouncer", folder.path(), command.arg(&config));
        until(Duration::from_secs(10), "PgBouncer listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(Self { port, process, _folder: folder })
    }

    /// URL of the database through the pooler.
    #[must_use]
    pub fn url_as(&self, login: &str, database: &Database) -> String {
        let name = database.name();
        format!("postgres://{login}:{PASSWORD}@127.0.0.1:{}/{name}", self.port)
    }

    /// Rows of a `show` command of its console.
    ///
    /// # Panics
    /// When the console does not answer.
    #[must_use]
    pub fn show(&self, what: &str) -> Vec<String> {
        let url = format!("postgres://lab_user:{PASSWORD}@127.0.0.1:{}/pgbouncer", self.port);
        psql(&url, &format!("show {what}")).lines().map(str::to_owned).collect()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|own| own.uid() == 0)
}
