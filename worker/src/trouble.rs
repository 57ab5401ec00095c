//! Trouble of a place: what a bucket or its endpoint refuses to everybody is waited out. It fails no item and costs no attempt; it is told
//! when it begins and when it ends, and with the worker's health meanwhile.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nightshift_objects::{Error as ObjectError, S3Uri};
use serde_json::{Value, json};

use crate::failure::ShardError;
use crate::lease::Guard;
use crate::retry::Backoff;

/// How long one call waits with its lease in hand; then the lease is given back.
const IN_HAND_MAX: Duration = Duration::from_secs(60);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Trouble that nobody has met for so long is not told any more: its job may be gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// What is done with the objects of a bucket. A bucket may be read and not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doing {
    Reading,
    Writing,
}

/// The places that refuse at the moment.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<(String, Doing), Trouble>>);

#[derive(Debug)]
struct Trouble {
    since: Instant,
    since_unix_ms: u64,
    last: Instant,
    words: String,
}

impl Troubles {
    /// Repeats `call` while what it meets concerns the whole place, and the lease is trusted.
    ///
    /// # Errors
    /// Outside [`ShardError`]: the lease ended, or it is to be given back because the trouble stays. Inside, the first error that concerns
    /// this object alone, or the worker's credentials.
    pub(crate) async fn patiently<T, F>(
        &self,
        guard: &Guard,
        uri: &S3Uri,
        doing: Doing,
        mut call: impl FnMut() -> F,
    ) -> Result<Result<T, ObjectError>, ShardError>
    where
        F: Future<Output = Result<T, ObjectError>>,
    {
        let begun = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(200), PAUSE_MAX);
        loop {
            // Boxed: the futures of the clients are deep, and nesting them here exceeds the compiler's limit.
            match guard.run(Box::pin(call())).await? {
                Err(error @ ObjectError::Unauthenticated { .. }) => return Ok(Err(error)),
                Err(error) if error.is_of_the_place() => {
                    self.met(uri, doing, &error);
                    if begun.elapsed() > IN_HAND_MAX {
                        return Err(ShardError::Trouble(error.to_string()));
                    }
                    guard.run(tokio::time::sleep(backoff.pause())).await?;
                }
                done => {
                    self.served(uri, doing);
                    return Ok(done);
                }
            }
        }
    }

    /// The place refused.
    pub(crate) fn met(&self, uri: &S3Uri, doing: Doing, error: &ObjectError) {
        let Ok(mut places) = self.0.lock() else { return };
        let now = Instant::now();
        let words = error.to_string();
        if let Some(trouble) = places.get_mut(&(uri.bucket.clone(), doing)) {
            (trouble.last, trouble.words) = (now, words);
            return;
        }
        tracing::warn!(bucket = uri.bucket, ?doing, %error, "the object store refuses; what needs it waits");
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let trouble = Trouble {
            since: now,
            since_unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
            last: now,
            words,
        };
        places.insert((uri.bucket.clone(), doing), trouble);
    }

    /// The place served a request.
    fn served(&self, uri: &S3Uri, doing: Doing) {
        let Ok(mut places) = self.0.lock() else { return };
        // Looked up before the key is made: this is every request.
        if places.is_empty() {
            return;
        }
        if let Some(trouble) = places.remove(&(uri.bucket.clone(), doing)) {
            let seconds = trouble.since.elapsed().as_secs_f64();
            tracing::info!(bucket = uri.bucket, ?doing, seconds, "the object store serves again");
        }
    }

    /// Whether writing there is refused at the moment.
    pub(crate) fn is_open(&self, uri: &S3Uri, doing: Doing) -> bool {
        self.0.lock().is_ok_and(|places| places.contains_key(&(uri.bucket.clone(), doing)))
    }

    /// What views show of it: one entry a place.
    pub(crate) fn json(&self) -> Value {
        let Ok(mut places) = self.0.lock() else { return Value::Null };
        places.retain(|_, trouble| trouble.last.elapsed() < FORGOTTEN_AFTER);
        let told = places.iter().map(|((bucket, doing), trouble)| {
            let doing = match doing {
                Doing::Reading => "read",
                Doing::Writing => "write",
            };
            json!({
                "bucket": bucket, "doing": doing, "error": trouble.words,
                "since_unix_ms": trouble.since_unix_ms,
            })
        });
        Value::Array(told.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::guard;

    fn denied() -> ObjectError {
        ObjectError::Denied { uri: place(), detail: "AccessDenied".to_owned() }
    }

    fn place() -> S3Uri {
        S3Uri { bucket: "pictures".to_owned(), key: "a".to_owned() }
    }

    #[tokio::test]
    async fn what_refuses_for_a_while_is_waited_for_and_told() {
        let (_keeper, guard) = guard(Instant::now() + Duration::from_secs(3600));
        let (troubles, place) = (Troubles::default(), place());
        let mut calls = 0;
        let done = troubles.patiently(&guard, &place, Doing::Writing, || {
            calls += 1;
            let answer = if calls < 3 { Err(denied()) } else { Ok(7) };
            assert_eq!(troubles.is_open(&place, Doing::Writing), calls > 1);
            assert_eq!(troubles.json().as_array().unwrap().len(), usize::from(calls > 1));
            async move { answer }
        });
        assert_eq!(done.await.unwrap().unwrap(), 7);
        assert_eq!(troubles.json(), json!([]));
    }

    #[tokio::test]
    async fn what_concerns_one_object_is_told_at_once() {
        let (_keeper, guard) = guard(Instant::now() + Duration::from_secs(3600));
        let (troubles, place) = (Troubles::default(), place());
        let call =
            || async { Err::<(), _>(ObjectError::NotFound { uri: self::place(), hint: None }) };
        let done = troubles.patiently(&guard, &place, Doing::Reading, call).await;
        assert!(matches!(done.unwrap(), Err(ObjectError::NotFound { .. })));
        assert_eq!(troubles.json(), json!([]));
    }
}
