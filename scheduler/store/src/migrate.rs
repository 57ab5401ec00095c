//! The schema: bringing a database up to date, and comparing versions.

use crate::{Error, Store};

/// The protocol this program speaks: names, arguments and meaning of the SQL functions.
pub const PROTOCOL: i32 = 1;
/// The newest migration this program knows.
pub const SCHEMA: i32 = 1;

/// What the database offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Newest protocol it speaks.
    pub protocol: i32,
    /// Oldest protocol it still speaks.
    pub protocol_oldest: i32,
    /// Newest migration applied.
    pub schema: i32,
}

/// Creates or upgrades the schema in the database of `url`. The login must be a superuser, or have CREATEROLE and
/// own the database. Several may run at once: one waits for the other. Running it again does nothing.
///
/// # Errors
/// [`Error::VersionMismatch`] when the database is newer than this program or an applied migration was edited,
/// [`Error::Denied`], [`Error::Unreachable`].
pub async fn migrate(url: &str) -> Result<(), Error> {
    let _ = url;
    todo!()
}

impl Store {
    /// Whether this program and the database understand each other. Any role.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] in words that say which side is too old and what to run.
    pub async fn check_versions(&self) -> Result<Versions, Error> {
        todo!()
    }
}
