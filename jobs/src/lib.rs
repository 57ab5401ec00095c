#![forbid(unsafe_code)]
//! What a job is: the YAML spec, its mistakes, and the items it stands for.
//!
//! This crate promises three things. [`parse`] reads a spec of any origin within fixed bounds of time and memory and reports
//! **all** its mistakes at once, each with line, column, caret, help and a stable code. A [`JobSpec`] is valid and resolved:
//! every default is filled, no range needs another check, and it travels as JSON. [`JobSpec::item`] is a pure function of
//! (spec, input row, item number), so that a job of ten million items costs nothing to plan.
//!
//! The main path: [`parse`] scans the text into positioned nodes (`yaml`), checks them against the schema of the raw types
//! (`keys`, `read/check`), reads each block for every combination of the matrix (`read`) and returns a [`Parsed`].
//!
//! This crate does no input or output, knows no clock, no database and no model: the strings that the model was trained with
//! live in the engine.

mod globs;
mod headline;
mod ids;
mod item;
mod keys;
mod parse;
pub mod places;
mod prefix;
mod read;
mod spec;
mod template;
mod time;
mod units;
mod words;
mod yaml;

pub use globs::Globs;
pub use headline::Headline;
pub use ids::{canonical_json, seed};
pub use item::expand::MAX_PROMPT_BYTES;
pub use item::{Encoding, GivenPanel, Item, ItemError, JobVars, Output, Role};
pub use keys::{Features, THIS_BUILD, fates, json_schema};
pub use parse::{Parsed, parse};
pub use prefix::is_allowed;
pub use read::cells::MAX_SIDE;
pub use spec::input::{InputRow, InputSpec, ManifestFormat, OnBadInput, Subjects};
pub use spec::notify::{Notify, NotifyEvent};
pub use spec::running::{Backoff, Running};
pub use spec::{
    Cell, Decoding, Fit, GuidanceSchedule, ItemLimit, JobSpec, Kind, KvCache, MapKind, MaxFailed,
    ModelSpec, NormalFrame, OnExisting, OutputSpec, Restore, Sampler, Seeds, Sidecar, Size, Task,
    Weights, Window,
};
pub use template::Template;
pub use time::cron::Cron;
pub use time::window::{Opening, TimeWindow};

pub use words::{Day, Embed, RetryClass, WhenStillRunning, WhenWindowCloses};
pub use yaml::diagnostic::{Diagnostic, Severity, SpecErrors};
