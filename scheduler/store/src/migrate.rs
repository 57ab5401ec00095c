//! The schema: bringing a database up to date, and comparing versions.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection};

use crate::config::connect_options;
use crate::{DatabaseConfig, Error, Store};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// The protocol this program speaks: names, arguments and meaning of the SQL functions.
pub const PROTOCOL: i32 = 1;
/// The newest migration this program knows.
pub const SCHEMA: i32 = 41;

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

impl Versions {
    /// Whether a program with this protocol and schema can work with the database.
    fn check(self, protocol: i32, schema: i32) -> Result<(), Error> {
        if protocol < self.protocol_oldest {
            return Err(Error::VersionMismatch {
                message: format!(
                    "this program is too old: it speaks protocol {protocol}, the database needs {} or newer",
                    self.protocol_oldest
                ),
                hint: "install the version of nightshift that migrated the database".to_owned(),
            });
        }
        if protocol > self.protocol || schema > self.schema {
            return Err(Error::VersionMismatch {
                message: format!(
                    "the database is too old for this program: it has schema {} and protocol {}, the program needs schema {schema} and protocol {protocol}",
                    self.schema, self.protocol
                ),
                hint: "run `nightshift migrate` with this version of the program".to_owned(),
            });
        }
        Ok(())
    }
}

/// Creates or upgrades the schema in the database of `url`. The login must be a superuser, or have CREATEROLE and
/// own the database. Several may run at once: one waits for the other. Running it again does nothing.
///
/// # Errors
/// [`Error::VersionMismatch`] when the database is newer than this program or an applied migration was edited,
/// [`Error::Denied`], [`Error::Unreachable`].
pub async fn migrate(url: &str) -> Result<(), Error> {
    let options = connect_options(&DatabaseConfig::new(url))?;
    let mut connection = PgConnection::connect_with(&options).await?;
    let outcome = MIGRATIONS.run(&mut connection).await;
    // The answer counts, not the goodbye.
    drop(connection.close().await);
    outcome.map_err(|error| match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            Error::from(source)
        }
        MigrateError::VersionMissing(_)
        | MigrateError::VersionMismatch(_)
        | MigrateError::VersionTooNew(..) => Error::VersionMismatch {
            message: format!("the database was migrated by another version of nightshift: {error}"),
            hint: "use that version or a newer one".to_owned(),
        },
        other => Error::Unexpected(sqlx::Error::Migrate(Box::new(other))),
    })
}

impl Store {
    /// Whether this program and the database understand each other. Any role.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] in words that say which side is too old and what to run.
    pub async fn check_versions(&self) -> Result<Versions, Error> {
        let row = sqlx::query!(
            r#"/* versions */ select protocol as "protocol!", protocol_oldest as "protocol_oldest!", schema as "schema!" from nightshift.versions()"#
        )
        .fetch_one(&self.pool)
        .await?;
        let versions = Versions {
            protocol: row.protocol,
            protocol_oldest: row.protocol_oldest,
            schema: row.schema,
        };
        versions.check(PROTOCOL, SCHEMA)?;
        Ok(versions)
    }
}
