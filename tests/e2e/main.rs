//! Whole jobs through the real program: every kind, bad inputs, destinations, SQL, administration, a pooler, webhooks, metrics, the local mode, and other people's readers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod bad_inputs;
mod destinations;
mod kinds;
mod local_mode;
mod pooler;
mod readers;
mod sql;
mod webhooks;
