//! Faults with real processes: kills, drains, frozen workers, servers that go away, connections that break at any statement,
//! connections that go silent, clocks that are wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clocks;
mod cuts;
mod hints;
mod outages;
mod silence;
mod workers;
