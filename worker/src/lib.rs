//! The worker: holds leases, moves bytes, and asks the engine for pictures.
//!
//! Promises: nothing is published for a lease that may have been lost; a row says `ok` only when its objects exist; a bad
//! input is an error of its item and never the end of the process; a killed worker costs at most the pictures in its slots;
//! an outage of the database or the object store only delays. No port is opened: health rides on the worker's row.
//!
//! Main path: [`run`] (folder `agent`) claims a shard, `item/feed` prepares its items, the engine's thread ([`Generator`]) makes
//! pictures, `item/render` and `item/sink` publish them, the agent reports; a shard of kind `close` goes to `close`.
//!
//! This crate must never know SQL, the S3 protocol, a command line or what a tensor is.
#![deny(unsafe_code)]

mod agent;
mod close;
mod config;
mod failure;
mod generate;
mod item;
mod job;
mod lease;
mod retry;
mod shared;
mod shutdown;
mod trouble;
mod work;

pub use agent::{WorkerError, run};
pub use config::{Config, InputLimits};
pub use generate::models::{Models, ModelsError, model_key};
pub use generate::{Generator, scripted};
pub use item::decode_child;
pub use shutdown::{Shutdown, ShutdownHandle, shutdown};
