//! The client.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Error, ObjectStream, S3Uri, StoreConfig};

/// Metadata name under which [`Objects::put`] keeps the hex sha256 of the body, unless the caller sets it.
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

/// What a successful [`Objects::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is there, with these bytes.
    Created,
    /// `create_only`, and an object was there before; it is untouched. Whether it is the same one is the caller's question ([`Objects::head`]).
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
    pub next: Option<String>,
}

/// A connection to one endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    config: StoreConfig,
}

impl Objects {
    /// Prepares a client; no request is made yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the endpoint is no URL.
    pub async fn connect(config: StoreConfig) -> Result<Self, Error> {
        Ok(Self { config })
    }

    fn unfinished<T>(&self, uri: &S3Uri) -> Result<T, Error> {
        let detail = format!("not connected to {:?}", self.config.endpoint);
        Err(Error::Unavailable {
            uri: uri.clone(),
            attempts: 0,
            seconds: 0.0,
            detail,
        })
    }

    /// Writes an object.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NotFound`] (no such bucket), [`Error::Refused`], [`Error::Invalid`], [`Error::Unavailable`].
    pub async fn put(&self, uri: &S3Uri, _body: Bytes, _how: &Put) -> Result<PutOutcome, Error> {
        self.unfinished(uri)
    }

    /// Looks at an object; none if there is none.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn head(&self, uri: &S3Uri) -> Result<Option<ObjectInfo>, Error> {
        self.unfinished(uri)
    }

    /// Reads an object of at most `limit_bytes`, if `if_match` is given only with that ETag.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Changed`], [`Error::TooLarge`], [`Error::Denied`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn get(
        &self,
        uri: &S3Uri,
        _limit_bytes: u64,
        _if_match: Option<&str>,
    ) -> Result<Got, Error> {
        self.unfinished(uri)
    }

    /// Reads an object of any size, chunk by chunk.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn get_stream(
        &self,
        uri: &S3Uri,
        _if_match: Option<&str>,
    ) -> Result<ObjectStream, Error> {
        self.unfinished(uri)
    }

    /// One page of the objects whose key begins with `prefix.key`; `after` is [`Page::next`] of the page before.
    ///
    /// # Errors
    /// [`Error::NotFound`] (no such bucket), [`Error::Denied`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn list_page(&self, prefix: &S3Uri, _after: Option<String>) -> Result<Page, Error> {
        self.unfinished(prefix)
    }

    /// Deletes an object; one that does not exist counts as deleted.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn delete(&self, uri: &S3Uri) -> Result<(), Error> {
        self.unfinished(uri)
    }

    /// Makes a bucket; one that we own already counts as made.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        self.unfinished(&S3Uri {
            bucket: bucket.to_owned(),
            key: String::new(),
        })
    }
}
