//! The scheduler's loop: read what is, decide, write. It is level-triggered: a missed signal costs a delay, never a loss.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightshift_jobs::Headline;
use nightshift_objects::{Objects, chain};
use nightshift_store::{DatabaseConfig, Error as StoreError, Hints, LeaderTerm, Store, Submitted};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::decide::{Decision, decide};
use crate::error::PlanError;
use crate::metrics::{self, Metrics};
use crate::plan::plan_job;
use crate::schedules::advance_schedules;
use crate::webhooks;
use crate::windows::refresh_windows;

/// Waiting jobs looked at in one tick.
const LOOK_AT: i64 = 100;
/// First pause after a failure that may pass; it doubles up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A job is rejected after so many failures that no outage explains, so that a bug cannot keep it waiting forever.
const MAX_ODD_FAILURES: u32 = 5;
/// Pause between two checks that the coming weeks have partitions for their events, and after a check that failed.
const KEEP_EVENTS_EVERY: Duration = Duration::from_secs(3600);
const KEEP_EVENTS_AGAIN: Duration = Duration::from_secs(60);
/// How long giving leadership back may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How a scheduler runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who leads, for people: host name and process id.
    pub holder: String,
    /// Longest time between two ticks.
    pub tick: Duration,
    /// How long leadership lasts without a sign of life.
    pub term_ttl: Duration,
    /// Where to listen for submissions, around any pooler; `None`: only look every `tick`.
    pub listen: Option<DatabaseConfig>,
}

impl Config {
    /// Half a second between ticks, terms of 15 seconds.
    #[must_use]
    pub fn new(holder: impl Into<String>) -> Self {
        Self {
            holder: holder.into(),
            tick: Duration::from_millis(500),
            term_ttl: Duration::from_secs(15),
            listen: None,
        }
    }
}

/// A scheduler. Any number may run; one leads.
#[derive(Debug)]
pub struct Scheduler {
    store: Store,
    objects: Objects,
    config: Config,
    metrics: Arc<Metrics>,
    metrics_listener: Option<TcpListener>,
}

type Ended = Result<(Id, Result<(), PlanError>), JoinError>;

/// What a leading scheduler remembers between ticks. Losing it costs a delay.
struct Lead {
    term: watch::Sender<LeaderTerm>,
    tasks: JoinSet<Result<(), PlanError>>,
    /// Tasks that have ended and were not looked at yet.
    ended: Vec<Ended>,
    jobs: HashMap<Id, (i64, Headline)>,
    failures: BTreeMap<i64, Failures>,
    /// The leader's other tasks, which end with its term.
    _beside: JoinSet<()>,
}

/// What went wrong with a job so far.
#[derive(Debug, Clone, Copy)]
struct Failures {
    retry_at: Instant,
    pause: Duration,
    odd: u32,
}

impl Scheduler {
    /// A scheduler that has not started.
    #[must_use]
    pub fn new(store: Store, objects: Objects, config: Config) -> Self {
        Self { store, objects, config, metrics: Arc::default(), metrics_listener: None }
    }

    /// Answers Prometheus at this address from [`Scheduler::run`] on; returns the address, whose port may be chosen by the system.
    ///
    /// # Errors
    /// The address is not valid, or it is in use.
    pub async fn listen_for_metrics(&mut self, address: &str) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        self.metrics_listener = Some(listener);
        Ok(bound)
    }

    /// Runs until `stop` is ready, then gives leadership back. An unreachable database or object store is waited for.
    ///
    /// # Errors
    /// Errors that waiting cannot cure: the login is refused, or the database has another version.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), StoreError> {
        tokio::pin!(stop);
        let mut beside = JoinSet::new();
        if let Some(listener) = self.metrics_listener.take() {
            let metrics = Arc::clone(&self.metrics);
            beside.spawn(metrics::serve(listener, self.store.clone(), metrics));
        }
        let mut lead: Option<Lead> = None;
        let mut outage: Option<Instant> = None;
        let mut hints = Hints::for_scheduler(self.config.listen.clone());
        loop {
            let began = Instant::now();
            let ticked = tokio::select! {
                () = &mut stop => break,
                ticked = self.tick(&mut lead) => ticked,
            };
            self.metrics.tick(began.elapsed(), ticked.is_ok());
            match ticked {
                Ok(()) => {
                    if let Some(since) = outage.take() {
                        tracing::info!(
                            seconds = since.elapsed().as_secs(),
                            "the database answers again"
                        );
                    }
                }
                Err(StoreError::NotLeader) => {
                    tracing::info!("another scheduler leads now");
                    lead = None;
                }
                Err(error) if error.is_retryable() => {
                    if outage.is_none() {
                        tracing::warn!(error = %chain(&error), "the database does not answer; waiting for it");
                        outage = Some(Instant::now());
                    }
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => tracing::error!(error = %chain(&error), "a tick failed"),
            }
            self.metrics.leads(lead.is_some());
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(self.config.tick) => {}
                () = one_planned(&mut lead) => {}
                () = hints.wait() => {}
            }
        }
        if let Some(mut lead) = lead {
            lead.tasks.shutdown().await;
            let term = lead.term.borrow().clone();
            match tokio::time::timeout(LAST_WORDS, self.store.resign(&term)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = %chain(&error), "could not give leadership back; the term expires by itself");
                }
                Err(_) => tracing::debug!(
                    "could not give leadership back in time; the term expires by itself"
                ),
            }
        }
        Ok(())
    }

    /// Read, decide, write.
    async fn tick(&self, lead: &mut Option<Lead>) -> Result<(), StoreError> {
        let Some(term) = self.store.lead(&self.config.holder, self.config.term_ttl).await? else {
            *lead = None;
            return Ok(());
        };
        let lead = match lead {
            Some(lead) if lead.term.borrow().term == term.term => {
                lead.term.send_replace(term.clone());
                lead
            }
            // A new term: what an older one was doing is fenced off, so begin afresh.
            _ => lead.insert(Lead::new(term.clone(), &self.store, &self.metrics)),
        };
        self.collect(lead, &term).await?;
        advance_schedules(&self.store, &term).await?;
        let counts = self.store.tick(&term).await?;
        refresh_windows(&self.store, &term).await?;
        self.metrics.expired(counts.expired);
        if counts.submitted == 0 {
            lead.failures.clear();
            return Ok(());
        }
        let submitted = self.store.submitted(&term, LOOK_AT).await?;
        let ids: Vec<i64> = submitted.iter().map(|job| job.job).collect();
        lead.failures.retain(|job, _| ids.contains(job));
        let planning: BTreeSet<i64> = lead.jobs.values().map(|(job, _)| *job).collect();
        let retry_at =
            lead.failures.iter().map(|(job, failures)| (*job, failures.retry_at)).collect();
        for (job, (_, decision)) in
            submitted.into_iter().zip(decide(&ids, &planning, &retry_at, Instant::now()))
        {
            if decision == Decision::Plan {
                self.start(lead, job);
            }
        }
        Ok(())
    }

    fn start(&self, lead: &mut Lead, job: Submitted) {
        let (store, objects, term) =
            (self.store.clone(), self.objects.clone(), lead.term.subscribe());
        let planned = (job.job, Headline::of(&job.spec_text));
        let task = lead.tasks.spawn(async move { plan_job(&store, &objects, &term, &job).await });
        lead.jobs.insert(task.id(), planned);
    }

    /// Handles the planning tasks that have ended.
    async fn collect(&self, lead: &mut Lead, term: &LeaderTerm) -> Result<(), StoreError> {
        while let Some(ended) = lead.ended.pop().or_else(|| lead.tasks.try_join_next_with_id()) {
            let (task, result) = match ended {
                Ok((task, result)) => (task, result),
                Err(error) => (error.id(), Err(PlanError::Rejected(BUG.to_owned()))),
            };
            let Some((job, headline)) = lead.jobs.remove(&task) else {
                continue;
            };
            match result {
                Ok(()) => tracing::info!(job, "job is planned"),
                Err(PlanError::Gone) => tracing::info!(job, "job is no longer waiting"),
                Err(PlanError::Rejected(words)) => {
                    self.reject(term, job, &headline, &words).await?;
                }
                Err(PlanError::Store(StoreError::NotLeader)) => return Err(StoreError::NotLeader),
                Err(PlanError::Store(error)) if error.is_retryable() => {
                    lead.failed(job, false);
                }
                Err(PlanError::Objects(error)) => {
                    tracing::warn!(job, %error, "the job's input cannot be read now; trying again later");
                    lead.failed(job, false);
                }
                Err(error @ PlanError::Disk(_)) => {
                    tracing::error!(job, %error, "the job is not planned; trying again later");
                    lead.failed(job, false);
                }
                Err(PlanError::Store(error)) => {
                    tracing::error!(job, error = %chain(&error), "the job's plan was not stored");
                    if lead.failed(job, true) >= MAX_ODD_FAILURES {
                        let words = format!("{BUG}: {}", chain(&error));
                        self.reject(term, job, &headline, &words).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn reject(
        &self,
        term: &LeaderTerm,
        job: i64,
        headline: &Headline,
        words: &str,
    ) -> Result<(), StoreError> {
        let (name, kind) = (headline.name.as_deref(), headline.kind.as_deref());
        self.store.rejected(term, job, words, name, kind).await?;
        tracing::info!(job, "job is rejected");
        Ok(())
    }
}

const BUG: &str =
    "the scheduler could not plan this job because of a bug in nightshift; its log has the details";

impl Lead {
    fn new(term: LeaderTerm, store: &Store, metrics: &Arc<Metrics>) -> Self {
        tracing::info!(term = term.term, "this scheduler leads");
        let term = watch::Sender::new(term);
        let mut beside = JoinSet::new();
        beside.spawn(keep_events(store.clone(), term.subscribe()));
        let secrets = webhooks::environment;
        let (store, metrics) = (store.clone(), Arc::clone(metrics));
        beside.spawn(webhooks::run(store, term.subscribe(), metrics, secrets));
        Self {
            term,
            tasks: JoinSet::new(),
            ended: Vec::new(),
            jobs: HashMap::new(),
            failures: BTreeMap::new(),
            _beside: beside,
        }
    }

    /// Notes a failure that may pass; returns how many odd ones there were.
    fn failed(&mut self, job: i64, odd: bool) -> u32 {
        let now = Instant::now();
        let failures = self.failures.entry(job).or_insert(Failures {
            retry_at: now,
            pause: FIRST_BACKOFF,
            odd: 0,
        });
        failures.retry_at = now + failures.pause;
        failures.pause = (failures.pause * 2).min(MAX_BACKOFF);
        failures.odd += u32::from(odd);
        failures.odd
    }
}

/// Creates partitions for events ahead of time.
async fn keep_events(store: Store, term: watch::Receiver<LeaderTerm>) {
    loop {
        let now = term.borrow().clone();
        let pause = match store.keep_events(&now).await {
            Ok(_) => KEEP_EVENTS_EVERY,
            Err(StoreError::NotLeader) => return,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "could not create partitions for events");
                KEEP_EVENTS_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Ready when a planning task has ended, so that the next tick comes at once.
async fn one_planned(lead: &mut Option<Lead>) {
    match lead {
        Some(lead) if !lead.tasks.is_empty() => {
            // Nothing is awaited between taking a result and keeping it, so dropping this future loses none.
            if let Some(ended) = lead.tasks.join_next_with_id().await {
                lead.ended.push(ended);
            }
        }
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
