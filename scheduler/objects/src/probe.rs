//! What an endpoint can be trusted with, found out by trying.

use crate::{ChecksumMode, Error, Objects, S3Uri};

/// How an endpoint treats `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalPut {
    /// The second writer gets 412 and the object is untouched.
    Honoured,
    /// The second writer gets 200 and replaces the object: only the database keeps writers apart.
    Ignored,
    /// The endpoint does not take such requests at all.
    Refused,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `If-None-Match: *` on PUT.
    pub conditional_put: ConditionalPut,
    /// Whether GET with a wrong `If-Match` is refused.
    pub if_match: bool,
    /// Whether a streamed body with a signed trailer arrives unharmed.
    pub streamed_ok: bool,
    /// Whether a ranged GET returns that range.
    pub ranges: bool,
    /// Whether keys with spaces, `+`, `%` and letters beyond ASCII are listed as written.
    pub odd_keys: bool,
    /// The mode that this connection uses from now on; never `Auto`.
    pub checksum_mode: ChecksumMode,
    /// What a user should know, one sentence each.
    pub notes: Vec<String>,
}

impl Objects {
    /// Tries the endpoint below `scratch` (a prefix that we may write to), deletes what it wrote, and reports.
    ///
    /// # Errors
    /// When not even a plain write and read back works: [`Error::Denied`], [`Error::NotFound`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn probe(&self, scratch: &S3Uri) -> Result<Capabilities, Error> {
        let uri = scratch.join("probe");
        Err(Error::Unavailable {
            uri,
            attempts: 0,
            seconds: 0.0,
            detail: "not connected".to_owned(),
        })
    }
}
