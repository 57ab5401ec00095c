//! Figures about this machine and this build: what the verbs `bench engine` and `bench queue` measure.
//!
//! Promise: a figure says what it is of and in which unit, and targets stand beside what was measured. `ops/bench/README.md` has the results.
//! This crate prints nothing and knows no command line.

pub mod engine;
pub mod queue;
