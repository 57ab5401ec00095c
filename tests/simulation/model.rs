//! What the database must have stored by now, computed from its answers alone: leases granted, when they run out, how they ended,
//! and which items were accepted. Pure: no I/O, no clock, no randomness.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use nightshift_store::{AttemptOutcome, ItemStatus, JobState, Lease, ShardKind};

use crate::op::{Items, What};
use crate::promise::{ITEM_GPU_MS, Promise};
use crate::world::{Job, World};

/// How long every lease of a sequence lasts.
pub(crate) const LEASE_MS: i64 = 10_000;

/// A lease that was granted at some time.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) lease: Lease,
    /// Round of the job in which it was granted.
    pub(crate) round: i32,
    /// Until when it runs, by the database's clock.
    pub(crate) until: i64,
    /// How it ended.
    pub(crate) end: Option<AttemptOutcome>,
    /// Whether its worker still believes in it.
    pub(crate) believed: bool,
}

/// An item that was accepted. The first report stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) status: ItemStatus,
    pub(crate) shard: i32,
    pub(crate) attempt: i32,
}

/// What a call of a worker must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It is recorded.
    Accepted,
    /// The lease is not live: nothing changes. With `own_end` the answer may be "done", if the worker had ended it so before.
    Nothing { own_end: bool },
    /// The call itself is wrong: nothing changes.
    Refused,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// The database's clock.
    pub(crate) now: i64,
    /// In the order in which they were granted.
    pub(crate) grants: Vec<Grant>,
    /// By job and index.
    pub(crate) items: BTreeMap<(i64, i64), Item>,
    /// What was promised to each job that was planned.
    pub(crate) promises: BTreeMap<i64, Promise>,
    /// Engine time that was reported of each job, in milliseconds. Items that are taken back have had theirs.
    pub(crate) gpu_ms: BTreeMap<i64, i64>,
    /// Jobs that were seen finished, with errors or without.
    pub(crate) ended_well: BTreeSet<i64>,
    /// Jobs that a tick has seen with nothing left to wait for; still so.
    pub(crate) freed: BTreeSet<i64>,
    /// Jobs that stopped themselves during the current call.
    stopping: BTreeSet<i64>,
}

impl Model {
    /// Nothing has happened, and it is `now`.
    pub(crate) fn at(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    /// Items as they are stored, for rules that need no history.
    pub(crate) fn of(world: &World, now: i64) -> Self {
        let item = |row: &crate::world::Item| {
            let (status, shard, attempt) = (row.status, row.shard, row.attempt);
            ((row.job, row.index), Item { status, shard, attempt })
        };
        Self { items: world.items.iter().map(item).collect(), ..Self::at(now) }
    }

    pub(crate) fn granted(&mut self, lease: Lease, round: i32, believed: bool) {
        let until = self.now + LEASE_MS;
        self.grants.push(Grant { lease, round, until, end: None, believed });
    }

    /// Whether the holder of this grant may write.
    pub(crate) fn is_live(&self, grant: usize) -> bool {
        self.grants[grant].end.is_none() && self.now < self.grants[grant].until
    }

    /// Grants that are believed in by their workers, in order.
    pub(crate) fn believed(&self) -> Vec<usize> {
        (0..self.grants.len()).filter(|i| self.grants[*i].believed).collect()
    }

    /// Attempts of a shard in a round that ended so.
    pub(crate) fn spent(&self, job: i64, shard: i32, round: i32, end: AttemptOutcome) -> usize {
        let of_shard = |grant: &&Grant| {
            (grant.lease.job, grant.lease.shard, grant.round, grant.end)
                == (job, shard, round, Some(end))
        };
        self.grants.iter().filter(of_shard).count()
    }

    /// How many items of a job have this status.
    pub(crate) fn count(&self, job: i64, status: ItemStatus) -> i64 {
        let items = self.items.range((job, i64::MIN)..=(job, i64::MAX));
        items.filter(|(_, item)| item.status == status).count() as i64
    }

    /// Whether a job has used more engine time than it may.
    pub(crate) fn is_over_budget(&self, job: i64) -> bool {
        let used = self.gpu_ms.get(&job).copied().unwrap_or(0);
        let max = self.promises.get(&job).and_then(|promise| promise.max_gpu_ms);
        max.is_some_and(|max| used > max)
    }

    /// Why this may not be granted now, by what was promised to its job. Closing a job takes no window.
    pub(crate) fn why_not(&self, lease: &Lease, job: &Job) -> Option<&'static str> {
        let promise = self.promises.get(&lease.job)?;
        let waits = promise.after.iter().any(|of| !self.ended_well.contains(of));
        if !job.started && waits {
            Some("before what it waits for has ended well")
        } else if lease.kind == ShardKind::Close {
            None
        } else if !promise.is_open(self.now) {
            Some("outside of its window or too early")
        } else if self.is_over_budget(lease.job) {
            Some("over its budget")
        } else {
            None
        }
    }

    /// Whether a claim must know by now that a job waits for no other.
    pub(crate) fn is_free(&self, job: &Job) -> bool {
        let promise = self.promises.get(&job.id);
        job.started || self.freed.contains(&job.id) || promise.is_none_or(|p| p.after.is_empty())
    }

    /// What was seen of jobs that others wait for; with `ticked`, a tick has seen it too.
    pub(crate) fn saw(&mut self, after: &World, ticked: bool) {
        let well = |id: &i64| {
            let of = after.jobs.iter().find(|job| job.id == *id);
            of.is_some_and(|job| {
                matches!(job.state, JobState::Finished | JobState::FinishedWithErrors)
            })
        };
        let now_well = after.jobs.iter().map(|job| job.id).filter(well);
        self.ended_well.extend(now_well);
        let waits = |id: &i64| self.promises.get(id).is_some_and(|p| !p.after.iter().all(well));
        self.freed.retain(|id| !waits(id));
        if ticked {
            let active = |job: &&Job| {
                matches!(job.state, JobState::Ready | JobState::Paused | JobState::Closing)
            };
            let free = after.jobs.iter().filter(active).map(|job| job.id);
            self.freed.extend(free.filter(|id| !waits(id)));
        }
    }

    fn missing(&self, lease: &Lease) -> Vec<i64> {
        (lease.first_item..lease.end_item)
            .filter(|index| !self.items.contains_key(&(lease.job, *index)))
            .collect()
    }

    /// What the worker of this lease reports.
    pub(crate) fn choose(&self, lease: &Lease, items: Items) -> Vec<(i64, ItemStatus)> {
        use ItemStatus::{Failed, Ok, Skipped};
        if items == Items::Stray {
            return vec![(lease.end_item, Ok)];
        } else if lease.kind == ShardKind::Close {
            return Vec::new();
        }
        let missing = self.missing(lease);
        match items {
            Items::None | Items::Stray => Vec::new(),
            Items::Some => missing.into_iter().take(2).map(|i| (i, Ok)).collect(),
            Items::Failed => missing.into_iter().take(1).map(|i| (i, Failed)).collect(),
            Items::All => (lease.first_item..lease.end_item).map(|i| (i, Ok)).collect(),
            Items::Mixed => (lease.first_item..lease.end_item)
                .map(|i| match i {
                    i if i == lease.end_item - 1 => (i, Failed),
                    i if i == lease.first_item => (i, Skipped),
                    i => (i, Ok),
                })
                .collect(),
        }
    }

    /// A worker says something with the right to this grant.
    pub(crate) fn say(
        &mut self,
        grant: usize,
        what: What,
        items: &[(i64, ItemStatus)],
        before: &World,
    ) -> Expect {
        if !self.is_live(grant) {
            let own_end = !matches!(self.grants[grant].end, None | Some(AttemptOutcome::Lost));
            return Expect::Nothing { own_end };
        }
        let lease = self.grants[grant].lease.clone();
        let inside = |index: i64| {
            lease.kind == ShardKind::Items && (lease.first_item..lease.end_item).contains(&index)
        };
        if items.iter().any(|(index, _)| !inside(*index)) {
            return Expect::Refused;
        }
        for (index, status) in items {
            let item = Item { status: *status, shard: lease.shard, attempt: lease.attempt };
            if let Entry::Vacant(entry) = self.items.entry((lease.job, *index)) {
                entry.insert(item);
                *self.gpu_ms.entry(lease.job).or_default() += ITEM_GPU_MS;
            }
        }
        if what == What::Finish
            && lease.kind == ShardKind::Items
            && !self.missing(&lease).is_empty()
        {
            return Expect::Refused; // and whoever called throws this model away
        }
        match what {
            What::Progress => {
                self.grants[grant].until = self.now + LEASE_MS;
                self.limit(lease.job, before);
            }
            What::Finish => self.end(grant, AttemptOutcome::Finished, before),
            What::Release => self.end(grant, AttemptOutcome::Released, before),
            What::Fail => self.end(grant, AttemptOutcome::Failed, before),
        }
        Expect::Accepted
    }

    /// A tick: what has run out is lost. Returns how many.
    pub(crate) fn expire(&mut self, before: &World) -> usize {
        let mut late: Vec<usize> = (0..self.grants.len())
            .filter(|i| self.grants[*i].end.is_none() && self.grants[*i].until <= self.now)
            .collect();
        late.sort_by_key(|i| (self.grants[*i].lease.job, self.grants[*i].lease.shard));
        for grant in &late {
            self.end(*grant, AttemptOutcome::Lost, before);
        }
        late.len()
    }

    /// A user retries what failed.
    pub(crate) fn retried(&mut self, job: i64) {
        self.items.retain(|(of, _), item| *of != job || item.status != ItemStatus::Failed);
    }

    /// A new call begins.
    pub(crate) fn next_call(&mut self) {
        self.stopping.clear();
    }

    fn end(&mut self, grant: usize, outcome: AttemptOutcome, before: &World) {
        let (lease, round) = (self.grants[grant].lease.clone(), self.grants[grant].round);
        let job = before.job(lease.job);
        let missing = self.missing(&lease);
        let whole = outcome == AttemptOutcome::Finished
            || (lease.kind == ShardKind::Items && missing.is_empty());
        let cancelling = job.state == JobState::Cancelling || self.stopping.contains(&job.id);
        self.grants[grant].end = Some(match outcome {
            AttemptOutcome::Released if cancelling && !whole => AttemptOutcome::Cancelled,
            other => other,
        });
        let attempts = [AttemptOutcome::Failed, AttemptOutcome::Lost]
            .into_iter()
            .map(|end| self.spent(job.id, lease.shard, round, end))
            .max();
        let dead = attempts >= job.max_attempts.map(|max| max as usize);
        if dead && !whole && !cancelling && lease.kind == ShardKind::Items {
            for index in missing {
                let item = Item { status: ItemStatus::Failed, shard: lease.shard, attempt: 0 };
                self.items.insert((job.id, index), item);
            }
        }
        self.limit(job.id, before);
    }

    /// Too many failed items, or too much engine time, stop a job.
    fn limit(&mut self, job: i64, before: &World) {
        let row = before.job(job);
        let failed = self.count(job, ItemStatus::Failed);
        let too_many = row.max_failed_items.is_some_and(|max| failed > max);
        if matches!(row.state, JobState::Ready | JobState::Paused)
            && (too_many || self.is_over_budget(job))
        {
            self.stopping.insert(job);
        }
    }
}
