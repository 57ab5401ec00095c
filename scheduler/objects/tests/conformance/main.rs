//! What the house relies on in an object store, checked with our client and the SDK against the embedded server over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod doubts;
mod faults;
mod listings;
mod multipart;
mod server;
mod support;
mod verified;
