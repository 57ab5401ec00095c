//! A transaction that a tenant keeps open holds up the tenant's own jobs and nobody else's; nobody can hold a lock that all need.

use std::time::Duration;

use nightshift_store::{Error, Plan, Planned, Submission};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::lab::{Lab, all_ok, plan};

/// A transaction of alice that has called this and stays open.
async fn open(lab: &Lab, call: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&lab.url(Some("lab_user"))).await.unwrap();
    for statement in ["begin", call] {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    }
    connection
}

async fn end(mut connection: PgConnection) {
    sqlx::query("rollback").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn the_leader_leads_on_while_a_tenant_keeps_a_job_that_is_to_be_planned() {
    let lab = Lab::new().await;
    let (kept, other) = (lab.submitted().await, lab.submitted().await);
    let transaction = open(&lab, &format!("select nightshift.cancel({kept})")).await;
    let plan_it = async |job: i64| lab.scheduler.planned(&lab.term, job, &plan(job)).await;
    let (refused, led) =
        tokio::join!(plan_it(kept), lab.scheduler.lead("test", Duration::from_secs(3600)));
    assert!(matches!(&refused, Err(error) if error.is_retryable()), "{refused:?}");
    assert!(led.unwrap().is_some());
    assert_eq!(plan_it(other).await.unwrap(), Planned::Ready);
    let rejected = lab.scheduler.rejected(&lab.term, kept, "bad", None, None);
    assert!(rejected.await.unwrap_err().is_retryable());
    lab.tick().await;
    end(transaction).await;
    assert_eq!(plan_it(kept).await.unwrap(), Planned::Ready);
}

#[tokio::test]
async fn a_worker_goes_on_while_a_tenant_keeps_one_of_its_jobs() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let kept = lab.ready_with(|plan| Plan { priority: 60, ..plan }).await;
    let lease = lab.claim(worker).await;
    assert_eq!(lease.job, kept);
    let other = lab.ready_of("blue", 2).await;
    let transaction = open(&lab, &format!("select nightshift.pause({kept})")).await;

    let finished = lab.worker.finish(&lease, &all_ok(&lease)).await;
    assert!(matches!(&finished, Err(Error::Locked(_))), "{finished:?}");
    // Who asks for work is not kept from a lower priority either.
    let claimed = lab.claim(worker).await;
    assert_eq!(claimed.job, other);
    lab.worker.finish(&claimed, &all_ok(&claimed)).await.unwrap();

    end(transaction).await;
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    assert_eq!(lab.job(kept).await.n_ok, 4);
}

#[tokio::test]
async fn advisory_locks_of_a_tenant_hold_up_nobody() {
    let lab = Lab::new().await;
    let names = ["document", "destination"];
    let locks: Vec<String> = names
        .iter()
        .map(|name| format!("pg_advisory_lock(hashtext('nightshift.{name}'))"))
        .collect();
    let holder = open(&lab, &format!("select {}", locks.join(", "))).await;
    let submission = Submission {
        spec: "kind: text_to_image".to_owned(),
        tenant: Some("blue".to_owned()),
        ..Submission::default()
    };
    let job = tokio::time::timeout(Duration::from_secs(10), lab.bob.submit(&submission))
        .await
        .expect("submitting waits for no lock of another tenant")
        .unwrap();
    let planned = lab.scheduler.planned(&lab.term, job, &plan(job)).await;
    assert_eq!(planned.unwrap(), Planned::Ready);
    end(holder).await;
}
