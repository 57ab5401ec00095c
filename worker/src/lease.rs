//! The worker's side of a lease: until when it may be acted upon.

use std::future::Future;
use std::time::Instant;

use tokio::sync::watch;

/// The lease ended (lost, run out, or given back): whatever was being done for it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease has ended")]
pub(crate) struct Ended;

/// The agent's end: extends the lease after each successful report, and ends it. Dropping it ends the lease.
#[derive(Debug)]
pub(crate) struct Keeper(watch::Sender<Option<Instant>>);

/// What everybody who works for a lease holds. Nothing is written to the object store without asking it first.
#[derive(Debug, Clone)]
pub(crate) struct Guard(watch::Receiver<Option<Instant>>);

/// A lease that is trusted until then.
pub(crate) fn guard(trusted_until: Instant) -> (Keeper, Guard) {
    let (sender, receiver) = watch::channel(Some(trusted_until));
    (Keeper(sender), Guard(receiver))
}

impl Keeper {
    /// The database renewed the lease.
    pub(crate) fn extend(&self, trusted_until: Instant) {
        self.0.send_modify(|until| {
            // An ended lease stays ended: its work was dropped already.
            if let Some(until) = until {
                *until = trusted_until.max(*until);
            }
        });
    }

    /// The lease is over.
    pub(crate) fn end(&self) {
        self.0.send_replace(None);
    }
}

impl Guard {
    /// # Errors
    /// [`Ended`] when nothing may be done for the lease any more.
    pub(crate) fn check(&self) -> Result<(), Ended> {
        // A dropped keeper means that the agent forgot the lease.
        let alive = self.0.has_changed().is_ok();
        match *self.0.borrow() {
            Some(until) if alive && Instant::now() < until => Ok(()),
            _ => Err(Ended),
        }
    }

    /// Returns when the lease has ended. A process that was stopped and continued sees it at once.
    pub(crate) async fn ended(&self) {
        let mut watch = self.0.clone();
        loop {
            let Some(until) = *watch.borrow_and_update() else {
                return;
            };
            if Instant::now() >= until {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                changed = watch.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Runs `work` while the lease is trusted.
    ///
    /// # Errors
    /// [`Ended`]; the work was dropped where it stood.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        self.check()?;
        tokio::select! {
            biased;
            () = self.ended() => Err(Ended),
            done = work => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_ends_with_the_lease() {
        let now = Instant::now();
        let (keeper, guard) = guard(now + Duration::from_secs(3600));
        assert_eq!(guard.run(async { 7 }).await, Ok(7));
        let waiting = guard.clone();
        let task = tokio::spawn(async move { waiting.run(std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        keeper.end();
        assert_eq!(task.await.unwrap(), Err(Ended));
        keeper.extend(now + Duration::from_secs(9999));
        assert_eq!(guard.check(), Err(Ended), "an ended lease is not revived");
    }

    #[tokio::test]
    async fn a_lease_that_ran_out_or_was_forgotten_lets_nothing_start() {
        let (_keeper, late) = guard(Instant::now() - Duration::from_millis(1));
        assert_eq!(late.run(async { 7 }).await, Err(Ended));
        let (keeper, forgotten) = guard(Instant::now() + Duration::from_secs(60));
        drop(keeper);
        assert_eq!(forgotten.check(), Err(Ended));
        forgotten.ended().await;
    }

    #[tokio::test]
    async fn a_renewed_lease_goes_on() {
        let (keeper, guard) = guard(Instant::now() + Duration::from_millis(20));
        keeper.extend(Instant::now() + Duration::from_secs(60));
        let slow = tokio::time::sleep(Duration::from_millis(60));
        assert_eq!(guard.run(slow).await, Ok(()));
    }
}
