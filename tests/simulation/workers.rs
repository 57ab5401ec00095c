//! What workers do: claim, write, vanish, and write although they should not.

use std::time::Duration;

use nightshift_jobs::WhenWindowCloses;
use nightshift_store::{
    Answer, Artifact, Call, Error, ItemReport, ItemStatus, JobState, Lease, Report, ShardState,
    Store, Verdict, WorkerId,
};

use crate::invariants::demand;
use crate::model::{Expect, LEASE_MS};
use crate::op::{Forged, Items, What};
use crate::promise::ITEM_GPU_MS;
use crate::run::{Run, pick, words};

impl Run<'_> {
    pub(crate) async fn claim(&mut self, worker: usize, n: u8, heard: bool) -> Result<(), String> {
        let id = self.workers[worker];
        let lease = Duration::from_millis(LEASE_MS as u64);
        let leases = self.lab.worker.claim(id, n.into(), lease).await.map_err(words)?;
        let drains = self.world.draining.contains(&id.0);
        demand!(leases.is_empty() || !drains, "a draining worker got {leases:?}");
        let mut priority = i32::MAX;
        for lease in &leases {
            self.granted(lease, &mut priority)?;
        }
        let n_granted = leases.len();
        for lease in leases {
            let round = self.world.job(lease.job).round;
            self.model.granted(lease, round, heard);
        }
        self.look().await?;
        let now = self.model.now;
        let left = self.world.jobs.iter().find(|job| {
            self.world.is_claimable(job, now)
                && self.world.is_open(job, now)
                && self.model.is_free(job)
        });
        demand!(
            n_granted == usize::from(n) || drains || left.is_none(),
            "{n_granted} of {n} shards were granted, with work left in {left:?}"
        );
        Ok(())
    }

    /// One lease of a claim: of a job that may run, in order of priority, on a shard that waited or is new.
    fn granted(&self, lease: &Lease, priority: &mut i32) -> Result<(), String> {
        let (job, now) = (self.world.job(lease.job), self.model.now);
        demand!(
            self.world.is_claimable(job, now),
            "{lease:?} is of a job that must not be claimed: {job:?}"
        );
        let why_not = self.model.why_not(lease, job);
        demand!(why_not.is_none(), "{lease:?} of {job:?} starts {why_not:?}");
        demand!(job.priority <= *priority, "{lease:?} comes after one of lower priority");
        *priority = job.priority;
        let newest = self.model.grants.iter().map(|grant| grant.lease.token).max();
        demand!(
            newest.is_none_or(|newest| lease.token > newest),
            "the token of {lease:?} is not new"
        );
        match self.world.shard(lease.job, lease.shard) {
            Some(shard) => demand!(
                shard.state == ShardState::Waiting
                    && shard.ready_at <= Some(now)
                    && shard.kind == lease.kind
                    && (shard.first_item, shard.end_item) == (lease.first_item, lease.end_item),
                "{lease:?} is of {shard:?}"
            ),
            None => demand!(
                lease.shard >= job.next_shard
                    && lease.first_item >= job.next_item
                    && lease.attempt == 1,
                "{lease:?} is not carved from the rest of {job:?}"
            ),
        }
        Ok(())
    }

    pub(crate) async fn say(
        &mut self,
        lease: u8,
        what: What,
        items: Items,
        calls: u8,
    ) -> Result<(), String> {
        let believed = self.model.believed();
        let Some(grant) = pick(&believed, lease) else {
            return Ok(());
        };
        // A repetition says the same again, whatever has become of it.
        let items = self.model.choose(&self.model.grants[grant].lease, items);
        let mut ended = false;
        for call in 0..calls {
            let (expect, answer) = self.call(grant, what, &items).await?;
            let repeated = call > 0 && ended;
            demand!(
                !repeated || answer == Said::Done,
                "{what:?} was done, and its repetition got {answer:?}"
            );
            ended = expect == Expect::Accepted && what != What::Progress;
            self.model.grants[grant].believed = !matches!(answer, Said::Done | Said::Lost);
        }
        Ok(())
    }

    pub(crate) async fn zombie(
        &mut self,
        grant: u8,
        what: What,
        forged: Forged,
    ) -> Result<(), String> {
        let all: Vec<usize> = (0..self.model.grants.len()).collect();
        let Some(grant) = pick(&all, grant) else {
            return Ok(());
        };
        let mut lease = self.model.grants[grant].lease.clone();
        let items = self.model.choose(&lease, Items::All);
        match forged {
            Forged::Nothing => {
                self.call(grant, what, &items).await?;
                return Ok(());
            }
            Forged::Token => lease.token += 1_000_000,
            Forged::Shard => lease.shard += 1,
            Forged::Worker => {
                lease.worker = *self
                    .workers
                    .iter()
                    .find(|worker| **worker != lease.worker)
                    .expect("three workers");
            }
        }
        let answer = tell(&self.lab.worker, &mut lease, what, &items).await?;
        demand!(answer == Said::Lost, "{what:?} of a forged lease ({forged:?}) got {answer:?}");
        self.nothing_changed("a forged lease").await
    }

    /// One call about one lease, checked against the model.
    async fn call(
        &mut self,
        grant: usize,
        what: What,
        items: &[(i64, ItemStatus)],
    ) -> Result<(Expect, Said), String> {
        let mut model = self.model.clone();
        let expect = model.say(grant, what, items, &self.world);
        let mut lease = self.model.grants[grant].lease.clone();
        let answer = tell(&self.lab.worker, &mut lease, what, items).await?;
        if expect == Expect::Accepted {
            self.model = model;
            self.look().await?;
        } else {
            self.nothing_changed("a call that was not accepted").await?;
        }
        self.fits(grant, what, expect, answer)?;
        Ok((expect, answer))
    }

    /// Whether an answer is what the model expects.
    fn fits(&self, grant: usize, what: What, expect: Expect, answer: Said) -> Result<(), String> {
        let lease = &self.model.grants[grant].lease;
        let fits = match (expect, answer) {
            (Expect::Refused, Said::Refused) | (Expect::Nothing { .. }, Said::Lost) => true,
            (Expect::Nothing { own_end }, Said::Done) => own_end && what != What::Progress,
            (Expect::Accepted, Said::Done) => what != What::Progress,
            (Expect::Accepted, Said::Verdict(verdict)) => verdict == self.verdict(lease),
            _ => false,
        };
        demand!(fits, "{what:?} of {lease:?} got {answer:?}, expected was {expect:?}");
        Ok(())
    }

    /// What a worker must hear about a live lease, by what is stored now.
    fn verdict(&self, lease: &Lease) -> Verdict {
        let shard = self.world.shard(lease.job, lease.shard).expect("a leased shard");
        let job = self.world.job(lease.job);
        let promise = &self.model.promises[&lease.job];
        // A window that closed is over for those who started in it, also when the next one was not stored yet.
        let closed = promise.rule().is_some_and(|rule| {
            let over = job.closes_at <= self.model.now || !promise.is_inside(self.model.now);
            job.state == JobState::Ready && rule != WhenWindowCloses::Overrun && over
        });
        let drains = self.world.draining.contains(&lease.worker.0) || shard.preempt || closed;
        match job.state {
            JobState::Ready | JobState::Closing if !drains => Verdict::Continue,
            JobState::Ready | JobState::Closing | JobState::Paused => Verdict::Drain,
            _ => Verdict::Cancelled,
        }
    }

    pub(crate) async fn report(
        &mut self,
        lease: u8,
        whats: [What; 4],
        items: Items,
    ) -> Result<(), String> {
        let believed = self.model.believed();
        let Some(first) = pick(&believed, lease) else {
            return Ok(());
        };
        let worker = self.model.grants[first].lease.worker;
        let of_worker =
            believed.into_iter().filter(|grant| self.model.grants[*grant].lease.worker == worker);
        // The last one first: answers come in the order of the calls, whatever order they are done in.
        let said: Vec<(usize, What)> = of_worker.zip(whats).collect();
        self.tell_all(said.into_iter().rev().collect(), items).await
    }

    /// One report about several leases of one worker, each with the items that `items` chooses.
    pub(crate) async fn tell_all(
        &mut self,
        said: Vec<(usize, What)>,
        items: Items,
    ) -> Result<(), String> {
        let Some((first, _)) = said.first() else {
            return Ok(());
        };
        let worker = self.model.grants[*first].lease.worker;
        let mut model = self.model.clone();
        let mut expected = vec![Expect::Refused; said.len()];
        let mut in_order: Vec<usize> = (0..said.len()).collect();
        in_order.sort_by_key(|i| {
            (model.grants[said[*i].0].lease.job, model.grants[said[*i].0].lease.shard)
        });
        let mut leases: Vec<Lease> =
            said.iter().map(|(grant, _)| model.grants[*grant].lease.clone()).collect();
        let chosen: Vec<_> = leases.iter().map(|lease| model.choose(lease, items)).collect();
        for i in in_order {
            expected[i] = model.say(said[i].0, said[i].1, &chosen[i], &self.world);
        }
        let mut calls: Vec<_> = (said.iter().zip(&mut leases).zip(&chosen))
            .map(|(((_, what), lease), items)| (call_of(*what), lease, report_of(items)))
            .collect();
        let answers = self.lab.worker.report(worker, &mut calls).await;
        if expected.contains(&Expect::Refused) {
            demand!(
                matches!(answers, Err(Error::Refused { .. })),
                "a report with a wrong call got {answers:?}"
            );
            return self.nothing_changed("a refused report").await;
        }
        self.model = model;
        self.look().await?;
        for (i, answer) in answers.map_err(words)?.into_iter().enumerate() {
            let answer = match answer {
                Answer::Done => Said::Done,
                Answer::Verdict(Verdict::Stop) => Said::Lost,
                Answer::Verdict(verdict) => Said::Verdict(verdict),
            };
            let (grant, what) = said[i];
            // A verdict is given before later calls of the same report move the job on.
            if !matches!(answer, Said::Verdict(_)) || expected[i] != Expect::Accepted {
                self.fits(grant, what, expected[i], answer)?;
            }
            self.model.grants[grant].believed = !matches!(answer, Said::Done | Said::Lost);
        }
        Ok(())
    }

    pub(crate) async fn vanish(&mut self, worker: usize) -> Result<(), String> {
        let gone = self.workers[worker];
        for grant in self.model.grants.iter_mut().filter(|grant| grant.lease.worker == gone) {
            grant.believed = false;
        }
        // A process that is started again is a new worker.
        self.workers[worker] = self.lab.register("w").await;
        Ok(())
    }

    pub(crate) async fn drain(&mut self, worker: WorkerId, on: bool) -> Result<(), String> {
        sqlx::query("select nightshift.drain_worker($1, $2)")
            .bind(worker.0)
            .bind(on)
            .execute(&mut self.lab.admin)
            .await
            .map_err(|error| error.to_string())?;
        self.look().await
    }
}

/// What a worker heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The lease goes on.
    Verdict(Verdict),
    /// The lease ended as asked.
    Done,
    /// The lease is lost.
    Lost,
    /// The call was wrong.
    Refused,
}

async fn tell(
    store: &Store,
    lease: &mut Lease,
    what: What,
    items: &[(i64, ItemStatus)],
) -> Result<Said, String> {
    let report = report_of(items);
    let answer = match what {
        What::Progress => match store.progress(lease, &report).await {
            Ok(Verdict::Stop) => return Ok(Said::Lost),
            Ok(verdict) => return Ok(Said::Verdict(verdict)),
            Err(error) => Err(error),
        },
        What::Finish => store.finish(lease, &report).await,
        What::Release => store.release(lease, &report).await,
        What::Fail => store.fail(lease, &report, "broken", "it broke").await,
    };
    match answer {
        Ok(()) => Ok(Said::Done),
        Err(Error::LeaseLost) => Ok(Said::Lost),
        Err(Error::Refused { .. }) => Ok(Said::Refused),
        Err(error) => Err(words(error)),
    }
}

fn call_of(what: What) -> Call {
    match what {
        What::Progress => Call::Progress,
        What::Finish => Call::Finish,
        What::Release => Call::Release,
        What::Fail => Call::Fail { code: "broken".to_owned(), message: "it broke".to_owned() },
    }
}

pub(crate) fn report_of(items: &[(i64, ItemStatus)]) -> Report {
    let item = |(index, status): &(i64, ItemStatus)| {
        let ok = *status == ItemStatus::Ok;
        ItemReport {
            index: *index,
            status: *status,
            item_id: ok.then(|| format!("{index:032x}")),
            seed: Some(*index),
            fingerprint: ok.then(|| "f00d".to_owned()),
            error_code: (!ok).then(|| "bad".to_owned()),
            error_message: (!ok).then(|| "it is bad".to_owned()),
            artifacts: ok
                .then(|| Artifact {
                    role: "image".to_owned(),
                    key: format!("{index}.png"),
                    bytes: 1,
                    sha256: format!("{index:064x}"),
                })
                .into_iter()
                .collect(),
            gpu_ms: Some(ITEM_GPU_MS as i32),
            tokens: None,
            steps: None,
            info: None,
        }
    };
    Report { items: items.iter().map(item).collect(), ..Report::default() }
}
