//! What schedulers do: plan, tick, lead after each other, and wake up late.

use nightshift_jobs::WhenWindowCloses;
use nightshift_scheduler::refresh_windows;
use nightshift_store::{Error, JobState, Planned};

use crate::invariants::demand;
use crate::lab::plan;
use crate::promise::{Promise, Wish};
use crate::run::{Run, TERM, words};

impl Run<'_> {
    pub(crate) async fn plan(&mut self, good: bool) -> Result<(), String> {
        self.lead().await?;
        let scheduler = &self.lab.scheduler;
        let submitted = scheduler.submitted(&self.term, 1).await.map_err(words)?;
        let expected =
            self.world.jobs.iter().find(|job| job.state == JobState::Submitted).map(|job| job.id);
        demand!(
            submitted.first().map(|job| job.job) == expected,
            "the oldest submitted job is {expected:?}, not {submitted:?}"
        );
        let Some(job) = submitted.into_iter().next() else {
            return Ok(());
        };
        if good {
            let wish: Wish = serde_json::from_str(&job.spec_text).expect("our own spec");
            let earlier = self.world.jobs.iter().map(|row| row.id);
            let earlier: Vec<i64> = earlier.filter(|id| *id < job.job).collect();
            let promise = wish.promise(self.model.now, &earlier);
            let mut plan = plan(job.job, wish.items.into(), wish.shard_items.into());
            wish.put(&promise, &mut plan);
            self.model.promises.insert(job.job, promise);
            let planned = scheduler.planned(&self.term, job.job, &plan).await.map_err(words)?;
            demand!(planned == Planned::Ready, "the plan came to {planned:?}");
            let was_held = self.world.job(job.job).held;
            self.look().await?;
            let row = self.world.job(job.job);
            demand!(row.held == (was_held || wish.hold), "{row:?} was planned with {wish:?}");
            return Ok(());
        } else {
            let rejected =
                scheduler.rejected(&self.term, job.job, "no", None, None).await.map_err(words)?;
            demand!(rejected, "a submitted job could not be rejected");
        }
        self.look().await
    }

    pub(crate) async fn tick(&mut self) -> Result<(), String> {
        self.lead().await?;
        let expected = self.model.expire(&self.world);
        self.lab.nobody_locks().await;
        let counts = self.lab.scheduler.tick(&self.term).await.map_err(words)?;
        self.look().await?;
        demand!(
            counts.expired == expected as i64,
            "{expected} leases had run out, the tick counts {counts:?}"
        );
        let count = |states: &[JobState]| {
            self.world.jobs.iter().filter(|job| states.contains(&job.state)).count() as i64
        };
        let active =
            count(&[JobState::Ready, JobState::Paused, JobState::Closing, JobState::Cancelling]);
        demand!(
            (counts.submitted, counts.active) == (count(&[JobState::Submitted]), active),
            "the tick counts {counts:?}"
        );
        self.model.saw(&self.world, true);
        self.waits()?;
        refresh_windows(&self.lab.scheduler, &self.term).await.map_err(words)?;
        self.look().await?;
        self.windows()
    }

    /// After a tick nothing waits for what will never end well.
    fn waits(&self) -> Result<(), String> {
        let dead = |of: &i64| {
            matches!(
                self.world.job(*of).state,
                JobState::Rejected | JobState::Cancelled | JobState::Failed
            )
        };
        let in_vain = self.world.jobs.iter().find(|job| {
            let active = [JobState::Ready, JobState::Paused, JobState::Closing];
            active.contains(&job.state)
                && !job.started
                && self.model.promises[&job.id].after.iter().any(dead)
        });
        demand!(in_vain.is_none(), "{in_vain:?} waits in vain after a tick");
        Ok(())
    }

    /// After a look of the scheduler each window is the current or the next one, unless leases of the one before are to be given back.
    fn windows(&self) -> Result<(), String> {
        let now = self.model.now;
        for job in &self.world.jobs {
            let promise = self.model.promises.get(&job.id);
            let Some(rule) = promise.and_then(Promise::rule) else {
                continue;
            };
            let keeps = rule != WhenWindowCloses::Overrun
                && self.world.open_shards(job.id).any(|shard| shard.worker.is_some());
            let inside = promise.is_some_and(|promise| promise.is_inside(now));
            demand!(
                !matches!(job.state, JobState::Ready | JobState::Paused)
                    || job.window_closes_at > now
                    || (keeps && !inside),
                "the window of {job:?} has passed, and the next one is not stored at {now}"
            );
        }
        Ok(())
    }

    /// Stays leader, as a scheduler does before each tick.
    pub(crate) async fn lead(&mut self) -> Result<(), String> {
        let holder = format!("{}-{}", self.mark, self.n_leaders - 1);
        self.term = self
            .lab
            .scheduler
            .lead(&holder, TERM)
            .await
            .map_err(words)?
            .ok_or("nobody else leads, and we may not")?;
        Ok(())
    }

    pub(crate) async fn depose(&mut self, resigned: bool) -> Result<(), String> {
        self.lead().await?;
        let holder = format!("{}-{}", self.mark, self.n_leaders);
        let early = self.lab.scheduler.lead(&holder, TERM).await.map_err(words)?;
        demand!(early.is_none(), "two schedulers lead: {early:?} beside {:?}", self.term);
        if resigned {
            self.lab.scheduler.resign(&self.term).await.map_err(words)?;
        } else {
            self.forward(TERM.as_millis() as i64).await;
        }
        self.deposed = Some(self.term.clone());
        self.stale_tick().await?;
        self.n_leaders += 1;
        let before = self.term.clone();
        self.lead().await?;
        demand!(self.term.term > before.term, "the term {:?} is not after {before:?}", self.term);
        Ok(())
    }

    pub(crate) async fn stale_tick(&mut self) -> Result<(), String> {
        let Some(deposed) = self.deposed.clone() else {
            return Ok(());
        };
        let answer = self.lab.scheduler.tick(&deposed).await;
        demand!(matches!(answer, Err(Error::NotLeader)), "a deposed scheduler ticked: {answer:?}");
        self.nothing_changed("a deposed scheduler").await
    }
}
