//! The two servers a laptop lacks: a private Postgres cluster and an S3 store, both below one data folder.
//!
//! Promise: [`Postgres::start`] and [`S3Server::start`] give a working server on the loopback interface, keep everything below the folder they were
//! given, may be killed at any moment and started again, and leave no process behind.
//!
//! Main path: find the system's binaries, `initdb` once, run the server under a watchdog; beside it one task that speaks S3 over plain files.
//!
//! This crate must never know what a job is, and speaks no SQL.

mod error;
mod files;
mod postgres;
mod s3;

pub use error::Error;
pub use files::make_folder;
pub use postgres::{Postgres, PostgresOptions};
pub use s3::S3Server;
