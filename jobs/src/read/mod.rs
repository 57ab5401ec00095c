//! From text to raw types: bounded, positioned, and with every mistake found.
//!
//! `scan` turns parser events into nodes with positions, within limits; `walk` checks nodes against the schema of the raw types
//! and gives the values that passed; `raw` says what may be written at all. Nothing here knows what a job means.

pub(crate) mod cx;
pub(crate) mod nearest;
pub(crate) mod node;
#[expect(
    dead_code,
    reason = "keys that cannot run, or have one value only, are checked for their form alone"
)]
pub(crate) mod raw;
pub(crate) mod scan;
pub(crate) mod schema;
pub(crate) mod walk;
