//! `If-Match` and `If-None-Match`. Pure.

use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::error::refuse;

/// The conditions of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl Conditions {
    /// Whether the writer wants to be the first: decided by the file system itself, not by looking.
    pub(super) fn create_only(&self) -> bool {
        self.if_none_match.as_ref().is_some_and(ETagCondition::is_any)
    }

    /// Whether writing needs to know the present ETag.
    pub(super) fn need_etag(&self) -> bool {
        self.if_match.is_some()
            || self.if_none_match.as_ref().is_some_and(|condition| !condition.is_any())
    }

    /// Checks a write against the object that is there now.
    pub(super) fn check_write(&self, etag: Option<&str>) -> S3Result<()> {
        match (&self.if_match, etag) {
            (Some(_), None) => {
                return Err(refuse(
                    S3ErrorCode::NoSuchKey,
                    "If-Match was given, but there is no object of this key",
                ));
            }
            (Some(wanted), Some(etag)) if !holds(wanted, etag) => return Err(failed()),
            _ => {}
        }
        match (&self.if_none_match, etag) {
            (Some(unwanted), Some(etag)) if holds(unwanted, etag) => Err(failed()),
            _ => Ok(()),
        }
    }

    /// Checks a read: 412 when another object was wanted, 304 when the reader has this one.
    pub(super) fn check_read(&self, etag: &str) -> S3Result<()> {
        if self.if_match.as_ref().is_some_and(|wanted| !holds(wanted, etag)) {
            return Err(failed());
        }
        if self.if_none_match.as_ref().is_some_and(|had| holds(had, etag)) {
            let mut error = S3Error::new(S3ErrorCode::NotModified);
            let mut headers = http::HeaderMap::new();
            if let Ok(value) = ETag::Strong(etag.to_owned()).to_http_header() {
                headers.insert(http::header::ETAG, value);
            }
            error.set_headers(headers);
            return Err(error);
        }
        Ok(())
    }
}

/// The answer to a condition that does not hold.
pub(super) fn failed() -> S3Error {
    refuse(
        S3ErrorCode::PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold",
    )
}

fn holds(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(if_match: Option<&str>, if_none_match: Option<&str>) -> Conditions {
        let parse = |text: &str| ETagCondition::parse_http_header(text.as_bytes()).unwrap();
        Conditions { if_match: if_match.map(parse), if_none_match: if_none_match.map(parse) }
    }

    fn code(result: S3Result<()>) -> Option<S3ErrorCode> {
        result.err().map(|error| error.code().clone())
    }

    #[test]
    fn writes() {
        let cases = [
            (Some("\"a\""), None, Some("a"), None),
            (Some("\"a\""), None, Some("b"), Some(S3ErrorCode::PreconditionFailed)),
            (Some("\"a\""), None, None, Some(S3ErrorCode::NoSuchKey)),
            (None, Some("*"), Some("a"), Some(S3ErrorCode::PreconditionFailed)),
            (None, Some("*"), None, None),
            (None, Some("\"a\""), Some("b"), None),
        ];
        for (if_match, if_none_match, etag, wanted) in cases {
            assert_eq!(
                code(conditions(if_match, if_none_match).check_write(etag)),
                wanted,
                "{if_match:?} {if_none_match:?} {etag:?}"
            );
        }
    }

    #[test]
    fn reads() {
        assert_eq!(code(conditions(Some("\"a\""), None).check_read("a")), None);
        assert_eq!(
            code(conditions(Some("\"a\""), None).check_read("b")),
            Some(S3ErrorCode::PreconditionFailed)
        );
        assert_eq!(
            code(conditions(None, Some("\"a\"")).check_read("a")),
            Some(S3ErrorCode::NotModified)
        );
        assert_eq!(code(conditions(None, Some("\"a\"")).check_read("b")), None);
    }
}
