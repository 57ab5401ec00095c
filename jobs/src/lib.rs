#![forbid(unsafe_code)]
//! What a job is: the YAML spec, its mistakes, and the items it stands for.
//!
//! This crate promises three things. [`parse`] reads a spec of any origin within fixed bounds of time and memory and reports
//! **all** its mistakes at once, each with line, column, caret, help and a stable code. A [`JobSpec`] is valid and resolved:
//! every default is filled, no range needs another check, and it travels as JSON. [`JobSpec::item`] is a pure function of
//! (spec, input row, item number), so that a job of ten million items costs nothing to plan.
//!
//! The main path: [`parse`] scans the text into positioned nodes (`scan`), checks them against the schema of the raw types
//! (`walk`), resolves every combination of the matrix (`sweep`), validates (`validate`) and returns a [`Parsed`].
//!
//! This crate does no input or output, knows no clock, no database and no model: the strings that the model was trained with
//! live in the engine.

mod cron;
mod diagnostic;
mod expand;
mod globs;
mod headline;
mod ids;
mod input;
mod item;
mod key;
mod notify;
pub mod plan_errors;
mod prefix;
mod read;
mod runnable;
mod running;
mod schedule;
mod spec;
mod sweep;
mod template;
mod units;
mod validate;
mod window;
mod words;

pub use cron::Cron;
pub use diagnostic::{Diagnostic, Severity, SpecErrors};
pub use expand::MAX_PROMPT_BYTES;
pub use globs::Globs;
pub use headline::Headline;
pub use ids::{canonical_json, seed};
pub use input::{InputRow, InputSpec, ManifestFormat, OnBadInput, Subjects};
pub use item::{Embed, Encoding, GivenPanel, Item, ItemError, JobVars, Output, Role};
pub use notify::{Notify, NotifyEvent};
pub use prefix::is_allowed;
pub use read::schema::json_schema;
pub use runnable::{Features, THIS_BUILD};
pub use running::{Backoff, Running};
pub use spec::{
    Cell, Decoding, Fit, GuidanceSchedule, ItemLimit, JobSpec, Kind, KvCache, MapKind, MaxFailed,
    ModelSpec, NormalFrame, OnExisting, OutputSpec, Parsed, Restore, Sampler, Seeds, Sidecar, Size,
    Task, Weights, Window, parse,
};
pub use template::Template;
pub use validate::MAX_SIDE;
pub use window::{Opening, TimeWindow};
pub use words::{Day, RetryClass, WhenStillRunning, WhenWindowCloses};
