//! Who may wait for whom. Somebody holds everything that one call locks, in a transaction that stays open; a call that must not wait
//! for it comes by, with little patience.

use std::time::Duration;

use nightshift_store::{JobState, Lease, Submission, WorkerId};
use sqlx::PgConnection;

use crate::lab::{Lab, plan};

const LEASE: Duration = Duration::from_secs(10);
const TERM: Duration = Duration::from_secs(3600);

/// Two jobs: of the urgent one nothing was claimed yet, of the other one shard is leased, one lease has run out, one charge is not
/// settled and one shard waits. A tick has something to do in each of its parts.
struct Scene {
    lab: Lab,
    term: i64,
    worker: WorkerId,
    leased: Lease,
    urgent: i64,
}

impl Scene {
    async fn new() -> Self {
        let mut lab = Lab::new().await;
        let worker = lab.register("w").await;
        let term = lab.scheduler.lead("locks", TERM).await.unwrap().unwrap();
        let mut jobs = Vec::new();
        for priority in [0, 9] {
            let submission = Submission { spec: "{}".to_owned(), ..Submission::default() };
            let job = lab.user.submit(&submission).await.unwrap();
            if priority == 0 {
                lab.scheduler.planned(&term, job, &plan(job, 8, 2)).await.unwrap();
                let leases = lab.worker.claim(worker, 2, LEASE).await.unwrap();
                lab.forward(9_000).await;
                let mut first = leases[0].clone();
                lab.worker.progress(&mut first, &Default::default()).await.unwrap();
                jobs.push((job, first));
            } else {
                let mut urgent = plan(job, 8, 2);
                urgent.priority = priority;
                lab.scheduler.planned(&term, job, &urgent).await.unwrap();
                jobs.push((job, jobs[0].1.clone()));
            }
        }
        lab.forward(3_000).await;
        let (job, leased) = jobs.remove(0);
        sqlx::query("update nightshift.job_cursor set unsettled_ms = 7 where job_id = $1")
            .bind(job)
            .execute(&mut lab.admin)
            .await
            .unwrap();
        Self { term: term.term, worker, leased, urgent: jobs[0].0, lab }
    }

    /// What a worker says about the leased shard.
    fn say(&self, what: &str, rest: &str) -> String {
        let Lease { job, shard, token, .. } = self.leased;
        format!("select nightshift.{what}({}, {job}, {shard}, {token}{rest})", self.worker.0)
    }

    /// A connection that would rather fail than wait.
    async fn impatient(&self, login: &str) -> PgConnection {
        let mut connection = self.lab.connection(login).await;
        run(&mut connection, "set lock_timeout = '500ms'").await.unwrap();
        connection
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(connection).await.map(|_| ())
}

#[tokio::test]
async fn a_tick_waits_for_nobody() {
    let scene = Scene::new().await;
    let job = scene.leased.job;
    let mut tick = scene.impatient("lab_scheduler").await;
    let held = [
        ("lab_worker", scene.say("progress", "")),
        ("lab_worker", scene.say("release", "")),
        ("lab_worker", scene.say("fail", ", 'x', 'y'")),
        ("lab_worker", format!("select nightshift.claim({}, 1, 10000)", scene.worker.0)),
        ("lab_worker", format!("select nightshift.claim({}, 64, 10000)", scene.worker.0)),
        ("lab_user", format!("select nightshift.pause({job})")),
        ("lab_user", format!("select nightshift.cancel({job})")),
        ("lab_user", format!("select nightshift.hold({})", scene.urgent)),
        ("lab_user", "select nightshift.submit('{}')".to_owned()),
    ];
    for (login, call) in held {
        let mut holder = scene.lab.connection(login).await;
        run(&mut holder, &format!("begin; {call}")).await.unwrap();
        let ticked =
            run(&mut tick, &format!("begin; select nightshift.tick({}); rollback", scene.term))
                .await;
        assert!(ticked.is_ok(), "a tick waited for {call}: {ticked:?}");
        run(&mut holder, "rollback").await.unwrap();
    }
}

/// A report that comes late for a shard keeps its row locked until the report ends, and may wait for the cursor of another job.
#[tokio::test]
async fn a_retry_waits_for_a_late_report_without_keeping_its_job_from_others() {
    let mut scene = Scene::new().await;
    let job = scene.leased.job;
    scene.lab.user.cancel(job).await.unwrap();
    scene.lab.forward(LEASE.as_millis() as i64).await;
    run(
        &mut scene.lab.connection("lab_scheduler").await,
        &format!("select nightshift.tick({})", scene.term),
    )
    .await
    .unwrap();
    let mut late = scene.lab.superuser().await;
    let lock = format!("begin; select from nightshift.shard where job_id = {job} for update");
    run(&mut late, &lock).await.unwrap();
    let mut user = scene.lab.connection("lab_user").await;
    let retry = format!("select nightshift.retry({job})");
    let retry = tokio::spawn(async move { run(&mut user, &retry).await });
    while scene.lab.number(WAITING).await == 0 {
        tokio::task::yield_now().await;
    }
    let mut other = scene.impatient("lab_user").await;
    let got = run(&mut other, &format!("select nightshift.hold({job})")).await;
    assert!(got.is_ok(), "a retry waits with the cursor in hand: {got:?}");
    assert!(!retry.is_finished(), "it retried what another call has locked");
    run(&mut late, "rollback").await.unwrap();
    retry.await.unwrap().unwrap();
    let state = scene.lab.user.job(job).await.unwrap().state;
    assert_eq!(state, JobState::Ready);
}

/// Retries of this database that wait for something.
const WAITING: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and query like 'select nightshift.retry%' and state = 'active' and wait_event is not null";
