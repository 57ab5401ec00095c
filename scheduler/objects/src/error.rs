//! What can go wrong with an object, by what the caller does next.

use crate::{S3Uri, UriError};

/// Why an operation on an object failed. Each variant is another decision.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object or bucket.
    #[error("{uri} does not exist{}", .hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    NotFound {
        /// What was asked for.
        uri: S3Uri,
        /// More, such as that the whole bucket is missing.
        hint: Option<String>,
    },
    /// The endpoint does not accept who we say we are: wrong or expired credentials, whatever is asked for. Final until a person
    /// changes them. Who has none is [`Error::Denied`]: endpoints do not tell that from a lack of rights.
    #[error(
        "the object store does not accept the credentials (for {uri}): {detail}; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_PROFILE"
    )]
    Unauthenticated {
        /// What was asked for.
        uri: S3Uri,
        /// The endpoint's message.
        detail: String,
    },
    /// The endpoint knows us and refuses, or does not say whether it does. Final until a person changes something.
    #[error(
        "access to {uri} was denied: {detail}; check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) and the bucket's policy"
    )]
    Denied {
        /// What was asked for.
        uri: S3Uri,
        /// The endpoint's message.
        detail: String,
    },
    /// Requests go to the wrong place: no host of that name, a certificate that is not trusted, a bucket of another region. Final until
    /// a person changes the configuration.
    #[error("{uri} cannot be reached this way: {detail}")]
    Misdirected {
        /// What was asked for.
        uri: S3Uri,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// The object is another than the one asked for (`If-Match` did not match).
    #[error("{uri} has changed since it was listed; its ETag is no longer {wanted}")]
    Changed {
        /// The object.
        uri: S3Uri,
        /// The ETag that was asked for.
        wanted: String,
    },
    /// The object is larger than the caller allows. Nothing beyond the limit was kept.
    #[error("{uri} has {bytes} bytes, and at most {limit_bytes} are allowed here")]
    TooLarge {
        /// The object.
        uri: S3Uri,
        /// Its size.
        bytes: u64,
        /// The caller's limit.
        limit_bytes: u64,
    },
    /// The endpoint did not answer, was too busy, or failed, until the retry budget was spent. Worth another try later.
    #[error(
        "the object store did not serve {uri} in {attempts} attempts over {seconds:.1} s; last: {detail}"
    )]
    Unavailable {
        /// What was asked for.
        uri: S3Uri,
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        seconds: f64,
        /// The last failure.
        detail: String,
    },
    /// The endpoint understood and refuses for a reason of its own. Final.
    #[error("the object store refused {uri}: {code} (HTTP {status}): {detail}")]
    Refused {
        /// What was asked for.
        uri: S3Uri,
        /// HTTP status, 0 if there was none.
        status: u16,
        /// S3 error code, such as `InvalidRequest`.
        code: String,
        /// The endpoint's message.
        detail: String,
    },
    /// The request could not even be made: a key or a metadata value that S3 cannot carry, or a setting that makes no sense.
    #[error("{detail}")]
    Invalid {
        /// What is wrong.
        detail: String,
    },
    /// A text that should name an object does not.
    #[error(transparent)]
    Uri(#[from] UriError),
}

/// What a gateway without a code, a line that changes bytes and a listing that contradicts itself are told as when they last.
pub(crate) const NO_CODE: &str = "no code";
pub(crate) const BROKEN_LISTING: &str = "BrokenListing";
const PASSING: [&str; 5] = [
    NO_CODE,
    BROKEN_LISTING,
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
];

impl Error {
    /// Whether the same request may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the error is about the whole bucket or endpoint rather than about this object: its neighbours would meet it too. What is
    /// denied may be one object alone; only the caller knows whether its neighbours are served.
    pub fn is_of_the_place(&self) -> bool {
        match self {
            Self::NotFound { hint, .. } => hint.is_some(),
            // The answer does not come from S3, or it is not about this object.
            Self::Refused { code, .. } => PASSING.contains(&code.as_str()),
            Self::Unauthenticated { .. }
            | Self::Denied { .. }
            | Self::Misdirected { .. }
            | Self::Unavailable { .. } => true,
            _ => false,
        }
    }
}

/// An error with its causes, on one line; a cause that is already in the text is not repeated.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
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
