//! One retry budget per operation, and the judgement of what is worth a retry. The SDK's own retries are off.

use std::future::Future;
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use rand::Rng;

use crate::error::NO_CODE;
use crate::{Error, S3Uri, chain};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What one failed attempt means.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Asking again changes nothing.
    Final(Error),
    /// 412 or 304: what it means depends on the operation.
    Condition,
    /// Worth another attempt: whatever is not proven to be final.
    Later(Later),
}

/// A failure that may pass.
#[derive(Debug)]
pub(crate) struct Later {
    /// What happened.
    pub(crate) detail: String,
    /// Whether the endpoint may have done what was asked although it did not say so.
    pub(crate) unknown: bool,
    /// How long the endpoint asks to wait.
    wait: Option<Duration>,
    /// What it is when it does not pass; by default [`Error::Unavailable`].
    lasting: Option<Box<Error>>,
    /// A clear answer, which is asked about again for a short time only.
    refusal: bool,
}

impl Failure {
    /// An attempt that broke without an answer, or with one that makes no sense.
    pub(crate) fn broken(detail: impl Into<String>) -> Self {
        Self::later(detail.into(), true)
    }

    pub(crate) fn later(detail: String, unknown: bool) -> Self {
        Self::Later(Later { detail, unknown, wait: None, lasting: None, refusal: false })
    }

    /// A failure that is `error` when it lasts for the whole budget.
    pub(crate) fn lasting(error: Error) -> Self {
        Self::Later(Later {
            detail: error.to_string(),
            unknown: false,
            wait: None,
            lasting: Some(Box::new(error)),
            refusal: false,
        })
    }

    /// A clear answer that is seldom about a moment, but may be: rights and buckets take seconds to spread, and a gateway that starts
    /// knows nobody.
    pub(crate) fn refusal(error: Error) -> Self {
        match Self::lasting(error) {
            Self::Later(later) => Self::Later(Later { refusal: true, ..later }),
            other => other,
        }
    }

    /// Whether there is no such object, or no such bucket.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Final(error) => matches!(error, Error::NotFound { .. }),
            Self::Later(later) => matches!(later.lasting.as_deref(), Some(Error::NotFound { .. })),
            Self::Condition => false,
        }
    }

    fn after(self, wait: Option<Duration>) -> Self {
        match self {
            Self::Later(later) => Self::Later(Later { wait, ..later }),
            other => other,
        }
    }

    /// The error that it is if nothing is tried again.
    pub(crate) fn into_error(self, uri: &S3Uri, attempts: u32, spent: Duration) -> Error {
        let detail = match self {
            Self::Final(error) => return error,
            Self::Later(Later { lasting: Some(error), .. }) => return *error,
            Self::Condition => {
                "the store reports a failed condition that the request did not set".to_owned()
            }
            Self::Later(Later { detail, .. }) => detail,
        };
        Error::Unavailable { uri: uri.clone(), attempts, seconds: spent.as_secs_f64(), detail }
    }
}

/// How long one operation may be tried again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// After failures.
    pub(crate) budget: Duration,
    /// After clear refusals.
    pub(crate) refusals: Duration,
}

/// Time and attempts spent on one operation.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    uri: &'a S3Uri,
    begun: Instant,
    patience: Patience,
    attempts: u32,
    /// When the endpoint began to refuse.
    refused: Option<Instant>,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(uri: &'a S3Uri, patience: Patience) -> Self {
        Self { uri, begun: Instant::now(), patience, attempts: 0, refused: None }
    }

    /// Waits before the next attempt: exponentially longer, with full jitter, never past the budget, and not shorter than the endpoint
    /// asks for.
    ///
    /// # Errors
    /// The failure itself when it is final, what it is when it lasts once the patience is spent.
    pub(crate) async fn spend(&mut self, failure: Failure) -> Result<(), Error> {
        self.attempts += 1;
        let (wait, refusal) = match &failure {
            Failure::Final(_) => return Err(self.end(failure)),
            Failure::Condition => (None, false),
            Failure::Later(later) => (later.wait, later.refusal),
        };
        let now = Instant::now();
        self.refused = refusal.then(|| self.refused.unwrap_or(now));
        let ceiling = FIRST_WAIT.saturating_mul(1 << self.attempts.min(10)).min(LONGEST_WAIT);
        let pause = ceiling.mul_f64(rand::rng().random_range(0.5..1.0));
        let pause = wait.map_or(pause, |wait| wait.max(pause));
        let too_long =
            |since: Instant, limit| now.saturating_duration_since(since) + pause >= limit;
        if too_long(self.begun, self.patience.budget)
            || self.refused.is_some_and(|since| too_long(since, self.patience.refusals))
        {
            return Err(self.end(failure));
        }
        if let Failure::Later(Later { detail, .. }) = &failure {
            tracing::debug!(uri = %self.uri, attempt = self.attempts, ?pause, detail, "the object store failed, trying again");
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn end(&self, failure: Failure) -> Error {
        failure.into_error(self.uri, self.attempts, self.begun.elapsed())
    }
}

/// Runs one attempt for at most `limit`; one that takes longer has an unknown outcome.
pub(crate) async fn attempt<T, E>(
    uri: &S3Uri,
    limit: Duration,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(judge(uri, &error)),
        Err(_) => Err(Failure::broken(format!("no answer within {:.0} s", limit.as_secs_f64()))),
    }
}

fn judge<E: ProvideErrorMetadata + std::error::Error + 'static>(
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
        _ => judge_connection(uri, chain(error)),
    }
}

/// A name that does not exist and a certificate that is not trusted do not pass by waiting; all else may.
fn judge_connection(uri: &S3Uri, detail: String) -> Failure {
    let says = |words: &[&str]| words.iter().any(|words| detail.contains(words));
    let advice = if says(&["invalid peer certificate"]) {
        "its certificate is not trusted; AWS_CA_BUNDLE names a file of certificates to trust"
    } else if says(&["InvalidContentType"]) {
        "it does not speak TLS; an endpoint without it is written http://host:port"
    } else if says(&["Name or service not known", "No address associated with hostname"]) {
        "there is no host of its name; check storage.endpoint, AWS_ENDPOINT_URL_S3 and the region"
    } else {
        return Failure::broken(detail);
    };
    let detail = format!("{advice} ({detail})");
    Failure::Final(Error::Misdirected { uri: uri.clone(), detail })
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
    let refused = || Error::Refused {
        uri: uri.clone(),
        status,
        code: if code.is_empty() { NO_CODE.to_owned() } else { code.to_owned() },
        detail: message.unwrap_or("no further words").to_owned(),
    };
    let not_found = |hint| Error::NotFound { uri: uri.clone(), hint };
    let failure = match (status, code) {
        (304 | 412, _) => Failure::Condition,
        // Our clock is off. The SDK has taken the endpoint's from this answer, and signs the next request by it.
        (_, "RequestTimeTooSkewed") => Failure::later(detail, false),
        (409, "ConditionalRequestConflict" | "OperationAborted") => Failure::later(detail, false),
        (
            _,
            "RequestTimeout"
            | "IncompleteBody"
            | "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests",
        )
        | (429, _) => Failure::later(detail, false),
        // The bytes changed on the way.
        (_, "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch") => {
            Failure::lasting(refused())
        }
        (_, "PermanentRedirect" | "AuthorizationHeaderMalformed") | (301, "") => {
            Failure::Final(Error::Misdirected { uri: uri.clone(), detail: elsewhere(uri, raw) })
        }
        (501, "NotImplemented") => Failure::Final(refused()),
        // Also a success whose body is an error, or another status that S3 does not use.
        (0..=399 | 408 | 500.., _) => Failure::later(detail, true),
        (404, "NoSuchKey") => Failure::Final(not_found(None)),
        (404, "NoSuchBucket") => {
            Failure::refusal(not_found(Some(format!("there is no bucket `{}`", uri.bucket))))
        }
        // An answer to HEAD; to all else it is no answer of S3.
        (404, "" | "NotFound") => Failure::refusal(not_found(None)),
        (
            _,
            "SignatureDoesNotMatch"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "ExpiredToken"
            | "TokenRefreshRequired"
            | "NotSignedUp",
        ) => Failure::refusal(Error::Unauthenticated { uri: uri.clone(), detail }),
        (401 | 403, _) => Failure::refusal(Error::Denied { uri: uri.clone(), detail }),
        // A gateway's word, not S3's.
        (_, "") => Failure::lasting(refused()),
        _ => Failure::Final(refused()),
    };
    failure.after(wait)
}

/// Where a bucket lies that was looked for in the wrong region.
fn elsewhere(uri: &S3Uri, raw: &HttpResponse) -> String {
    let body = raw.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    let region = raw.headers().get("x-amz-bucket-region").map(str::to_owned);
    match (region.or_else(|| element("Region")), element("Endpoint")) {
        (Some(region), _) => format!(
            "bucket `{}` lies in region {region}; set storage.region or AWS_REGION to it",
            uri.bucket
        ),
        (None, Some(endpoint)) => {
            format!("bucket `{}` is served by {endpoint}; set storage.endpoint to it", uri.bucket)
        }
        (None, None) => format!("bucket `{}` lies in another region", uri.bucket),
    }
}
