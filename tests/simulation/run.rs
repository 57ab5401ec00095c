//! Carries out a list of operations against a database, with the model beside it, and shrinks the list when they part.

use std::time::Duration;

use nightshift_store::{Error, JobState, LeaderTerm, WorkerId};

use crate::invariants::{self, demand};
use crate::lab::Lab;
use crate::model::Model;
use crate::op::{Command, Items, Op, What};
use crate::world::World;

/// Workers of a sequence.
const WORKERS: usize = 3;
/// How long a scheduler leads without a sign of life.
pub(crate) const TERM: Duration = Duration::from_secs(30);
const DAY_MS: i64 = 24 * 3_600_000;
/// Longer than any pause between two attempts.
const LONGEST_PAUSE_MS: i64 = 61_000;

/// Where and how a sequence broke a rule.
#[derive(Debug)]
pub(crate) struct Broken {
    step: usize,
    op: Option<Op>,
    words: String,
}

/// Runs a sequence and then everything to its end. A database may serve many sequences, one after the other, until one breaks.
pub(crate) async fn run(lab: &mut Lab, ops: &[Op]) -> Result<(), Broken> {
    let mut run = Run::begin(lab, ops).await;
    for (step, op) in ops.iter().enumerate() {
        run.step(*op).await.map_err(|words| Broken { step, op: Some(*op), words })?;
    }
    run.quiet().await.map_err(|words| Broken { step: ops.len(), op: None, words })
}

/// Runs a sequence on a fresh database; when it breaks, looks for a shorter one that breaks too, and panics with it.
pub(crate) async fn replay(title: &str, ops: &[Op]) {
    let Err(mut broken) = run(&mut Lab::new().await, ops).await else {
        return;
    };
    let mut shortest = ops.to_vec();
    let mut piece = shortest.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < shortest.len() {
            let mut shorter = shortest.clone();
            shorter.drain(at..(at + piece).min(shortest.len()));
            match run(&mut Lab::new().await, &shorter).await {
                Err(again) => (shortest, broken) = (shorter, again),
                Ok(()) => at += piece,
            }
        }
        piece /= 2;
    }
    let list: String = shortest.iter().map(|op| format!("    Op::{op:?},\n")).collect();
    let at = match broken.op {
        Some(op) => format!("at step {}, {op:?}", broken.step),
        None => "when everything was to end".to_owned(),
    };
    panic!("{title} broke {at}: {}\nshortest operations that break a rule:\n{list}", broken.words);
}

pub(crate) struct Run<'a> {
    pub(crate) lab: &'a mut Lab,
    pub(crate) model: Model,
    pub(crate) world: World,
    /// Jobs up to this one belong to earlier sequences.
    pub(crate) after_job: i64,
    pub(crate) workers: Vec<WorkerId>,
    /// Who leads, and whoever led before.
    pub(crate) term: LeaderTerm,
    pub(crate) deposed: Option<LeaderTerm>,
    pub(crate) n_leaders: usize,
    pub(crate) n_submitted: usize,
    /// Tells this sequence's keys from another's.
    pub(crate) mark: String,
    pub(crate) retried: Option<i64>,
}

impl<'a> Run<'a> {
    async fn begin(lab: &'a mut Lab, ops: &[Op]) -> Self {
        let after_job = lab.number("select coalesce(max(id), 0) from nightshift.job").await;
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(lab.register("w").await);
        }
        let mark = format!("{after_job}-{}", ops.len());
        // Whoever led before does no more; and a window that was given in minutes is the same in every run.
        lab.forward(2 * DAY_MS - lab.now % DAY_MS).await;
        let term = lab.scheduler.lead(&format!("{mark}-0"), TERM).await.unwrap().unwrap();
        let model = Model::at(lab.now);
        let world = World::read(&mut lab.admin, after_job).await;
        Self {
            lab,
            model,
            world,
            after_job,
            workers,
            term,
            deposed: None,
            n_leaders: 1,
            n_submitted: 0,
            mark,
            retried: None,
        }
    }

    async fn step(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Submit { wish, held, dropped } => {
                self.submit(wish, held, if dropped { 2 } else { 1 }).await
            }
            Op::Plan { good } => self.plan(good).await,
            Op::Claim { worker, n, dropped } => {
                self.claim(usize::from(worker) % WORKERS, n, !dropped).await
            }
            Op::Say { lease, what, items, calls } => self.say(lease, what, items, calls).await,
            Op::Report { lease, whats, items } => self.report(lease, whats, items).await,
            Op::Vanish { worker } => self.vanish(usize::from(worker) % WORKERS).await,
            Op::Zombie { grant, what, forged } => self.zombie(grant, what, forged).await,
            Op::Drain { worker, on } => {
                let worker = self.workers[usize::from(worker) % WORKERS];
                self.drain(worker, on).await
            }
            Op::Command { job, command, calls } => {
                for _ in 0..calls {
                    self.command(job, command).await?;
                }
                Ok(())
            }
            Op::Tick => self.tick().await,
            Op::Forward { ms } => {
                self.forward(i64::from(ms)).await;
                Ok(())
            }
            Op::Border { job, off } => {
                let ids: Vec<i64> = self.world.jobs.iter().map(|job| job.id).collect();
                let promise = pick(&ids, job).and_then(|id| self.model.promises.get(&id));
                let now = self.model.now;
                if let Some(at) = promise.and_then(|promise| promise.next_border(now)) {
                    self.forward((at + i64::from(off) - now).max(0)).await;
                }
                Ok(())
            }
            Op::Depose { resigned } => self.depose(resigned).await,
            Op::StaleTick => self.stale_tick().await,
        }
    }

    /// Reads what is stored now and checks every rule.
    pub(crate) async fn look(&mut self) -> Result<(), String> {
        let after = World::read(&mut self.lab.admin, self.after_job).await;
        let retried = self.retried.take();
        self.model.saw(&after, false);
        invariants::check(&self.model, &self.world, &after, retried)?;
        self.world = after;
        self.model.next_call();
        Ok(())
    }

    /// Like [`Run::look`], after a call that must have left no trace.
    pub(crate) async fn nothing_changed(&mut self, what: &str) -> Result<(), String> {
        let before = self.world.clone();
        self.look().await?;
        demand!(before == self.world, "{what} changed something: {before:?} -> {:?}", self.world);
        Ok(())
    }

    pub(crate) async fn forward(&mut self, ms: i64) {
        self.lab.forward(ms).await;
        self.model.now = self.lab.now;
    }

    /// Undoes what holds jobs up.
    async fn let_all_run(&mut self) -> Result<(), String> {
        for i in 0..self.world.jobs.len() {
            let (number, job) = (u8::try_from(i).expect("few jobs"), self.world.jobs[i].clone());
            if job.held && !job.state.is_final() {
                self.command(number, Command::Unhold).await?;
            }
            if job.state == JobState::Paused {
                self.command(number, Command::Resume).await?;
            }
        }
        Ok(())
    }

    /// Kills the workers and lets a new one do all that is left, whatever holds it up: every job must end.
    async fn quiet(&mut self) -> Result<(), String> {
        for worker in 0..WORKERS {
            self.vanish(worker).await?;
        }
        for round in 0..100 {
            if self.world.jobs.iter().any(|job| job.state == JobState::Submitted) {
                self.plan(true).await?;
            }
            self.let_all_run().await?;
            // Alternately long enough for any pause, and until a window opens: what may run then is done before it closes.
            let opens = (self.world.jobs.iter())
                .filter(|job| matches!(job.state, JobState::Ready | JobState::Paused))
                .filter_map(|job| self.model.promises[&job.id].next_opening(self.model.now))
                .min();
            let pause = match opens {
                Some(at) if round % 2 == 1 => at - self.model.now,
                _ => LONGEST_PAUSE_MS,
            };
            self.forward(pause).await;
            self.tick().await?;
            self.claim(0, 64, true).await?;
            let finish =
                (self.model.believed().into_iter()).map(|grant| (grant, What::Finish)).collect();
            self.tell_all(finish, Items::All).await?;
            let left = self.model.believed();
            demand!(left.is_empty(), "a worker that does everything right still holds {left:?}");
            if self.world.jobs.iter().all(|job| job.state.is_final()) {
                return Ok(());
            }
        }
        Err(format!("some jobs never end: {:?}", self.world.jobs))
    }
}

pub(crate) fn pick<T: Copy>(of: &[T], number: u8) -> Option<T> {
    (!of.is_empty()).then(|| of[usize::from(number) % of.len()])
}

pub(crate) fn words(error: Error) -> String {
    format!("unexpected error: {error}: {error:?}")
}
