//! Connections that go silent and stay open, as after a failover or behind a NAT that forgot them: nobody says that they are dead.
//! Each process notices by the deadlines of its own calls, and ends in time when it is told to.

use std::time::{Duration, Instant};

use nightshift_store::JobState;
use nightshift_tests::{Hole, Process, Signal, System, specs};

/// How long everything may take to go on by itself.
const RECOVERY: Duration = Duration::from_secs(60);
/// The deadline of a call to the database in these tests.
const CALL: Duration = Duration::from_secs(2);
/// How long a worker may take for the pictures in its slots.
const GRACE: Duration = Duration::from_secs(3);

struct Box {
    system: System,
    postgres: Hole,
    s3: Hole,
    scheduler: Process,
    worker: Process,
}

impl Box {
    /// A system whose scheduler and worker reach Postgres and S3 through holes.
    async fn start() -> Self {
        let system = System::start().await;
        let postgres = Hole::before(&system.database.url()).await;
        let s3 = Hole::before(&system.s3_endpoint()).await;
        let start = |name: &str, login: &str, arguments: &[&str]| {
            let mut command = system.command(login, arguments);
            command
                .env("NIGHTSHIFT_DATABASE_URL", postgres.through(&system.database.url_as(login)))
                .env("NIGHTSHIFT_DATABASE_TIMEOUT_MS", CALL.as_millis().to_string())
                .env("NIGHTSHIFT_WORKER_GRACE_MS", GRACE.as_millis().to_string())
                .env("AWS_ENDPOINT_URL_S3", s3.through(&system.s3_endpoint()));
            Process::start(name, system.folder.path(), &mut command)
        };
        let scheduler = start("scheduler", "lab_scheduler", &["scheduler"]);
        let worker = start("worker", "lab_worker", &["worker", "--name", "worker", "--slots", "2"]);
        Self { system, postgres, s3, scheduler, worker }
    }

    async fn submit(&self, name: &str, items: usize) -> i64 {
        let dest = format!("s3://lab/{name}/");
        self.system.submit(&specs::sized_prompts(name, items, "96x96", &dest)).await
    }

    async fn finishes(&self, job: i64, items: i64, since: Instant) {
        let view = self.system.wait(job).await;
        assert_eq!((view.state, view.n_ok), (JobState::Finished, items), "{view:?}");
        assert!(since.elapsed() < RECOVERY, "it took {:?}", since.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_processes_go_on_after_their_database_connections_went_silent() {
    let mut system = Box::start().await;
    let first = system.submit("idle-1", 2).await;
    system.finishes(first, 2, Instant::now()).await;
    system.postgres.forget_connections();
    let since = Instant::now();
    let job = system.submit("idle-2", 2).await;
    system.finishes(job, 2, since).await;
    assert!(system.scheduler.runs() && system.worker.runs(), "no process gave up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_goes_on_after_connections_went_silent_again_and_again() {
    let system = Box::start().await;
    let items = 24;
    let job = system.submit("busy", items).await;
    let (postgres, s3) = (&system.postgres, &system.s3);
    for (done, hole) in [(1, postgres), (4, s3), (8, postgres)] {
        system.system.until(job, "some items are finished", |view| view.n_ok >= done).await;
        hole.forget_connections();
    }
    system.finishes(job, items as i64, Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_in_time_while_nothing_answers() {
    for busy in [false, true] {
        let mut system = Box::start().await;
        let job = system.submit("end", 40).await;
        let at_work = if busy { 1 } else { 40 };
        system.system.until(job, "it is far enough", |view| view.n_ok >= at_work).await;
        system.postgres.swallow_everything();
        system.s3.swallow_everything();
        system.scheduler.signal(Signal::TERM);
        system.worker.signal(Signal::TERM);
        // Last words to the database take three seconds at most.
        system.scheduler.wait(Duration::from_secs(10));
        system.worker.wait(GRACE + Duration::from_secs(12));
    }
}
