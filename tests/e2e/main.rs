//! Whole jobs through the real program: every kind, bad inputs, manifests, destinations, SQL, the queue and schedules, administration, a pooler, webhooks,
//! metrics, the local mode, and other people's readers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod bad_inputs;
mod destinations;
mod kinds;
mod local_mode;
mod manifests;
mod pooler;
mod queue;
mod readers;
mod sql;
mod webhooks;
