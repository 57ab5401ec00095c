//! notify: signed, at least once, whoever dies in between.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nightshift_store::{JobState, TenantSettings};
use nightshift_tests::{Process, System, specs, until};
use sha2::{Digest, Sha256};

const SECRET: &str = "an-open-sesame";
const PATIENCE: Duration = Duration::from_secs(60);

/// What arrived at the receiver.
struct Delivery {
    headers: BTreeMap<String, String>,
    body: String,
}

/// A receiver that answers deliveries in turn: 0 with silence, anything else with that status.
fn receiver(statuses: &'static [u16]) -> (u16, Receiver<Delivery>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, deliveries) = channel();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let delivery = read(&mut stream);
            let status = statuses.get(n).copied().unwrap_or(200);
            if status == 0 {
                silent.push(stream);
            } else {
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
            if told.send(delivery).is_err() {
                return;
            }
        }
    });
    (port, deliveries)
}

fn read(stream: &mut TcpStream) -> Delivery {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "POST /hook HTTP/1.1");
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Delivery { headers, body: String::from_utf8(body).unwrap() }
}

/// HMAC-SHA256 as RFC 2104 writes it, for keys of at most a block.
fn hmac(key: &str, text: &str) -> String {
    let pad = |with: u8| -> Vec<u8> {
        let mut block = vec![with; 64];
        block.iter_mut().zip(key.bytes()).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::digest([pad(0x36), text.as_bytes().to_vec()].concat());
    format!("{:x}", Sha256::digest([pad(0x5c), inner.to_vec()].concat()))
}

fn scheduler(system: &System, name: &str) -> Process {
    let mut command = system.command("lab_scheduler", &["scheduler"]);
    command.env("HOOK_SECRET", SECRET);
    Process::start(name, system.folder.path(), &mut command)
}

async fn allow(system: &System, prefix: &str) {
    let admin = nightshift_store::Store::connect(&nightshift_store::DatabaseConfig::new(
        system.database.url(),
    ))
    .await
    .unwrap();
    let settings = TenantSettings {
        webhook_prefixes: Some(vec![prefix.to_owned()]),
        secret_names: Some(vec!["HOOK_SECRET".to_owned()]),
        ..TenantSettings::default()
    };
    admin.set_tenant("default", &settings).await.unwrap();
}

fn spec(name: &str, notify: &str) -> String {
    specs::prompts(name, 2, &format!("s3://lab/{name}/")) + &format!("notify: [{notify}]\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_s_end_is_told_signed_though_the_scheduler_dies_and_the_receiver_fails() {
    let system = System::start().await;
    let (port, deliveries) = receiver(&[0, 503]);
    allow(&system, &format!("http://127.0.0.1:{port}")).await;
    let mut first = scheduler(&system, "first");
    let _worker = system.worker("worker", 1);
    let job = system
        .submit(&spec("told", &format!("{{webhook: \"http://127.0.0.1:{port}/hook\", events: [finished], secret_env: HOOK_SECRET}}")))
        .await;
    assert_eq!(system.wait(job).await.state, JobState::Finished);

    // The receiver has it and says nothing; the scheduler dies meanwhile. Its term and the delivery's time run out.
    let mut told = vec![deliveries.recv_timeout(PATIENCE).unwrap()];
    first.kill();
    let _done = system.database.sql("update nightshift.leader set leads_until = '-infinity'; update nightshift.webhook set due_at = nightshift.clock()");
    let second = scheduler(&system, "second");
    for _ in 0..2 {
        told.push(deliveries.recv_timeout(PATIENCE).unwrap());
    }
    let state = "select state || ' ' || attempts || ' ' || last_status from nightshift.webhooks";
    until(PATIENCE, "the delivery is recorded", || system.database.sql(state) == "delivered 3 200");

    let view: serde_json::Value = told[0].body.parse().unwrap();
    assert_eq!((&view["event"], &view["job"]["id"]), (&"finished".into(), &job.into()));
    assert_eq!((&view["job"]["state"], &view["job"]["n_ok"]), (&"finished".into(), &2.into()));
    for (n, delivery) in told.iter().enumerate() {
        assert_eq!(delivery.body, told[0].body, "byte for byte the same");
        assert_eq!(view["id"], delivery.headers["nightshift-event-id"].as_str());
        assert_eq!(delivery.headers["nightshift-attempt"], (n + 1).to_string());
        let signature = &delivery.headers["nightshift-signature"];
        let (at, tag) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        assert_eq!(tag, hmac(SECRET, &format!("{at}.{}", delivery.body)));
    }
    assert!(deliveries.try_recv().is_err(), "nothing is told twice once it was accepted");
    assert!(!(first.output() + &second.output()).contains(SECRET));
    let stored = system.database.sql("select string_agg(w::text, '') from nightshift.webhook w");
    assert!(!stored.contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn places_and_secrets_that_are_not_the_tenants_are_refused() {
    let system = System::start().await;
    let (port, deliveries) = receiver(&[]);
    allow(&system, "http://127.0.0.1:1").await;
    let _scheduler = scheduler(&system, "scheduler");
    for (name, notify, words) in [
        (
            "place",
            format!("{{webhook: \"http://127.0.0.1:{port}/hook\"}}"),
            "may not call http://127.0.0.1",
        ),
        (
            "secret",
            "{webhook: \"http://127.0.0.1:1/hook\", secret_env: AWS_SECRET_ACCESS_KEY}".to_owned(),
            "has no secret AWS_SECRET_ACCESS_KEY",
        ),
    ] {
        let job = system.submit(&spec(name, &notify)).await;
        let view = system.wait(job).await;
        assert_eq!(view.state, JobState::Rejected);
        let errors = view.errors.unwrap();
        assert!(errors.contains(words) && errors.contains("notify:"), "{errors}");
    }
    assert!(deliveries.try_recv().is_err());
}

/// The page of figures at an address.
fn scrape(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_the_queue_from_a_scheduler() {
    let system = System::start().await;
    let mut command = system.command("lab_scheduler", &["scheduler"]);
    command.env("NIGHTSHIFT_SCHEDULER_METRICS", "127.0.0.1:0");
    let scheduler = Process::start("scheduler", system.folder.path(), &mut command);
    let mut address = None;
    until(PATIENCE, "the scheduler says where", || {
        let said = scheduler.output();
        address = said
            .split_once("metrics at http://")
            .and_then(|(_, rest)| Some(rest.split_once("/metrics")?.0.to_owned()));
        address.is_some()
    });
    let address = address.unwrap();
    let holds = |line: &str| scrape(&address, "/metrics").lines().any(|l| l == line);
    let job = system.submit(&specs::prompts("counted", 3, "s3://lab/counted/")).await;
    for line in [
        "nightshift_jobs{state=\"ready\"} 1",
        "nightshift_active_items{status=\"waiting\"} 3",
        "nightshift_scheduler_leads 1",
        "nightshift_workers{state=\"live\"} 0",
    ] {
        until(PATIENCE, line, || holds(line));
    }
    let page = scrape(&address, "/metrics");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let value = |name: &str| -> f64 {
        let line =
            page.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}\n{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("nightshift_oldest_waiting_seconds{state=\"ready\"}") > 0.0);
    assert!(value("nightshift_tick_duration_seconds_count") >= 1.0);
    assert_eq!(
        (
            value("nightshift_webhooks_waiting "),
            value("nightshift_leases "),
            value("nightshift_expired_leases_total ")
        ),
        (0.0, 0.0, 0.0)
    );

    let _worker = system.worker("worker", 1);
    assert_eq!(system.wait(job).await.state, JobState::Finished);
    for line in [
        "nightshift_jobs{state=\"ready\"} 0",
        "nightshift_items_finished_total 3",
        "nightshift_workers{state=\"live\"} 1",
    ] {
        until(PATIENCE, line, || holds(line));
    }
    assert!(scrape(&address, "/").starts_with("HTTP/1.1 404"));
}
