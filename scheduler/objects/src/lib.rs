//! The only S3 in the house: a thin client over any S3 endpoint, and a probe of what the endpoint can be trusted with.
//!
//! Promise: an object is written whole with its checksum or not at all; an unknown outcome is looked up before anything is repeated; one retry budget; and
//! every error is a decision ([`Error`]), in words that name the object and what to do.
//!
//! Main path: [`StoreConfig::from_env`], [`Objects::connect`], then `put`, `get`, `head`, `list_page`.
//!
//! This crate must never know what a job, a shard or a lease is.

#![forbid(unsafe_code)]

mod client;
mod config;
mod error;
mod listing;
mod object;
mod probe;
mod retry;
mod stream;
mod uri;
mod wire;

pub use client::Objects;
pub use config::{ChecksumMode, StoreConfig};
pub use error::{Error, chain};
pub use object::{
    After, Got, Listed, ObjectInfo, Page, Put, PutOutcome, SHA256_KEY, hex, sha256_hex,
};
pub use probe::{Capabilities, ConditionalPut};
pub use stream::ObjectStream;
pub use uri::{S3Uri, UriError};
