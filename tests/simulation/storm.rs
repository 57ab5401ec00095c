//! Everybody at once: workers, users, two schedulers and an administrator on a few jobs, each on connections of its own. No call may
//! meet a deadlock, and when the storm is over every rule that needs no history holds and every job ends.

use std::time::Duration;

use nightshift_store::{
    Call, Error, ItemStatus, Lease, Only, Report, ShardKind, Store, Submission, WorkerId,
};

use crate::invariants;
use crate::lab::{Lab, plan};
use crate::model::Model;
use crate::op::Chance;
use crate::workers::report_of;
use crate::world::World;

const LEASE: Duration = Duration::from_secs(10);
const TERM: Duration = Duration::from_secs(3600);
const WORKERS: usize = 4;
const JOBS: usize = 4;

#[tokio::test]
async fn calls_at_the_same_time_never_deadlock_and_leave_everything_in_order() {
    let rounds = if crate::is_full() { 2_000 } else { 120 };
    let mut lab = Lab::new().await;
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        jobs.push(
            lab.user
                .submit(&Submission { spec: "{}".to_owned(), ..Submission::default() })
                .await
                .unwrap(),
        );
    }
    let term = lab.scheduler.lead("storm", TERM).await.unwrap().unwrap();
    for (i, job) in jobs.iter().enumerate() {
        let mut plan = plan(*job, rounds as i64, 2);
        // One of them stops itself, one outranks the others.
        plan.max_failed_items = (i == 0).then_some(rounds as i64 / 20);
        plan.priority = i32::from(i == 1);
        plan.max_attempts = 100;
        lab.scheduler.planned(&term, *job, &plan).await.unwrap();
    }
    let mut workers = Vec::new();
    // Two processes of a worker each: it claims and reports at the same time.
    let ids = [lab.register("storm").await, lab.register("storm").await];
    for seed in 0..WORKERS as u64 {
        let id = ids[seed as usize % 2];
        workers.push(work(lab.store("lab_worker").await, id, Chance::new(seed), rounds));
    }
    let users = [
        command(lab.store("lab_user").await, jobs.clone(), Chance::new(100), rounds),
        command(lab.store("lab_user").await, jobs.clone(), Chance::new(101), rounds),
    ];
    let scheduler = lab.scheduler.clone();
    let ticks = async {
        for _ in 0..rounds {
            scheduler.tick(&term).await.map_err(|error| format!("tick: {error:?}"))?;
        }
        Ok(())
    };
    let clock = async {
        for _ in 0..rounds / 4 {
            lab.forward(LEASE.as_millis() as i64 / 6).await;
            lab.tighten().await;
        }
        Ok(())
    };
    let [a, b, c, d] =
        <[_; WORKERS]>::try_from(workers).unwrap_or_else(|_| unreachable!("four workers"));
    let [e, f] = users;
    let storm = tokio::try_join!(a, b, c, d, e, f, ticks, clock);
    assert!(storm.is_ok(), "{storm:?}");
    end(&mut lab, &jobs).await;
}

/// Undoes what holds jobs up, runs everything, and looks.
pub(crate) async fn end(lab: &mut Lab, jobs: &[i64]) {
    for job in jobs {
        lab.user.unhold(*job).await.unwrap();
        lab.user.resume(*job).await.unwrap();
    }
    let heir = lab.register("heir").await;
    for _ in 0..10_000 {
        lab.forward(61_000).await;
        let term = lab.scheduler.lead("storm", TERM).await.unwrap().unwrap();
        let active = lab.scheduler.tick(&term).await.unwrap().active;
        look(lab).await;
        if active == 0 {
            return;
        }
        for lease in lab.worker.claim(heir, 64, LEASE).await.unwrap() {
            lab.worker
                .finish(&lease, &all(lease.kind, lease.first_item..lease.end_item))
                .await
                .unwrap();
        }
    }
    panic!("some jobs never end");
}

async fn look(lab: &mut Lab) {
    let world = World::read(&mut lab.admin, 0).await;
    let model = Model::of(&world, lab.now);
    invariants::check_stored(&model, &world).unwrap();
}

fn all(kind: ShardKind, range: std::ops::Range<i64>) -> Report {
    match kind {
        ShardKind::Items => {
            report_of(&range.map(|index| (index, ItemStatus::Ok)).collect::<Vec<_>>())
        }
        ShardKind::Close => Report::default(),
    }
}

/// Claims, and says anything about what it gets: about one lease after the other, or about all of them at once.
async fn work(store: Store, id: WorkerId, mut chance: Chance, rounds: usize) -> Result<(), String> {
    for _ in 0..rounds {
        let n = 1 + u32::from(chance.below(4));
        let claimed = store.claim(id, n, LEASE).await;
        let mut leases = claimed.map_err(|error| format!("claim: {error:?}"))?;
        let calls: Vec<_> = leases.iter_mut().filter_map(|lease| say(&mut chance, lease)).collect();
        let mut reports = Vec::new();
        if chance.below(2) == 0 {
            reports.push(calls);
        } else {
            reports.extend(calls.into_iter().map(|call| vec![call]));
        }
        for mut calls in reports {
            let said = store.report(id, &mut calls).await;
            said.map_err(|error| format!("{calls:?}: {error:?}"))?;
        }
    }
    Ok(())
}

/// What a worker says about a lease; sometimes it forgets about it.
fn say<'a>(chance: &mut Chance, lease: &'a mut Lease) -> Option<(Call, &'a mut Lease, Report)> {
    let first = match (lease.kind, chance.below(8)) {
        (ShardKind::Close, _) => Report::default(),
        (ShardKind::Items, 0) => report_of(&[(lease.first_item, ItemStatus::Failed)]),
        (ShardKind::Items, _) => report_of(&[(lease.first_item, ItemStatus::Ok)]),
    };
    let failure = || Call::Fail { code: "storm".to_owned(), message: "it storms".to_owned() };
    match chance.below(6) {
        0 => Some((Call::Release, lease, first)),
        1 => Some((failure(), lease, first)),
        2 => Some((Call::Progress, lease, first)),
        3 => None,
        _ => {
            let whole = all(lease.kind, lease.first_item..lease.end_item);
            Some((Call::Finish, lease, whole))
        }
    }
}

async fn command(
    store: Store,
    jobs: Vec<i64>,
    mut chance: Chance,
    rounds: usize,
) -> Result<(), String> {
    for _ in 0..rounds {
        let job = jobs[usize::from(chance.below(jobs.len() as u8))];
        let said = match chance.below(8) {
            0 => store.pause(job).await,
            1 | 2 => store.resume(job).await,
            3 => store.hold(job).await,
            4 | 5 => store.unhold(job).await,
            6 => store.cancel(job).await,
            _ => store.retry(job, &Only::Failed).await.map(|_| true),
        };
        match said {
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(error) => return Err(format!("a command for job {job}: {error:?}")),
        }
    }
    Ok(())
}
