//! The server process and its watchdog.
//!
//! The server must end when we end, even by SIGKILL. `PR_SET_PDEATHSIG` does not do: it follows the thread that forked, and is cleared when the user changes.
//! So a small shell holds the reading end of a pipe whose writing end only we hold: when we are gone, however that came, it reads the end of file and stops the
//! server. It is started first and told the server's process id before the server may run, so there is no moment at which a kill leaves a server behind.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use super::binaries::Programs;
use super::user::User;
use super::{PostgresOptions, cluster};
use crate::{Error, files};

/// First line: the server's process id. Then names of signals to send. `done`: the server is gone, nothing to do. End of file: our owner died.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM QUIT PIPE
read -r pid || exit 0
while read -r line; do
  [ "$line" = done ] && exit 0
  kill -s "$line" "$pid" 2>/dev/null
done
for signal in INT QUIT KILL; do
  kill -s "$signal" "$pid" 2>/dev/null || exit 0
  tries=0
  while [ "$tries" -lt 50 ]; do
    kill -0 "$pid" 2>/dev/null || exit 0
    sleep 0.1
    tries=$((tries + 1))
  done
done
"#;

/// Waits for the word to go, then becomes the server.
const GATE: &str = r#"read -r go || exit 1; exec "$@" </dev/null"#;

const STOP_STEP: Duration = Duration::from_secs(10);
const LOG_LIMIT_BYTES: u64 = 8 << 20;

/// A running server and the watchdog beside it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    watchdog: Child,
    orders: Option<ChildStdin>,
    ended: bool,
}

/// Starts the server and waits until it accepts connections; returns it with its port.
pub(super) fn start(
    data: &Path,
    programs: &Programs,
    user: Option<&User>,
    options: &PostgresOptions,
) -> Result<(Server, u16), Error> {
    let deadline = Instant::now() + options.start_timeout;
    let log = data.join("postgres.log");
    loop {
        let port = choose_port(data, options.port)?;
        let log_start = rotate(&log);
        let mut server = spawn(data, programs, user, options, port, &log)?;
        match server.wait_ready(&data.join("cluster"), deadline) {
            Ready::Yes => {
                // Only a hint for the next start, so a failure costs nothing.
                let _ = files::write_private(&data.join("port"), port.to_string().as_bytes());
                return Ok((server, port));
            }
            Ready::Late => {
                let tail = tail(&log, log_start);
                server.stop()?;
                return Err(Error::StartTimeout {
                    seconds: options.start_timeout.as_secs(),
                    log,
                    tail,
                });
            }
            Ready::Ended(status) => {
                let tail = tail(&log, log_start);
                // Two things pass by themselves: somebody took the free port first; the children of a killed server still hold its memory.
                let passes = (tail.contains("Address already in use") && options.port.is_none())
                    || tail.contains("shared memory block");
                if !passes || Instant::now() > deadline {
                    return Err(Error::StartFailed { status, log, tail });
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

enum Ready {
    Yes,
    Late,
    Ended(String),
}

fn spawn(
    data: &Path,
    programs: &Programs,
    user: Option<&User>,
    options: &PostgresOptions,
    port: u16,
    log: &Path,
) -> Result<Server, Error> {
    let output = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log)
        .map_err(Error::io(format!("open {}", log.display())))?;
    let errors = output.try_clone().map_err(Error::io("copy a file handle"))?;
    let shell = Path::new("/bin/sh");
    let mut watchdog = cluster::command(shell, user)
        .args(["-c", WATCHDOG])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("start the database's watchdog"))?;
    let orders = watchdog.stdin.take();
    let mut gate = cluster::command(shell, user);
    gate.args(["-c", GATE, "sh"])
        .arg(programs.postgres())
        .arg("-D")
        .arg(data.join("cluster"))
        .args(settings(options, port));
    let spawned = gate.current_dir("/").stdin(Stdio::piped()).stdout(output).stderr(errors).spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(error) => {
            drop(orders);
            let _ = watchdog.wait();
            return Err(Error::io(format!("start {}", programs.postgres().display()))(error));
        }
    };
    let mut server = Server { child, watchdog, orders, ended: false };
    let pid = server.child.id().to_string();
    server.order(&pid)?;
    let mut go = server.child.stdin.take().expect("stdin was asked to be a pipe");
    go.write_all(b"go\n").map_err(Error::io("start the database"))?;
    Ok(server)
}

fn settings(options: &PostgresOptions, port: u16) -> Vec<String> {
    let switch = |on: bool| if on { "on" } else { "off" };
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        // No socket file: its path is limited to about 100 bytes, and the data folder's is not.
        "unix_socket_directories=".to_owned(),
        "password_encryption=scram-sha-256".to_owned(),
        format!("max_connections={}", options.max_connections),
        format!("fsync={}", switch(options.fsync)),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        // Many short statements and no long ones: compiling them costs more than it gives.
        "jit=off".to_owned(),
        // Rows of shards are written twice and lie dead beside themselves until somebody looks: in a minute, 100,000 of them.
        "autovacuum_naptime=10s".to_owned(),
    ];
    if !options.fsync {
        // Not synchronous_commit=off as well: then a killed server, not only a crashed machine, would lose commits.
        settings.push("full_page_writes=off".to_owned());
    }
    settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

/// The port asked for, else the one of last time if it is free (so that connection strings live through a restart), else any free one.
fn choose_port(data: &Path, wanted: Option<u16>) -> Result<u16, Error> {
    if let Some(port) = wanted {
        return Ok(port);
    }
    let last = std::fs::read_to_string(data.join("port"))
        .ok()
        .and_then(|text| text.trim().parse::<u16>().ok());
    let free = |port: u16| {
        TcpListener::bind(("127.0.0.1", port))
            .and_then(|listener| listener.local_addr())
            .map(|addr| addr.port())
    };
    if let Some(port) = last.and_then(|port| free(port).ok()) {
        return Ok(port);
    }
    free(0).map_err(Error::io("find a free port on 127.0.0.1"))
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the server and waits for its end: first politely, after ten seconds at once, then by force. All three leave a cluster that starts again.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        for signal in ["INT", "QUIT", "KILL"] {
            if self.ended {
                break;
            }
            // A refused order means that the watchdog is gone; the last resort below needs none.
            let _ = self.order(signal);
            if signal == "KILL" {
                let _ = self.child.kill();
            }
            let deadline = Instant::now() + STOP_STEP;
            while !self.ended && Instant::now() < deadline {
                if self.poll()?.is_none() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        let _ = self.order("done");
        self.orders = None;
        self.watchdog.wait().map_err(Error::io("wait for the database's watchdog"))?;
        Ok(())
    }

    fn order(&mut self, line: &str) -> Result<(), Error> {
        let Some(orders) = &mut self.orders else {
            return Ok(());
        };
        orders
            .write_all(format!("{line}\n").as_bytes())
            .map_err(Error::io("reach the database's watchdog"))
    }

    /// How the server ended, if it has.
    fn poll(&mut self) -> Result<Option<String>, Error> {
        let status = self.child.try_wait().map_err(Error::io("wait for the database"))?;
        if status.is_some() && !self.ended {
            self.ended = true;
            // From now on the process id may belong to anybody.
            let _ = self.order("done");
        }
        Ok(status.map(|status| status.to_string()))
    }

    fn wait_ready(&mut self, cluster: &Path, deadline: Instant) -> Ready {
        let pid_file = cluster.join("postmaster.pid");
        loop {
            match self.poll() {
                Ok(Some(status)) => return Ready::Ended(status),
                Err(error) => return Ready::Ended(error.to_string()),
                Ok(None) if is_ready(&pid_file, self.pid()) => return Ready::Yes,
                Ok(None) if Instant::now() > deadline => return Ready::Late,
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.orders.is_some()
            && let Err(error) = self.stop()
        {
            tracing::warn!(%error, "the local database did not stop cleanly");
        }
    }
}

/// The server writes its state into the eighth line of its pid file: `ready` once it accepts connections.
fn is_ready(pid_file: &Path, pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(pid_file) else {
        return false;
    };
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// Keeps the log small: what is over the limit moves to one older file. Returns where the new run's lines begin.
fn rotate(log: &Path) -> u64 {
    let length = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
    if length > LOG_LIMIT_BYTES && std::fs::rename(log, log.with_extension("log.old")).is_ok() {
        return 0;
    }
    length
}

/// The last lines that the log gained since `start`.
fn tail(log: &PathBuf, start: u64) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log)
        && file.seek(SeekFrom::Start(start)).is_ok()
    {
        let _ = file.take(LOG_LIMIT_BYTES).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
