//! The cluster's folder: made once by `initdb`, cleaned up after a kill.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::binaries::Programs;
use super::user::User;
use crate::{Error, files};

/// Name of the superuser inside the cluster, whatever the system's users are called.
pub(super) const SUPERUSER: &str = "postgres";
const STAGING: &str = "initdb-";

/// Makes `data/cluster`. It is made beside and renamed, so that a kill in the middle leaves no half cluster.
pub(super) fn create(
    data: &Path,
    programs: &Programs,
    user: Option<&User>,
    password: &str,
    fsync: bool,
) -> Result<(), Error> {
    let staging = data.join(format!("{STAGING}{}", files::random_hex(8)?));
    let wrap = || Error::io(format!("make {}", staging.display()));
    std::fs::create_dir(&staging).map_err(wrap())?;
    std::fs::set_permissions(&staging, Permissions::from_mode(0o700)).map_err(wrap())?;
    let password_file = staging.join("password");
    files::write_private(&password_file, password.as_bytes())?;
    if let Some(user) = user {
        chown(&staging, Some(user.uid), Some(user.gid)).map_err(wrap())?;
        chown(&password_file, Some(user.uid), Some(user.gid)).map_err(wrap())?;
    }
    let made = staging.join("cluster");
    let mut command = command(&programs.initdb(), user);
    command.arg("--pgdata").arg(&made).arg("--pwfile").arg(&password_file);
    command.args([
        "--username",
        SUPERUSER,
        "--encoding=UTF8",
        "--locale=C",
        "--auth=scram-sha-256",
    ]);
    if !fsync {
        command.arg("--no-sync");
    }
    let output =
        command.current_dir("/").stdin(Stdio::null()).output().map_err(Error::io("run initdb"))?;
    if !output.status.success() {
        let output = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let _ = std::fs::remove_dir_all(&staging);
        return Err(Error::InitFailed { output: output.trim().to_owned() });
    }
    std::fs::rename(&made, data.join("cluster"))
        .map_err(Error::io(format!("move the new cluster into {}", data.display())))?;
    std::fs::remove_dir_all(&staging).map_err(Error::io(format!("remove {}", staging.display())))
}

/// A command that runs as `user`, untouched by the caller's `PG*` settings and by signals to the caller's process group (Ctrl-C in a terminal).
pub(super) fn command(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").process_group(0);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Removes what an `initdb` that was killed left behind. The caller holds the folder's lock.
pub(super) fn clear_leftovers(data: &Path) {
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGING) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Waits for the server of an owner that was killed: its watchdog is stopping it right now. The caller holds the folder's lock, so no other process uses it.
///
/// A pid file whose process is something else by now (ids are reused, above all in containers) is removed: the server itself would refuse to start.
pub(super) fn end_orphan(cluster: &Path) {
    let pid_file = cluster.join("postmaster.pid");
    let deadline = Instant::now() + Duration::from_secs(15);
    while let Some(pid) = read_pid(&pid_file) {
        if !is_server_of(pid, cluster) {
            let _ = std::fs::remove_file(&pid_file);
            return;
        }
        if Instant::now() > deadline {
            // Left to the server's own check, which names the process.
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read_pid(pid_file: &Path) -> Option<u32> {
    std::fs::read_to_string(pid_file).ok()?.lines().next()?.trim().parse().ok()
}

/// Whether process `pid` is alive and a server of this cluster: its command line, which everybody may read, names the folder.
fn is_server_of(pid: u32, cluster: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    if !Path::new("/proc/self/cmdline").exists() {
        // No such listing on this system: let the server judge.
        return true;
    }
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    line.split(|byte| *byte == 0).any(|argument| argument == cluster.as_os_str().as_bytes())
}
