//! Users who cancel and retry, beside leases that run out and workers who report too late: no call may meet a deadlock.

use std::time::Duration;

use nightshift_store::{Call, Error, Only, Report, Store, Submission, WorkerId};

use crate::lab::{Lab, plan};
use crate::op::Chance;
use crate::storm;

const LEASE: Duration = Duration::from_secs(10);
const TERM: Duration = Duration::from_secs(3600);
const JOBS: usize = 3;
const DEADLOCK: &str = "40P01";

/// Calls that were made, and deadlocks among them.
#[derive(Debug, Default)]
struct Count {
    calls: usize,
    deadlocks: usize,
}

impl Count {
    /// Notes how a call ended; whatever is neither an answer nor a refusal nor a deadlock is a bug of another kind.
    fn note<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        self.calls += 1;
        match answer {
            Ok(answer) => return Some(answer),
            Err(Error::Refused { .. } | Error::LeaseLost) => {}
            Err(error) => {
                let words = format!("{error:?}");
                assert!(words.contains(DEADLOCK), "{words}");
                self.deadlocks += 1;
            }
        }
        None
    }
}

#[tokio::test]
async fn retries_beside_leases_that_run_out_meet_no_deadlock() {
    // The clock goes five seconds forward in each: all of them fit into a term.
    let rounds = if crate::is_full() { 600 } else { 100 };
    let mut lab = Lab::new().await;
    let term = lab.scheduler.lead("storm", TERM).await.unwrap().unwrap();
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        let submission = Submission { spec: "{}".to_owned(), ..Submission::default() };
        let job = lab.user.submit(&submission).await.unwrap();
        let mut plan = plan(job, 6, 1);
        plan.max_attempts = 100;
        plan.policy.backoff_ms = Some(0);
        lab.scheduler.planned(&term, job, &plan).await.unwrap();
        jobs.push(job);
    }
    let id = lab.register("retries").await;
    let [a, b, c] =
        [lab.store("lab_user").await, lab.store("lab_user").await, lab.store("lab_user").await];
    let [d, e, f] = [
        lab.store("lab_worker").await,
        lab.store("lab_worker").await,
        lab.store("lab_worker").await,
    ];
    let scheduler = lab.scheduler.clone();
    let ticks = async {
        let mut count = Count::default();
        for _ in 0..2 * rounds {
            count.note(scheduler.tick(&term).await);
        }
        count
    };
    let clock = async {
        for _ in 0..rounds {
            lab.forward(LEASE.as_millis() as i64 / 2).await;
            lab.tighten().await;
        }
    };
    let (a, b, c, d, e, f, ticks, ()) = tokio::join!(
        user(a, &jobs, Chance::new(1), rounds),
        user(b, &jobs, Chance::new(2), rounds),
        user(c, &jobs, Chance::new(3), rounds),
        work(d, id, Chance::new(4), rounds),
        work(e, id, Chance::new(5), rounds),
        work(f, id, Chance::new(6), rounds),
        ticks,
        clock,
    );
    let counts = [a, b, c, d, e, f, ticks];
    let deadlocks: usize = counts.iter().map(|count| count.deadlocks).sum();
    assert_eq!(deadlocks, 0, "{counts:?}");
    storm::end(&mut lab, &jobs).await;
}

/// Cancels and retries, by turns.
async fn user(store: Store, jobs: &[i64], mut chance: Chance, rounds: usize) -> Count {
    let mut count = Count::default();
    for _ in 0..rounds {
        let job = jobs[usize::from(chance.below(JOBS as u8))];
        count.note(store.cancel(job).await);
        let job = jobs[usize::from(chance.below(JOBS as u8))];
        count.note(store.retry(job, &Only::Failed).await);
    }
    count
}

/// Claims some leases of any jobs and says something about all of them in one call, often too late.
async fn work(store: Store, id: WorkerId, mut chance: Chance, rounds: usize) -> Count {
    let mut count = Count::default();
    for _ in 0..rounds {
        let claimed = store.claim(id, 4, LEASE).await;
        let Some(mut leases) = count.note(claimed) else {
            continue;
        };
        for _ in 0..chance.below(3) {
            let mut calls: Vec<_> = (leases.iter_mut())
                .map(|lease| (Call::Progress, lease, Report::default()))
                .collect();
            count.note(store.report(id, &mut calls).await);
        }
        let mut calls: Vec<_> =
            (leases.iter_mut()).map(|lease| (Call::Release, lease, Report::default())).collect();
        count.note(store.report(id, &mut calls).await);
    }
    count
}
