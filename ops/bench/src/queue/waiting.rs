//! Times that somebody waits: from ready to claimed, from submitted to claimed, from a dead worker to the next one; and shares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nightshift_lab::{SCHEDULER, WORKER};
use nightshift_local::S3Server;
use nightshift_scheduler::Scheduler;
use nightshift_store::{Hints, Lease, Report, Store, WorkerId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::lab::{self, LEASE, Lab, TENANTS, item};

/// How often a worker asks that hears nothing.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(500);

/// From before the call that makes a job ready to the return of a waiting worker's claim, in milliseconds.
pub(super) async fn ready_to_claim(
    lab: &Arc<Lab>,
    worker: WorkerId,
    samples: usize,
) -> anyhow::Result<Vec<f64>> {
    let hints = Hints::for_worker(Some(lab.listening(WORKER)));
    let mut waiting = spawn_waiting(lab, worker, hints);
    let mut times = Vec::new();
    for n in 0..samples {
        let job = lab.submit(n % TENANTS).await?;
        // The worker has asked in vain and listens again.
        tokio::time::sleep(Duration::from_millis(15)).await;
        let before = Instant::now();
        lab.plan(job, 1, 1).await?;
        let claimed = until(&mut waiting, job).await?;
        times.push((claimed - before).as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// The same for a worker that only asks every [`POLL_EVERY`]; jobs become ready at moments spread evenly between two of its calls.
pub(super) async fn ready_to_claim_by_polling(
    lab: &Arc<Lab>,
    worker: WorkerId,
    samples: u32,
) -> anyhow::Result<Vec<f64>> {
    let mut waiting = spawn_waiting(lab, worker, Hints::for_worker(None));
    let mut times = Vec::new();
    for n in 0..samples {
        let job = lab.submit(0).await?;
        // It finishes its shard, closes the job, asks in vain once more, and waits.
        tokio::time::sleep(Duration::from_millis(15) + POLL_EVERY * n / samples).await;
        let before = Instant::now();
        lab.plan(job, 1, 1).await?;
        let claimed = until(&mut waiting, job).await?;
        times.push((claimed - before).as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// From before `submit` to the return of a waiting worker's claim, through a real scheduler, in milliseconds.
pub(super) async fn submit_to_claim(
    lab: &Arc<Lab>,
    worker: WorkerId,
    samples: usize,
) -> anyhow::Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let s3 = S3Server::start(folder.path(), None).await?;
    let objects = lab::objects(&s3).await?;
    objects.create_bucket("out").await?;
    let mut config = nightshift_scheduler::Config::new("bench-scheduler");
    config.listen = Some(lab.listening(SCHEDULER));
    lab.scheduler.resign(&lab.term).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let scheduler = Scheduler::new(lab.scheduler.clone(), objects, config);
    let running = tokio::spawn(scheduler.run(async { _ = stopped.await }));
    let hints = Hints::for_worker(Some(lab.listening(WORKER)));
    let mut waiting = spawn_waiting(lab, worker, hints);
    let mut times = Vec::new();
    for n in 0..samples {
        tokio::time::sleep(Duration::from_millis(15)).await;
        let before = Instant::now();
        let job = lab.submit(n % TENANTS).await?;
        let claimed = until(&mut waiting, job).await?;
        times.push((claimed - before).as_secs_f64() * 1e3);
    }
    drop(stop);
    running.await??;
    s3.stop().await;
    Ok(times)
}

type Claimed = mpsc::UnboundedReceiver<(i64, Instant)>;

/// A worker that asks at each hint, and [`POLL_EVERY`] at the latest; it finishes at once what it gets.
fn spawn_waiting(lab: &Arc<Lab>, worker: WorkerId, mut hints: Hints) -> Claimed {
    let (sender, receiver) = mpsc::unbounded_channel();
    let lab = Arc::clone(lab);
    tokio::spawn(async move {
        while !sender.is_closed() {
            match lab.worker.claim(worker, 1, LEASE).await {
                Ok(leases) if leases.is_empty() => {
                    let pause = tokio::time::sleep(POLL_EVERY);
                    tokio::select! { () = hints.wait() => {}, () = pause => {}, () = sender.closed() => {} }
                }
                Ok(leases) => {
                    for lease in leases {
                        let claimed = (lease.job, Instant::now());
                        let finished = finish(&lab.worker, &lease).await;
                        if finished.is_err() || sender.send(claimed).is_err() {
                            return;
                        }
                    }
                }
                Err(_) => return,
            }
        }
    });
    receiver
}

async fn finish(store: &Store, lease: &Lease) -> Result<(), nightshift_store::Error> {
    let items = match lease.kind {
        nightshift_store::ShardKind::Items => {
            (lease.first_item..lease.end_item).map(item).collect()
        }
        nightshift_store::ShardKind::Close => Vec::new(),
    };
    let report = Report { items, ..Report::default() };
    store.finish(lease, &report).await
}

async fn until(waiting: &mut Claimed, job: i64) -> anyhow::Result<Instant> {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), waiting.recv()).await;
        let (claimed, at) =
            next.context("nobody claimed the job")?.context("the waiting worker ended")?;
        if claimed == job {
            return Ok(at);
        }
    }
}

/// A worker claims and is not heard again: milliseconds from the end of its lease to the next worker's claim of that shard.
/// The scheduler's tick comes twice a second.
pub(super) async fn rescue(lab: &Lab, workers: &[WorkerId]) -> anyhow::Result<f64> {
    let lease = Duration::from_secs(1);
    let [first, second, ..] = workers else {
        anyhow::bail!("two workers are needed");
    };
    let job = lab.ready(0, 1, 1).await?;
    let claimed = lab.worker.claim(*first, 1, lease).await?;
    anyhow::ensure!(claimed.first().is_some_and(|lease| lease.job == job), "claimed another job");
    let ends = Instant::now() + lease;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        lab.scheduler.tick(&lab.term).await?;
        for lease in lab.worker.claim(*second, 1, LEASE).await? {
            if lease.job == job {
                let after = Instant::now().saturating_duration_since(ends);
                finish(&lab.worker, &lease).await?;
                return Ok(after.as_secs_f64() * 1e3);
            }
            finish(&lab.worker, &lease).await?;
        }
        anyhow::ensure!(ends.elapsed() < Duration::from_secs(60), "nobody rescued the shard");
    }
}

/// Shards by tenant in each window, as the least and the largest share of a tenant over the equal one.
pub(super) async fn shares(
    lab: &Arc<Lab>,
    workers: &[WorkerId],
    window: Duration,
    windows: u32,
) -> anyhow::Result<(f64, f64)> {
    let mut owner = BTreeMap::new();
    for n in 0..TENANTS {
        for _ in 0..3 {
            owner.insert(lab.ready(n, 100_000_000, 1).await?, n);
        }
    }
    let (sender, mut claimed) = mpsc::unbounded_channel::<i64>();
    let mut tasks = JoinSet::new();
    for worker in workers {
        let (lab, worker, sender) = (Arc::clone(lab), *worker, sender.clone());
        tasks.spawn(async move {
            while !sender.is_closed() {
                for lease in lab.worker.claim(worker, 1, LEASE).await? {
                    finish(&lab.worker, &lease).await?;
                    if sender.send(lease.job).is_err() {
                        break;
                    }
                }
            }
            anyhow::Ok(())
        });
    }
    drop(sender);
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for _ in 0..windows {
        tokio::time::sleep(window).await;
        let mut counts = [0_u32; TENANTS];
        let mut n = 0_u32;
        while let Ok(job) = claimed.try_recv() {
            if let Some(tenant) = owner.get(&job) {
                counts[*tenant] += 1;
                n += 1;
            }
        }
        let equal = f64::from(n) / f64::from(u32::try_from(TENANTS)?);
        for count in counts {
            least = least.min(f64::from(count) / equal);
            most = most.max(f64::from(count) / equal);
        }
    }
    claimed.close();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    for job in owner.into_keys() {
        lab.user.cancel(job).await?;
    }
    Ok((least, most))
}
