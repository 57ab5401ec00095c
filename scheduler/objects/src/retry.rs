//! One retry budget per operation, and the judgement of what is worth a retry. The SDK's own retries are off.

use std::error::Error as StdError;
use std::future::Future;
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use rand::Rng;

use crate::{Error, S3Uri};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What one failed attempt means.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Asking again changes nothing.
    Final(Error),
    /// 412 or 304: what it means depends on the operation.
    Condition,
    /// Worth another attempt.
    Later {
        /// What happened.
        detail: String,
        /// Whether the endpoint may have done what was asked although it did not say so.
        unknown: bool,
        /// How long the endpoint asks to wait.
        wait: Option<Duration>,
    },
}

impl Failure {
    /// An attempt that broke without an answer.
    pub(crate) fn broken(detail: impl Into<String>) -> Self {
        Self::Later { detail: detail.into(), unknown: true, wait: None }
    }
}

/// Time and attempts spent on one operation.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    uri: &'a S3Uri,
    begun: Instant,
    limit: Duration,
    attempts: u32,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(uri: &'a S3Uri, limit: Duration) -> Self {
        Self { uri, begun: Instant::now(), limit, attempts: 0 }
    }

    /// Waits before the next attempt: exponentially longer, with full jitter, never past the budget.
    ///
    /// # Errors
    /// The failure itself when it is final, [`Error::Unavailable`] when the budget is spent.
    pub(crate) async fn spend(&mut self, failure: Failure) -> Result<(), Error> {
        self.attempts += 1;
        let (detail, wait) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Condition => ("a condition failed that was not set".to_owned(), None),
            Failure::Later { detail, wait, .. } => (detail, wait),
        };
        let ceiling = FIRST_WAIT.saturating_mul(1 << self.attempts.min(10)).min(LONGEST_WAIT);
        let wait = wait.unwrap_or_else(|| ceiling.mul_f64(rand::rng().random_range(0.5..1.0)));
        let spent = self.begun.elapsed();
        if spent + wait >= self.limit {
            return Err(Error::Unavailable {
                uri: self.uri.clone(),
                attempts: self.attempts,
                seconds: spent.as_secs_f64(),
                detail,
            });
        }
        tracing::debug!(uri = %self.uri, attempt = self.attempts, ?wait, detail, "the object store failed, trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Runs one attempt for at most `limit`; one that takes longer has an unknown outcome.
pub(crate) async fn attempt<T, E>(
    uri: &S3Uri,
    limit: Duration,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(judge(uri, &error)),
        Err(_) => Err(Failure::broken(format!("no answer within {:.0} s", limit.as_secs_f64()))),
    }
}

fn judge<E: ProvideErrorMetadata + StdError + 'static>(
    uri: &S3Uri,
    error: &SdkError<E, HttpResponse>,
) -> Failure {
    match error {
        SdkError::ServiceError(service) => {
            judge_answer(uri, service.err().code(), service.err().message(), service.raw())
        }
        SdkError::ConstructionFailure(_) => Failure::Final(Error::Invalid {
            detail: format!("a request for {uri} cannot be made: {}", chain(error)),
        }),
        SdkError::DispatchFailure(failure) if failure.is_user() => Failure::Final(Error::Invalid {
            detail: format!("a request for {uri} cannot be sent: {}", chain(error)),
        }),
        _ => Failure::broken(chain(error)),
    }
}

fn judge_answer(
    uri: &S3Uri,
    code: Option<&str>,
    message: Option<&str>,
    raw: &HttpResponse,
) -> Failure {
    let status = raw.status().as_u16();
    let code = code.unwrap_or_default();
    let detail = match (code, message) {
        ("", None) => format!("HTTP {status}"),
        (code, message) => format!("{code}: {}", message.unwrap_or("no further words")),
    };
    let wait = raw
        .headers()
        .get("retry-after")
        .and_then(|value| value.trim().parse().ok())
        .map(Duration::from_secs);
    match (status, code) {
        (304 | 412, _) => Failure::Condition,
        // Our clock is off. The SDK has taken the endpoint's from this answer, and signs the next request by it.
        (_, "RequestTimeTooSkewed") => Failure::Later { detail, unknown: false, wait },
        (409, "ConditionalRequestConflict" | "OperationAborted") => {
            Failure::Later { detail, unknown: false, wait }
        }
        (
            _,
            "RequestTimeout"
            | "IncompleteBody"
            | "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests",
        )
        | (429, _) => Failure::Later { detail, unknown: false, wait },
        (408 | 500 | 502 | 503 | 504, _) => Failure::Later { detail, unknown: true, wait },
        (404, _) => {
            let hint =
                (code == "NoSuchBucket").then(|| format!("there is no bucket `{}`", uri.bucket));
            Failure::Final(Error::NotFound { uri: uri.clone(), hint })
        }
        (
            _,
            "SignatureDoesNotMatch"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "ExpiredToken"
            | "TokenRefreshRequired"
            | "NotSignedUp",
        ) => Failure::Final(Error::Unauthenticated { uri: uri.clone(), detail }),
        (401 | 403, _) => Failure::Final(Error::Denied { uri: uri.clone(), detail }),
        _ => Failure::Final(Error::Refused {
            uri: uri.clone(),
            status,
            code: if code.is_empty() { "no code".to_owned() } else { code.to_owned() },
            detail: message.unwrap_or("no further words").to_owned(),
        }),
    }
}

/// The words of an error and of what caused it.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}
