#![forbid(unsafe_code)]
//! The store: the only SQL in the house, and the protocol between users, scheduler and workers.
//!
//! Promises: every write of a worker is fenced by its lease, every write of a scheduler by its term, and every
//! call is one short transaction that may be repeated when its reply was lost. Main path: [`Store::submit`] ->
//! [`Store::submitted`] -> [`Store::planned`] -> [`Store::claim`] -> [`Store::progress`] -> [`Store::finish`].
//! It must never know what a spec means, what a picture is, or where objects are kept: specs and plans pass
//! through as text and JSON.
//!
//! All functions live in the schema `nightshift` (folder `migrations/`, embedded by [`migrate`]). A process
//! connects with its own login; the login's group role (tenant, worker, scheduler) decides which of the calls
//! below it may make. The clock is always the database's. Times come back as Unix milliseconds (`*_unix_ms`).

mod admin;
mod config;
mod connections;
mod error;
mod figures;
mod items;
mod jobs;
mod leader;
mod leases;
mod migrate;
mod notify;
mod numbers;
mod queue;
mod read;
mod report;
mod retention;
mod schedules;
mod state;
mod store;
mod tenants;
mod views;
mod webhooks;
mod windows;
mod workers;

pub use admin::{LoginKind, TableSize};
pub use config::{DatabaseConfig, Pooler};
pub use error::Error;
pub use figures::Figure;
pub use items::{Artifact, ItemFilter, ItemReport, ItemRow, ItemStatus};
pub use jobs::{Only, Submission};
pub use leader::{LeaderTerm, Plan, Planned, Policy, Refusal, Submitted, TickCounts};
pub use leases::{InputChunk, JobInfo, Lease, ShardKind};
pub use migrate::{File, PROTOCOL, SCHEMA, Schema, Versions, migrate, migrate_to};
pub use notify::{Hints, Notice, Notices};
pub use numbers::{signed, unsigned};
pub use queue::QueueRow;
pub use report::{Answer, Call, Report, Verdict};
pub use retention::Pruned;
pub use schedules::{ScheduleDue, ScheduleMove, ScheduleView};
pub use state::{AttemptOutcome, JobState, LEGAL_JOB_MOVES, LEGAL_SHARD_MOVES, ShardState};
pub use store::Store;
pub use tenants::{LoginView, TenantSettings, TenantView};
pub use views::{
    AttemptView, EventView, JobFilter, JobView, LogLine, OutputView, ShardView, WorkerView,
};
pub use webhooks::Webhook;
pub use windows::{NextWindow, WindowDue};
pub use workers::{Registration, WorkerId};
