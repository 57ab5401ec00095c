#![forbid(unsafe_code)]
//! The one harness of all suites: a Postgres cluster for a whole run, a migrated database for each test, its logins and its clock.
//!
//! Promise: nothing else starts a cluster or makes logins for tests, and no two tests share a database, in whatever processes and threads
//! the runner puts them.
//!
//! Main path: [`run_under`] starts the cluster and prepares a template; [`Database::fresh`] copies it. A test that is run by hand starts a
//! cluster of its own.

mod cluster;
mod database;
mod psql;

pub use cluster::{
    BOB, CLUSTER_VARIABLE, NOBODY, PASSWORD, SCHEDULER, USER, WORKER, WORKER2, run_under,
};
pub use database::Database;
pub use psql::{Session, psql, try_psql};
