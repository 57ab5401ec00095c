//! Throughput: shard cycles, items, heartbeats, submissions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nightshift_store::{Answer, Call, Lease, Report, WorkerId};
use tokio::task::JoinSet;

use super::lab::{LEASE, Lab, TENANTS, item};

/// What a client does again and again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// claim, a heartbeat, finish, for one shard of one item; counts shards.
    Cycles,
    /// The same for 16 shards, in three calls.
    CyclesOf16,
    /// Reports this many items of a long shard; counts items.
    Items(i64),
    /// Renews a lease.
    Heartbeats,
    /// Submits a spec.
    Submissions,
}

/// What a measurement gave.
pub(super) struct Rate {
    pub(super) per_s: f64,
    /// Processor time of the server for each, in microseconds.
    pub(super) server_us: f64,
    /// How many of each client.
    pub(super) n: u64,
}

struct Client {
    lab: Arc<Lab>,
    worker: WorkerId,
    number: usize,
    held: Option<(Lease, i64)>,
}

/// Runs one client for each worker side by side for `time`.
pub(super) async fn rate(
    lab: &Arc<Lab>,
    workers: &[WorkerId],
    work: Work,
    time: Duration,
) -> anyhow::Result<Rate> {
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    let (cpu, begin) = (lab.cpu_s(), Instant::now());
    for (number, worker) in workers.iter().enumerate() {
        let mut client = Client { lab: Arc::clone(lab), worker: *worker, number, held: None };
        let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                done.fetch_add(client.step(work).await?, Ordering::Relaxed);
            }
            client.give_back().await
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let n = done.load(Ordering::Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "counts of a short run")]
    let count = n as f64;
    Ok(Rate {
        per_s: count / begin.elapsed().as_secs_f64(),
        server_us: (lab.cpu_s() - cpu) * 1e6 / count.max(1.0),
        n,
    })
}

impl Client {
    async fn step(&mut self, work: Work) -> anyhow::Result<u64> {
        match work {
            Work::Cycles => self.cycle().await,
            Work::CyclesOf16 => self.cycle_of_16().await,
            Work::Items(n) => self.items(n).await,
            Work::Heartbeats => self.heartbeat().await,
            Work::Submissions => {
                self.number = (self.number + 7) % TENANTS;
                self.lab.submit(self.number).await.map(|_| 1)
            }
        }
    }

    async fn cycle(&self) -> anyhow::Result<u64> {
        let store = &self.lab.worker;
        let mut leases = store.claim(self.worker, 1, LEASE).await?;
        let lease = leases.first_mut().context("work ran out")?;
        store.progress(lease, &Report::default()).await?;
        store.finish(lease, &all_of(lease)).await?;
        Ok(1)
    }

    async fn cycle_of_16(&self) -> anyhow::Result<u64> {
        let store = &self.lab.worker;
        let mut leases = store.claim(self.worker, 16, LEASE).await?;
        anyhow::ensure!(!leases.is_empty(), "work ran out");
        let mut calls: Vec<_> =
            leases.iter_mut().map(|lease| (Call::Progress, lease, Report::default())).collect();
        store.report(self.worker, &mut calls).await?;
        let mut calls: Vec<_> = leases
            .iter_mut()
            .map(|lease| {
                let report = all_of(lease);
                (Call::Finish, lease, report)
            })
            .collect();
        let answers = store.report(self.worker, &mut calls).await?;
        anyhow::ensure!(
            answers.iter().all(|answer| *answer == Answer::Done),
            "a shard was not finished: {answers:?}"
        );
        Ok(answers.len() as u64)
    }

    async fn items(&mut self, n: i64) -> anyhow::Result<u64> {
        let store = &self.lab.worker;
        let (mut lease, next) = match self.held.take() {
            Some(held) => held,
            None => {
                let mut leases = store.claim(self.worker, 1, LEASE).await?;
                let lease = leases.pop().context("work ran out")?;
                let first = lease.first_item;
                (lease, first)
            }
        };
        let end = (next + n).min(lease.end_item);
        let report = Report { items: (next..end).map(item).collect(), ..Report::default() };
        if end == lease.end_item {
            store.finish(&lease, &report).await?;
        } else {
            store.progress(&mut lease, &report).await?;
            self.held = Some((lease, end));
        }
        Ok(u64::try_from(end - next)?)
    }

    async fn heartbeat(&mut self) -> anyhow::Result<u64> {
        let store = &self.lab.worker;
        if self.held.is_none() {
            let lease = store.claim(self.worker, 1, LEASE).await?.pop();
            self.held = lease.map(|lease| (lease, 0));
        }
        let (lease, _) = self.held.as_mut().context("work ran out")?;
        store.progress(lease, &Report::default()).await?;
        Ok(1)
    }

    async fn give_back(self) -> anyhow::Result<()> {
        if let Some((lease, _)) = self.held {
            self.lab.worker.release(&lease, &Report::default()).await?;
        }
        Ok(())
    }
}

fn all_of(lease: &Lease) -> Report {
    Report { items: (lease.first_item..lease.end_item).map(item).collect(), ..Report::default() }
}
