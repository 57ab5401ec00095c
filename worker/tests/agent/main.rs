//! The agent against a real Postgres and the embedded object store, with scripted pictures.
//!
//! Each test has its own cluster and its own store of objects. Nobody sleeps: tests wait for a condition with a deadline.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod gateway;
mod inputs;
mod jobs;
mod lab;
mod refusals;
mod suspects;
