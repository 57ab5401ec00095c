//! Patience with a database or object store that is away for a while: one budget, the lease.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use nightshift_store::Error;

use crate::lease::{Ended, Guard};

/// Growing pauses with full jitter, so that a fleet does not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// The next pause: between half and all of a length that doubles up to the bound.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = jitter(self.next);
        self.next = (self.next * 2).min(self.most);
        pause
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(3))
    }
}

/// Between half and all of `length`. The only randomness of the worker; it decides nothing but pauses.
pub(crate) fn jitter(length: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    length / 2 + (length / 2).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Repeats a call to the database while it fails in passing and the lease is trusted.
///
/// # Errors
/// [`Ended`] outside; inside, the first error that does not pass.
pub(crate) async fn patiently<T, F>(
    guard: &Guard,
    mut call: impl FnMut() -> F,
) -> Result<Result<T, Error>, Ended>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = Backoff::default();
    loop {
        // Boxed: the futures of the clients are deep, and nesting them here exceeds the compiler's limit.
        match guard.run(Box::pin(call())).await? {
            Err(error) if error.is_retryable() => {
                tracing::debug!(%error, "will try again");
                guard.run(tokio::time::sleep(backoff.pause())).await?;
            }
            done => return Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        let bounds = [(50, 100), (100, 200), (150, 300), (150, 300)];
        for (least, most) in bounds {
            let pause = backoff.pause().as_millis();
            assert!((least..=most).contains(&pause), "{pause} ms");
        }
    }
}
