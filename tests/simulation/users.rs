//! What users do: submit, and command their jobs.

use nightshift_store::{Error, ItemStatus, JobState, Only, Submission};

use crate::invariants::demand;
use crate::op::Command;
use crate::promise::Wish;
use crate::run::{Run, pick, words};

impl Run<'_> {
    pub(crate) async fn submit(
        &mut self,
        wish: Wish,
        hold: bool,
        calls: usize,
    ) -> Result<(), String> {
        self.n_submitted += 1;
        let submission = Submission {
            spec: serde_json::to_string(&wish).expect("plain data"),
            idempotency_key: Some(format!("{}-{}", self.mark, self.n_submitted)),
            hold,
            tenant: None,
        };
        let mut ids = Vec::new();
        for _ in 0..calls {
            ids.push(self.lab.user.submit(&submission).await.map_err(words)?);
            self.look().await?;
        }
        ids.dedup();
        demand!(ids.len() == 1, "one submission made several jobs: {ids:?}");
        Ok(())
    }

    pub(crate) async fn command(&mut self, job: u8, command: Command) -> Result<(), String> {
        let ids: Vec<usize> = (0..self.world.jobs.len()).collect();
        let Some(row) = pick(&ids, job).map(|i| self.world.jobs[i].clone()) else {
            return Ok(());
        };
        let (user, id, state) = (&self.lab.user, row.id, row.state);
        let (done, expected) = match command {
            Command::Pause => (user.pause(id).await, state == JobState::Ready),
            Command::Resume => (user.resume(id).await, state == JobState::Paused),
            Command::Hold => (user.hold(id).await, !row.held && !state.is_final()),
            Command::Unhold => (user.unhold(id).await, row.held && !state.is_final()),
            Command::Cancel => {
                let running = matches!(
                    state,
                    JobState::Submitted | JobState::Ready | JobState::Paused | JobState::Closing
                );
                (user.cancel(id).await, running)
            }
            Command::Retry => return self.retry(id).await,
        };
        let done = done.map_err(words)?;
        demand!(done == expected, "{command:?} of {row:?} said {done}");
        if done {
            self.look().await
        } else {
            self.nothing_changed("a command that was not done").await
        }
    }

    pub(crate) async fn retry(&mut self, job: i64) -> Result<(), String> {
        let row = self.world.job(job);
        let failed = self.model.count(job, ItemStatus::Failed);
        let expected = row.planned
            && match row.state {
                JobState::Failed | JobState::Cancelled => true,
                JobState::FinishedWithErrors => failed > 0,
                _ => false,
            };
        match self.lab.user.retry(job, &Only::Failed).await {
            Ok(n) => {
                demand!(
                    expected && n == failed,
                    "retry of {row:?} took back {n} of {failed} items"
                );
                self.model.retried(job);
                self.retried = Some(job);
                self.look().await
            }
            Err(Error::Refused { .. }) => {
                demand!(!expected, "retry of {row:?} was refused");
                self.nothing_changed("a refused retry").await
            }
            Err(error) => Err(words(error)),
        }
    }
}
