//! Failures of the storage, in the words of S3.

use s3s::{S3Error, S3ErrorCode};

/// A refusal with our own words.
pub(super) fn refuse(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    S3Error::with_message(code, message.into())
}

/// A failed file operation. The client sees what failed, the log sees the path too.
pub(super) fn disk(what: &'static str) -> impl FnOnce(std::io::Error) -> S3Error {
    move |error| {
        tracing::error!(%error, what, "the local object store's disk failed");
        refuse(S3ErrorCode::InternalError, format!("cannot {what}: {error}"))
    }
}

/// Runs blocking file work beside the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
