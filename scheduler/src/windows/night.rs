//! A simulated day around a night on which the clock is set: one job for each rule of what happens when the window closes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nightshift_local::{Postgres, PostgresOptions};
use nightshift_objects::{Objects, StoreConfig};
use nightshift_store::{
    Artifact, DatabaseConfig, ItemReport, ItemStatus, JobState, Lease, LoginKind, Registration,
    Report, Store, Submission, Verdict, WorkerId,
};
use tokio::sync::watch;

use super::refresh_windows;
use crate::plan::plan_job;

const PASSWORD: &str = "test";
/// The longest that the database grants.
const LEASE: Duration = Duration::from_secs(3600);
const MINUTE: i64 = 60_000;
/// Simulated time between two looks of everybody.
const STEP: i64 = 5 * MINUTE;
/// How long an item is in its slot.
const ITEM: i64 = 25 * MINUTE;

/// A database whose clock stands where the test puts it.
struct Lab {
    _folder: tempfile::TempDir,
    url: String,
    user: Store,
    scheduler: Store,
    worker: Store,
    psql: Child,
    answers: BufReader<std::process::ChildStdout>,
    _own: Option<Postgres>,
}

impl Lab {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cluster, own) = match std::env::var("NIGHTSHIFT_TEST_CLUSTER") {
            Ok(url) => (url, None),
            Err(_) => {
                let options = PostgresOptions {
                    fsync: false,
                    ..PostgresOptions::default()
                };
                let postgres = Postgres::start(&folder.path().join("postgres"), options)
                    .await
                    .unwrap();
                let url = postgres.url("").trim_end_matches('/').to_owned();
                (url, Some(postgres))
            }
        };
        let database = format!("night_{}", std::process::id());
        let made = Command::new("psql")
            .args(["-Xqc", &format!("create database {database}")])
            .arg(format!("{cluster}/postgres"))
            .status()
            .unwrap();
        assert!(made.success(), "no database");
        let url = format!("{cluster}/{database}");
        nightshift_store::migrate(&url).await.unwrap();
        let admin = Store::connect(&DatabaseConfig::new(&url)).await.unwrap();
        let everything = ["s3://".to_owned()];
        admin
            .set_prefixes("default", &everything, &everything)
            .await
            .unwrap();
        for (kind, name, tenant) in [
            (LoginKind::Tenant, "night_user", Some("default")),
            (LoginKind::Scheduler, "night_scheduler", None),
            (LoginKind::Worker, "night_worker", None),
        ] {
            admin
                .create_login(kind, name, PASSWORD, tenant)
                .await
                .unwrap();
        }
        let mut psql = Command::new("psql")
            .args(["-Xqt", "-v", "ON_ERROR_STOP=1", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(psql.stdout.take().unwrap());
        let connect = async |login: &str| {
            let host = url.rsplit('@').next().unwrap();
            let url = format!("postgres://{login}:{PASSWORD}@{host}");
            Store::connect(&DatabaseConfig::new(url)).await.unwrap()
        };
        let mut lab = Self {
            user: connect("night_user").await,
            scheduler: connect("night_scheduler").await,
            worker: connect("night_worker").await,
            _folder: folder,
            url: url.clone(),
            psql,
            answers,
            _own: own,
        };
        lab.sql(
            "create schema lab; grant usage on schema lab to nightshift_owner;
            create table lab.clock (at timestamptz not null); insert into lab.clock values ('epoch');
            grant select on lab.clock to nightshift_owner;
            create or replace function nightshift.clock() returns timestamptz language sql stable as 'select at from lab.clock';",
        );
        lab
    }

    fn sql(&mut self, statements: &str) {
        let input = self.psql.stdin.as_mut().unwrap();
        writeln!(input, "{statements}\n\\echo done").unwrap();
        let mut line = String::new();
        while line.trim() != "done" {
            line.clear();
            let read = self.answers.read_line(&mut line).unwrap();
            assert!(read > 0, "psql ended at {statements} in {}", self.url);
        }
    }

    fn set_clock(&mut self, unix_ms: i64) {
        self.sql(&format!(
            "update lab.clock set at = to_timestamp({unix_ms} / 1000.0);"
        ));
    }

    /// What a leading scheduler does in one look.
    async fn look(&self, objects: &Objects) {
        let term = self.scheduler.lead("night", Duration::from_secs(600)).await;
        let term = term.unwrap().unwrap();
        self.scheduler.tick(&term).await.unwrap();
        refresh_windows(&self.scheduler, &term).await.unwrap();
        for job in self.scheduler.submitted(&term, 10).await.unwrap() {
            let (_, term) = watch::channel(term.clone());
            plan_job(&self.scheduler, objects, &term, &job)
                .await
                .unwrap();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.psql.stdin.take());
        let _ = self.psql.wait();
    }
}

/// A worker of one slot, and what became of the job that its label leads it to.
struct Machine {
    id: WorkerId,
    lease: Option<Lease>,
    /// The item in the slot, and since when.
    slot: Option<(i64, i64)>,
    /// Items of the lease that nobody has begun.
    next_item: i64,
    draining: bool,
    claimed: Vec<i64>,
    /// Begin and end of every item.
    items: Vec<(i64, i64)>,
    shards_finished: usize,
}

impl Machine {
    async fn new(lab: &Lab, rule: &str) -> Self {
        let registration = Registration {
            name: rule.to_owned(),
            models: [("tiny/f32/f32".to_owned(), "f00d".to_owned())].into(),
            info: serde_json::json!({"labels": {"rule": rule}, "slots": 1}),
        };
        Self {
            id: lab.worker.register(&registration).await.unwrap(),
            lease: None,
            slot: None,
            next_item: 0,
            draining: false,
            claimed: Vec::new(),
            items: Vec::new(),
            shards_finished: 0,
        }
    }

    /// Finish the item in the slot, report, and go on with the next one unless told otherwise.
    async fn step(&mut self, lab: &Lab, now: i64) {
        let mut report = Report::default();
        if let Some((index, since)) = self.slot
            && now >= since + ITEM
        {
            self.items.push((since, now));
            report.items.push(done(index));
            self.slot = None;
        }
        if let Some(mut lease) = self.lease.take() {
            report.in_flight = self.slot.iter().map(|(index, _)| *index).collect();
            let verdict = lab.worker.progress(&mut lease, &report).await.unwrap();
            self.draining |= verdict == Verdict::Drain;
            assert!(matches!(verdict, Verdict::Continue | Verdict::Drain));
            let idle = self.slot.is_none();
            if idle && self.next_item == lease.end_item {
                let finished = lab.worker.finish(&lease, &Report::default()).await;
                finished.unwrap();
                self.shards_finished += 1;
            } else if idle && self.draining {
                let released = lab.worker.release(&lease, &Report::default()).await;
                released.unwrap();
            } else {
                self.lease = Some(lease);
            }
        }
        if self.lease.is_none() {
            self.draining = false;
            let mut leases = lab.worker.claim(self.id, 1, LEASE).await.unwrap();
            if let Some(lease) = leases.pop() {
                self.claimed.push(now);
                let finished = lab.worker.finished(&lease, -1, 100).await.unwrap();
                self.next_item = lease.first_item + finished.len() as i64;
                self.lease = Some(lease);
            }
        }
        if let Some(lease) = &self.lease
            && self.slot.is_none()
            && !self.draining
            && self.next_item < lease.end_item
        {
            self.slot = Some((self.next_item, now));
            self.next_item += 1;
        }
    }
}

fn done(index: i64) -> ItemReport {
    ItemReport {
        index,
        status: ItemStatus::Ok,
        item_id: Some(format!("{index:032x}")),
        seed: Some(index),
        fingerprint: Some("f00d".to_owned()),
        error_code: None,
        error_message: None,
        artifacts: vec![Artifact {
            role: "image".to_owned(),
            key: format!("{index}.png"),
            bytes: 1,
            sha256: format!("{index:064x}"),
        }],
        gpu_ms: Some(i32::try_from(ITEM).unwrap()),
        tokens: None,
        steps: None,
        info: None,
    }
}

/// A night in Europe/Berlin, 22:00 to 06:00, in Unix milliseconds.
struct Night {
    opens: i64,
    closes: i64,
    opens_again: i64,
}

/// Nine hours: the clock is set back.
const AUTUMN: Night = Night {
    opens: 1_792_872_000_000,
    closes: 1_792_904_400_000,
    opens_again: 1_792_962_000_000,
};
/// Seven hours: the clock is set forward.
const SPRING: Night = Night {
    opens: 1_774_731_600_000,
    closes: 1_774_756_800_000,
    opens_again: 1_774_814_400_000,
};

fn spec(rule: &str) -> String {
    format!(
        "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: {rule}}}\ninput: {{inline: [{{prompt: a night}}]}}\n\
         generate: {{size: 64x64, images_per_prompt: 400, seeds: {{start: 1}}}}\nmodel: {{name: tiny, weights: f32, kv_cache: f32}}\n\
         schedule: {{window: \"22:00-06:00 Europe/Berlin\", when_window_closes: {rule}}}\n\
         resources: {{labels: {{rule: {rule}}}, shard_items: 4}}\noutput: {{dest: \"s3://outputs/{rule}/\"}}\n"
    )
}

async fn simulate(night: &Night) {
    let mut lab = Lab::new().await;
    let objects = Objects::connect(StoreConfig {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        access_key_id: Some("none".to_owned()),
        secret_access_key: Some("none".to_owned()),
        ..StoreConfig::default()
    })
    .await
    .unwrap();
    let noon = night.opens - 10 * 60 * MINUTE;
    lab.set_clock(noon);
    let mut machines = Vec::new();
    let mut jobs = Vec::new();
    for rule in ["pause", "finish_item", "overrun"] {
        let submission = Submission {
            spec: spec(rule),
            ..Submission::default()
        };
        jobs.push(lab.user.submit(&submission).await.unwrap());
        machines.push(Machine::new(&lab, rule).await);
    }
    let mut now = noon;
    while now < noon + 24 * 60 * MINUTE {
        lab.set_clock(now);
        // It is down around the closing, and for long after.
        if now < night.closes - 10 * MINUTE || now > night.closes + 4 * 60 * MINUTE {
            lab.look(&objects).await;
        }
        for machine in &mut machines {
            machine.step(&lab, now).await;
        }
        now += STEP;
    }
    for machine in &machines {
        assert!(machine.claimed.len() >= 4, "{:?}", machine.claimed);
        let outside = |at: &&i64| !(night.opens..night.closes).contains(*at);
        assert_eq!(machine.claimed.iter().find(outside), None);
        assert_eq!(machine.claimed[0], night.opens);
    }
    let [pause, finish_item, overrun] = &machines[..] else {
        panic!("three machines");
    };
    let last = |machine: &Machine| *machine.items.last().unwrap();
    let (begun, ended) = last(pause);
    assert!(ended <= night.closes, "an item was in hand after the end");
    // One more would have lasted beyond it, and none was left out that would not.
    assert!(begun + 2 * ITEM + STEP > night.closes);
    let (begun, ended) = last(finish_item);
    assert!(begun < night.closes && ended > night.closes);
    assert!(finish_item.lease.is_none() && finish_item.slot.is_none());
    assert_eq!(overrun.items.len(), 4 * overrun.claimed.len());
    assert_eq!(overrun.shards_finished, overrun.claimed.len());
    assert!(last(overrun).1 > night.closes + ITEM);
    // All go on the next night, and say so.
    for (job, machine) in jobs.iter().zip(&machines) {
        let view = lab.user.job(*job).await.unwrap();
        assert_eq!(view.state, JobState::Ready);
        assert_eq!(view.n_ok, machine.items.len() as i64);
    }
    lab.set_clock(night.opens_again - 1);
    for machine in &mut machines {
        machine.step(&lab, night.opens_again - 1).await;
        assert!(machine.lease.is_none());
    }
    lab.set_clock(night.opens_again);
    for machine in &mut machines {
        machine.step(&lab, night.opens_again).await;
        assert!(machine.lease.is_some());
    }
}

#[tokio::test]
async fn nothing_starts_outside_a_night_on_which_the_clock_is_set_back() {
    simulate(&AUTUMN).await;
}

#[tokio::test]
async fn nothing_starts_outside_a_night_on_which_the_clock_is_set_forward() {
    simulate(&SPRING).await;
}
