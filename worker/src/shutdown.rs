//! Two ways to stop: drain (take nothing new, finish what is in the slots) and now (give back at once).

use tokio::sync::watch;

/// How far a stop has been asked for. Ordered: it only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Run,
    Drain,
    Now,
}

/// The end that asks: the first call drains, the second releases at once. Dropping it asks for nothing.
#[derive(Debug)]
pub struct ShutdownHandle(watch::Sender<Level>);

/// The end that obeys; handed to [`crate::run`].
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Level>);

/// A pair of both ends.
#[must_use]
pub fn shutdown() -> (ShutdownHandle, Shutdown) {
    let (sender, receiver) = watch::channel(Level::Run);
    (ShutdownHandle(sender), Shutdown(receiver))
}

impl ShutdownHandle {
    /// What a signal does: drain at first, release at once when asked again.
    pub fn signal(&self) {
        self.0.send_modify(|level| {
            *level = if *level == Level::Run { Level::Drain } else { Level::Now };
        });
    }
}

impl Shutdown {
    pub(crate) fn level(&self) -> Level {
        *self.0.borrow()
    }

    /// Returns when the level has grown beyond `level`; never if the handle was dropped. Safe to drop.
    pub(crate) async fn beyond(&mut self, level: Level) -> Level {
        // Copied out first: the guard must not live across the await below, or this future could not move between threads.
        let now = self.0.wait_for(|now| *now > level).await.map(|now| *now);
        match now {
            Ok(now) => now,
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_signal_is_stronger_than_the_first() {
        let (handle, mut stop) = shutdown();
        assert_eq!(stop.level(), Level::Run);
        handle.signal();
        assert_eq!(stop.beyond(Level::Run).await, Level::Drain);
        handle.signal();
        assert_eq!(stop.beyond(Level::Drain).await, Level::Now);
        handle.signal();
        assert_eq!(stop.level(), Level::Now);
    }
}
