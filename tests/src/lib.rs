#![forbid(unsafe_code)]
//! The whole system under test: a real Postgres, a real S3 protocol, the real program as processes that are run, signalled and killed.
//!
//! Main path: [`System::start`] makes a box with a database and an object store; [`System::scheduler`] and [`System::worker`] start
//! processes in it; [`System::submit`] and [`System::wait`] drive a job. Nothing here replaces a part of the system by a fake.

pub mod hole;
pub mod pgbouncer;
pub mod process;
pub mod proxy;
pub mod specs;
pub mod system;

pub use hole::Hole;
pub use nightshift_lab::{Database, psql, try_psql};
pub use process::{Process, until};
pub use proxy::{Cut, Proxy};
pub use rustix::process::Signal;
pub use system::System;
