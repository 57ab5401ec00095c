//! What is written to, read from and known of an object. Plain data.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Metadata name under which [`crate::Objects::put`] keeps the hex sha256 of the body, unless the caller sets it.
pub const SHA256_KEY: &str = "sha256";

/// How to write an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// Write only if there is no object of this key yet (`If-None-Match: *`).
    pub create_only: bool,
    /// Content type; `application/octet-stream` when empty.
    pub content_type: String,
    /// User metadata: names in lower case, values in printable ASCII, 2 KB in all.
    pub metadata: BTreeMap<String, String>,
}

/// What a successful [`crate::Objects::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is there, with these bytes.
    Created,
    /// `create_only`, and an object was there before; it is untouched. Whether it is the same one is the caller's question ([`crate::Objects::head`]).
    AlreadyExists,
}

/// What is known of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Content type, empty if the endpoint gives none.
    pub content_type: String,
    /// User metadata, names in lower case.
    pub metadata: BTreeMap<String, String>,
    /// Hex sha256, when the endpoint keeps one for the whole object.
    pub sha256: Option<String>,
}

/// An object read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The bytes.
    pub body: Bytes,
    /// ETag, without quotes.
    pub etag: String,
    /// Size of the whole object.
    pub bytes: u64,
    /// User metadata, names in lower case.
    pub metadata: BTreeMap<String, String>,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its whole key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Its ETag, without quotes.
    pub etag: String,
}

/// One page of a listing, in the order of the keys' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most 1,000 objects.
    pub objects: Vec<Listed>,
    /// What to pass to the next call; none after the last page.
    pub next: Option<After>,
}

/// Where a listing goes on, and what the next page is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    pub(crate) token: String,
    /// The last key so far.
    pub(crate) last: Option<String>,
    /// Tokens since the last key came: pages may be empty, but do not come again.
    pub(crate) seen: Vec<String>,
}

/// Bytes in lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sha256 of a body in the form used in rows, manifests and metadata: lower-case hex.
#[must_use]
pub fn sha256_hex(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}
