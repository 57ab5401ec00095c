//! Everything through a pooler in transaction mode.

use std::process::Command;
use std::time::Duration;

use nightshift_store::JobState;
use nightshift_tests::pgbouncer::PgBouncer;
use nightshift_tests::{Process, System, specs, until};

const SERVER_CONNECTIONS: u32 = 2;
const ITEMS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn eight_clients_share_two_connections_of_a_pooler() {
    let system = System::start().await;
    let Some(pooler) = PgBouncer::start(&system.database, SERVER_CONNECTIONS) else {
        println!(
            "skipped: there is no pgbouncer on this machine (Debian: apt-get install pgbouncer)"
        );
        return;
    };
    let through = |login: &str, arguments: &[&str]| -> Command {
        let mut command = system.command(login, arguments);
        command
            .env("NIGHTSHIFT_DATABASE_URL", pooler.url_as(login, &system.database))
            .env("NIGHTSHIFT_DATABASE_POOLER", "transaction");
        command
    };
    let start = |name: &str, login: &str, arguments: &[&str]| {
        Process::start(name, system.folder.path(), &mut through(login, arguments))
    };
    let submit = || {
        let done = through("lab_user", &["submit", "job.yaml"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };

    // Hints travel around the pooler to the scheduler; the workers have no such way and poll.
    let mut scheduler = through("lab_scheduler", &["scheduler"]);
    scheduler.env("NIGHTSHIFT_DATABASE_DIRECT_URL", system.database.url_as("lab_scheduler"));
    let mut clients = vec![Process::start("scheduler", system.folder.path(), &mut scheduler)];
    let spec = specs::prompts("pooled", ITEMS, "s3://lab/pooled/");
    std::fs::write(system.folder.path().join("job.yaml"), spec).unwrap();
    let job = submit();
    let mut waiting: Vec<Process> =
        (0..4).map(|n| start(&format!("wait-{n}"), "lab_user", &["wait", &job])).collect();
    let application = |row: &String| row.contains("nightshift");
    until(Duration::from_secs(30), "five clients are at the pooler", || {
        pooler.show("clients").iter().filter(|row| application(row)).count() >= 5
    });
    for n in 0..3 {
        let name = format!("worker-{n}");
        let arguments = ["worker", "--name", &name, "--slots", "1"];
        clients.push(start(&name, "lab_worker", &arguments));
    }
    until(Duration::from_secs(30), "three workers are registered", || {
        system.database.sql("select count(*) from nightshift.worker") == "3"
    });
    for client in &mut waiting {
        let status = client.wait(Duration::from_secs(120));
        assert!(status.success(), "{}", client.output());
    }
    let view = system.wait(job.parse().unwrap()).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, ITEMS as i64));
    assert_eq!(system.list("pooled/data/").await.len(), ITEMS);

    // All of it on two server connections, and no statement was left behind on them: nobody was refused.
    let servers = pooler.show("servers").len();
    assert!((1..=SERVER_CONNECTIONS as usize).contains(&servers), "{servers} server connections");
    for client in clients.iter().chain(&waiting) {
        assert!(!client.output().contains("prepared statement"), "{}", client.output());
    }
    let more: Vec<String> = (0..3).map(|_| submit()).collect();
    assert_eq!(more.len(), 3, "{}", pooler.log());
}
