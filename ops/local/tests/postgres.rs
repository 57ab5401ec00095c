//! The private cluster, with real processes: start, restart, kill, and everything that must be refused clearly.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nightshift_local::{Error, Postgres, PostgresOptions};

const CHILD: &str = "NIGHTSHIFT_TEST_POSTGRES_FOLDER";

fn quick() -> PostgresOptions {
    PostgresOptions { fsync: false, ..PostgresOptions::default() }
}

/// Runs one statement with psql and returns its output.
fn sql(url: &str, statement: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args([url, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement])
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// Whether a process with this id runs (a zombie does not).
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_folder_that_others_could_have_prepared_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = async |data: &Path| match Postgres::start(data, quick()).await {
        Err(Error::ForeignFolder { folder, .. }) => assert_eq!(folder, data),
        other => panic!("{other:?}"),
    };
    for mode in [0o777, 0o775] {
        let data = folder.path().join(format!("{mode:o}"));
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
        refused(&data).await;
    }
    let root = std::fs::metadata(folder.path()).unwrap().uid() == 0;
    if root {
        let data = folder.path().join("foreign");
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::chown(&data, Some(65_534), None).unwrap();
        refused(&data).await;
    } else {
        // Only root can give a folder away; the modes above were tried.
        assert!(Path::new("/").metadata().unwrap().uid() == 0);
        refused(Path::new("/")).await;
    }
}

#[tokio::test]
async fn keeps_data_port_and_password_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("deep/er");
    let first = Postgres::start(&data, quick()).await.unwrap();
    let url = first.url("postgres");
    sql(&url, "create table t (x text); insert into t values ('é')").unwrap();
    assert_eq!(
        sql(&url, "show server_encoding; show lc_collate; show listen_addresses").unwrap(),
        "UTF8\nC\n127.0.0.1"
    );
    assert_eq!(
        std::fs::metadata(data.join("password")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::metadata(data.join("cluster")).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let wrong = url.replacen(&std::fs::read_to_string(data.join("password")).unwrap(), "wrong", 1);
    assert!(sql(&wrong, "select 1").unwrap_err().contains("password authentication failed"));
    let pid = first.pid();
    first.stop().await.unwrap();
    assert!(!runs(pid));

    let second = Postgres::start(&data, quick()).await.unwrap();
    assert_eq!(second.url("postgres"), url);
    assert_eq!(sql(&url, "select x from t").unwrap(), "é");
    let pid = second.pid();
    drop(second);
    assert!(!runs(pid), "dropping stops it too");
}

#[tokio::test]
async fn as_root_gives_away_only_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    if folder.path().metadata().unwrap().uid() != 0 {
        return;
    }
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let data = folder.path().join("data");
    let postgres = Postgres::start(&data, quick()).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", postgres.pid())).unwrap();
    let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_owned();
    assert!(!uid.split_whitespace().any(|id| id == "0"), "{uid}");
    assert_ne!(data.join("cluster").metadata().unwrap().uid(), 0);
    for ours in [&data, &data.join("password"), &folder.path().to_path_buf()] {
        assert_eq!(ours.metadata().unwrap().uid(), 0, "{}", ours.display());
    }
    assert_eq!(
        folder.path().metadata().unwrap().permissions().mode() & 0o007,
        0,
        "closed to all others"
    );
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Postgres::start(folder.path(), quick()).await.unwrap();
    let error = Postgres::start(folder.path(), quick()).await.unwrap_err();
    assert!(
        matches!(&error, Error::AlreadyRunning { pid: Some(pid), .. } if *pid == std::process::id()),
        "{error}"
    );
    assert!(error.to_string().contains("in use by another running nightshift"), "{error}");
    assert_eq!(sql(&first.url("postgres"), "select 1").unwrap(), "1", "the first is unharmed");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_and_a_foreign_version_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = Postgres::start(folder.path(), PostgresOptions { port: Some(port), ..quick() })
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::StartFailed { tail, .. } if tail.contains("Address already in use")),
        "{error}"
    );

    std::fs::write(folder.path().join("cluster/PG_VERSION"), "9\n").unwrap();
    let error = Postgres::start(folder.path(), quick()).await.unwrap_err();
    assert!(matches!(error, Error::VersionMismatch { wanted: 9, .. }), "{error}");
}

#[tokio::test]
async fn survives_a_killed_server_and_a_stale_pid_file() {
    let folder = tempfile::tempdir().unwrap();
    let first = Postgres::start(folder.path(), quick()).await.unwrap();
    let url = first.url("postgres");
    sql(&url, "create table t as select 7 as x").unwrap();
    let server = rustix::process::Pid::from_raw(first.pid().cast_signed()).unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    drop(first);
    let pid_file = folder.path().join("cluster/postmaster.pid");
    assert!(pid_file.exists(), "a killed server leaves its pid file");
    // The id now belongs to a live process that is something else, as happens in containers.
    let text = std::fs::read_to_string(&pid_file).unwrap();
    let rest = text.split_once('\n').unwrap().1;
    std::fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();
    let second = Postgres::start(folder.path(), quick()).await.unwrap();
    assert_eq!(sql(&second.url("postgres"), "select x from t").unwrap(), "7");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_half_made_cluster_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join("initdb-0123abcd");
    std::fs::create_dir_all(half.join("cluster/base")).unwrap();
    std::fs::write(half.join("cluster/PG_VERSION"), "15").unwrap();
    let postgres = Postgres::start(folder.path(), quick()).await.unwrap();
    assert!(!half.exists());
    assert_eq!(sql(&postgres.url("postgres"), "select 1").unwrap(), "1");
    postgres.stop().await.unwrap();
}

/// Not a test of its own: the process that `the_server_dies_with_its_owner` kills.
#[tokio::test]
async fn child_process() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let postgres = Postgres::start(Path::new(&folder), quick()).await.unwrap();
    println!("\nCHILD {} {}", postgres.pid(), postgres.url("postgres"));
    std::future::pending::<()>().await;
}

fn spawn_child(folder: &Path) -> (Child, u32, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find(|line| line.starts_with("CHILD "))
        .expect("the child starts a server");
    let mut words = line.split(' ').skip(1);
    let pid = words.next().unwrap().parse().unwrap();
    (child, pid, words.next().unwrap().to_owned())
}

#[tokio::test]
async fn the_server_dies_with_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (mut owner, pid, url) = spawn_child(folder.path());
    sql(&url, "create table t as select 9 as x").unwrap();
    assert!(runs(pid));
    owner.kill().unwrap();
    owner.wait().unwrap();
    // At once, while the watchdog is still stopping the old server.
    let next = Postgres::start(folder.path(), quick()).await.unwrap();
    assert!(!runs(pid));
    assert_eq!(sql(&next.url("postgres"), "select x from t").unwrap(), "9");
    next.stop().await.unwrap();

    let (mut owner, pid, _) = spawn_child(folder.path());
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("the server ends without anybody's help", || !runs(pid));
}
