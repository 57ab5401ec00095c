//! Decides: turns submitted specs into ready jobs, and keeps time for the leases.
//!
//! Promise: every submitted job becomes `ready` or `rejected` with words that help, whatever is restarted in between, and only one
//! scheduler decides at a time. Main path: [`Scheduler::run`] leads, asks the store what waits, and per job parses the spec,
//! snapshots its inputs and writes the plan (folder `plan`).
//! It must never know a worker, an engine or a picture.

#![forbid(unsafe_code)]

mod decide;
mod error;
mod forecast;
#[cfg(test)]
mod lab;
mod metrics;
mod plan;
mod schedules;
mod tick;
mod webhooks;
mod windows;

pub use decide::{Decision, Waiting, decide};
pub use error::{InputProblem, PlanError};
pub use forecast::{Forecast, forecast};
pub use plan::{Survey, cannot_run, plan_job, survey};
pub use schedules::advance_schedules;
pub use tick::{Config, Scheduler};
pub use windows::refresh_windows;
