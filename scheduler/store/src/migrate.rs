//! The schema: making it, bringing one of an earlier release up to date, and comparing versions. `migrations/README.md` has the rules.

use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection};

use crate::config::connect_options;
use crate::{DatabaseConfig, Error, Store};

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The protocol this program speaks: names, arguments and meaning of the SQL functions.
pub const PROTOCOL: i32 = 1;
/// The newest upgrade this program knows; 1 when there is none yet.
pub const SCHEMA: i32 = 1 + UPGRADES.len() as i32;

/// A file of SQL, named without its ending.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// `03_worker`, or `0002_what_changes` for an upgrade.
    pub name: &'a str,
    /// Its statements.
    pub sql: &'a str,
}

/// All that makes a schema.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a> {
    /// What is stored, in the order in which it is made. The first makes the roles and the schema itself.
    pub tables: &'a [File<'a>],
    /// What may be called. `foundation` comes before the second file of tables, whose columns have defaults from it.
    pub functions: &'a [File<'a>],
    /// What may be read.
    pub views: &'a [File<'a>],
    /// What brings the tables of an earlier release up to date; the number in front of a name is one more than that before.
    pub upgrades: &'a [File<'a>],
}

impl Schema<'static> {
    /// That of this program.
    pub const CURRENT: Self =
        Self { tables: TABLES, functions: FUNCTIONS, views: VIEWS, upgrades: UPGRADES };
}

impl<'a> Schema<'a> {
    /// The number of the newest upgrade. The tables as they are made have all of them.
    fn number(&self) -> i32 {
        1 + i32::try_from(self.upgrades.len()).unwrap_or(i32::MAX - 1)
    }

    /// Upgrades with their numbers.
    fn numbered(&self) -> impl Iterator<Item = (i32, &'a File<'a>)> {
        (2..).zip(self.upgrades)
    }

    /// Everything, for an empty database.
    fn whole(&self) -> impl Iterator<Item = &'a File<'a>> {
        let (first, tables) = self.tables.split_at(1);
        let (foundation, functions): (Vec<_>, Vec<_>) =
            self.functions.iter().partition(|file| file.name == FOUNDATION);
        first.iter().chain(foundation).chain(tables).chain(functions).chain(self.views)
    }

    /// What is applied again after each change: whatever `create or replace` can replace.
    fn replaceable(&self) -> impl Iterator<Item = &'a File<'a>> {
        self.functions.iter().chain(self.views)
    }
}

const FOUNDATION: &str = "foundation";

/// sha256 of files, hex.
fn sha256<'a>(files: impl Iterator<Item = &'a File<'a>>) -> String {
    let sum = files.fold(Sha256::new(), |sum, file| sum.chain_update(file.sql));
    format!("{:x}", sum.finalize())
}

/// What the database offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Newest protocol it speaks.
    pub protocol: i32,
    /// Oldest protocol it still speaks.
    pub protocol_oldest: i32,
    /// Newest upgrade applied.
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

/// Creates or upgrades the schema in the database of `url`, in one transaction. The login must be a superuser, or have CREATEROLE and
/// own the database. Several may run at once: one waits for the other. Running it again changes nothing.
///
/// # Errors
/// [`Error::VersionMismatch`] when the database is newer than this program, older than the first release, or had an upgrade that was
/// edited since, [`Error::Refused`] when it cannot hold the schema, [`Error::Denied`], [`Error::Unreachable`].
pub async fn migrate(url: &str) -> Result<(), Error> {
    migrate_to(url, Schema::CURRENT).await
}

/// [`migrate`] to another schema than that of this program: for tests of upgrades.
///
/// # Errors
/// Those of [`migrate`].
pub async fn migrate_to(url: &str, schema: Schema<'_>) -> Result<(), Error> {
    let options = connect_options(&DatabaseConfig::new(url))?;
    let mut connection = PgConnection::connect_with(&options).await?;
    let mut outcome = apply(&mut connection, schema).await;
    // Two found the database empty: the second waited until the first had made the schema.
    if matches!(&outcome, Err(Error::Unexpected(error)) if is_duplicate(error)) {
        outcome = apply(&mut connection, schema).await;
    }
    // The answer counts, not the goodbye.
    drop(connection.close().await);
    outcome
}

/// Whether somebody else made the same schema at the same moment (duplicate_schema, unique_violation).
fn is_duplicate(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("42P06" | "23505"))
}

async fn apply(connection: &mut PgConnection, schema: Schema<'_>) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    let to = &mut *transaction;
    // Bodies name what later files make. Words about what exists already are no news.
    run(to, "set local check_function_bodies = off; set local client_min_messages = warning; set local standard_conforming_strings = on").await?;
    match found(to).await? {
        Found::Nothing => {
            for file in schema.whole() {
                run(to, file.sql).await?;
            }
            remember(to, 1, "tables", &sha256(schema.tables.iter())).await?;
            for (number, upgrade) in schema.numbered() {
                remember(to, number, upgrade.name, &sha256([upgrade].into_iter())).await?;
            }
        }
        Found::Migrated => {
            // Nobody else can lock it: those who migrate take turns.
            run(to, "set local role nightshift_owner; lock table nightshift.migration in exclusive mode").await?;
            let applied = applied(to).await?;
            schema.check(&applied)?;
            run(to, "reset role").await?;
            let newest = applied.iter().map(|(number, _, _)| *number).max().unwrap_or(0);
            let replaceable = sha256(schema.replaceable());
            if newest == schema.number()
                && applied.contains(&(0, REPLACEABLE.to_owned(), replaceable))
            {
                return Ok(());
            }
            for (number, upgrade) in schema.numbered().filter(|(number, _)| *number > newest) {
                run(to, upgrade.sql).await?;
                remember(to, number, upgrade.name, &sha256([upgrade].into_iter())).await?;
            }
            for file in schema.replaceable() {
                run(to, file.sql).await?;
            }
        }
    }
    remember(to, 0, REPLACEABLE, &sha256(schema.replaceable())).await?;
    transaction.commit().await?;
    Ok(())
}

/// The name of number 0.
const REPLACEABLE: &str = "functions and views";

enum Found {
    Nothing,
    Migrated,
}

/// What the database holds.
async fn found(connection: &mut PgConnection) -> Result<Found, Error> {
    let (encoding, schema, ours, earlier): (String, bool, bool, bool) = sqlx::query_as(
        "select current_setting('server_encoding'), to_regnamespace('nightshift') is not null, to_regclass('nightshift.migration') is not null,
            to_regprocedure('nightshift.versions()') is not null",
    )
    .fetch_one(connection)
    .await?;
    let refused = |message: &str, hint: &str| Error::Refused {
        message: message.to_owned(),
        detail: None,
        hint: Some(hint.to_owned()),
    };
    match (encoding.as_str(), schema, ours, earlier) {
        ("UTF8", false, ..) => Ok(Found::Nothing),
        ("UTF8", true, true, _) => Ok(Found::Migrated),
        ("UTF8", true, false, true) => Err(Error::VersionMismatch {
            message: "this database was made by a nightshift from before the first release and cannot be upgraded".to_owned(),
            hint: "make a new database (of a local system: move its data folder away) and submit the jobs again".to_owned(),
        }),
        ("UTF8", true, false, false) => Err(refused(
            "this database has a schema `nightshift` that nightshift did not make",
            "drop or rename it, or use another database",
        )),
        (other, ..) => Err(refused(
            &format!("this database has the encoding {other}, and nightshift needs UTF8"),
            "make one with `create database ... encoding 'UTF8' template template0`",
        )),
    }
}

impl Schema<'_> {
    /// Whether what was applied is a part of this schema.
    fn check(&self, applied: &[(i32, String, String)]) -> Result<(), Error> {
        let refused = |message: String| {
            Err(Error::VersionMismatch {
                message,
                hint: "use that version or a newer one".to_owned(),
            })
        };
        for (number, name, sha) in applied.iter().filter(|(number, ..)| *number > 1) {
            match self.numbered().find(|(known, _)| known == number) {
                None => {
                    return refused(format!(
                        "the database was migrated by a newer nightshift: it has upgrade {name}, and this program knows {}",
                        self.number()
                    ));
                }
                Some((_, known)) if known.name != name || sha256([known].into_iter()) != *sha => {
                    return refused(format!(
                        "the database was migrated by another nightshift: its upgrade {name} is not the one of this program"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<(i32, String, String)>, Error> {
    Ok(sqlx::query_as("select number, name, sha256 from nightshift.migration order by number")
        .fetch_all(connection)
        .await?)
}

async fn remember(
    connection: &mut PgConnection,
    number: i32,
    name: &str,
    sha256: &str,
) -> Result<(), Error> {
    run(connection, "set local role nightshift_owner").await?;
    sqlx::query(
        "insert into nightshift.migration (number, name, sha256) values ($1, $2, $3)
            on conflict (number) do update set name = excluded.name, sha256 = excluded.sha256, applied_at = excluded.applied_at",
    )
    .bind(number)
    .bind(name)
    .bind(sha256)
    .execute(&mut *connection)
    .await?;
    run(connection, "reset role").await
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
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
