//! Faults with real processes: kills, drains, frozen workers, servers that go away.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod outages;
mod workers;
