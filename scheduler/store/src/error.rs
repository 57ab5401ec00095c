//! What can go wrong, by what the caller does next.

/// An error of a store call; each variant is a different decision.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease is no longer ours (expired, claimed by another, job cancelled). Stop the shard, publish nothing more.
    #[error("the lease was lost")]
    LeaseLost,
    /// Another scheduler leads, or our term ran out. Stop deciding; try [`crate::Store::lead`] again later.
    #[error("another scheduler leads now")]
    NotLeader,
    /// The request itself is wrong; say so to the user. Repeating it will not help.
    #[error("{message}")]
    Refused {
        /// One sentence that stands alone.
        message: String,
        /// The circumstances, when there are any.
        detail: Option<String>,
        /// What to do about it, when there is something.
        hint: Option<String>,
    },
    /// No such job, item or tenant, or not one of ours (the two are not told apart).
    #[error("{message}")]
    NotFound {
        /// Whether it was a job.
        is_job: bool,
        /// One sentence that names what was looked for.
        message: String,
    },
    /// This program and the database are too far apart. Stop; the message says which of them is too old.
    #[error("{message}")]
    VersionMismatch {
        /// One sentence with both versions.
        message: String,
        /// What to run.
        hint: String,
    },
    /// The database does not know this worker (its row was pruned, or the login changed). Register again.
    #[error("the database does not know this worker")]
    UnknownWorker,
    /// The login may not do this, or could not log in.
    #[error("{message}")]
    Denied {
        /// Which of the two, and the server's words.
        message: String,
    },
    /// The database url or option cannot be read.
    #[error("bad database configuration: {message}")]
    BadConfig {
        /// What is wrong with it.
        message: String,
    },
    /// No answer, a broken connection, a restarting server, a deadlock: the call may or may not have happened.
    /// Repeat it: every call of this crate may be repeated.
    #[error("the database is unreachable: {0}")]
    Unreachable(sqlx::Error),
    /// Somebody keeps a transaction open that has a job, or a schedule, or readers in the way. Nothing was done; repeat it.
    #[error("an open transaction holds a lock that this call needs: {0}")]
    Locked(sqlx::Error),
    /// The database answered something that this program cannot understand: a bug in one of the two.
    #[error("unexpected answer from the database: {0}")]
    Unexpected(sqlx::Error),
    /// A stored value does not fit its type: a bug, or somebody edited the tables by hand.
    #[error("stored value of {what} is not valid: {message}")]
    Inconsistent {
        /// Function and column.
        what: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// Whether the same call may succeed after a pause.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Locked(_))
    }

    /// Whether a process that serves the queue must end: its login, its version or its configuration is refused. Everything else may
    /// pass, be it by the hands of an operator.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::VersionMismatch { .. } | Self::BadConfig { .. })
    }

    pub(crate) fn inconsistent(what: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Inconsistent { what, message: error.to_string() }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Database(database) => {
                let code = database.code().map_or_else(String::new, std::borrow::Cow::into_owned);
                from_code(&code, error)
            }
            E::Io(_)
            | E::Tls(_)
            | E::PoolTimedOut
            | E::PoolClosed
            | E::WorkerCrashed
            | E::Protocol(_) => Self::Unreachable(error),
            E::Configuration(source) => Self::BadConfig { message: source.to_string() },
            _ => Self::Unexpected(error),
        }
    }
}

/// The SQLSTATEs of migrations/README.md, section "Errors".
fn from_code(code: &str, error: sqlx::Error) -> Error {
    let fields = Fields::of(&error);
    match code {
        "NSREF" => {
            Error::Refused { message: fields.message, detail: fields.detail, hint: fields.hint }
        }
        "NSNOF" => Error::NotFound {
            is_job: fields.table.as_deref() == Some("job"),
            message: fields.message,
        },
        "NSVER" => Error::VersionMismatch {
            message: fields.message,
            hint: fields.hint.unwrap_or_default(),
        },
        "NSLDR" => Error::NotLeader,
        "NSWRK" => Error::UnknownWorker,
        "NSLST" => Error::LeaseLost,
        // insufficient_privilege
        "42501" => {
            Error::Denied { message: format!("this login may not do that: {}", fields.message) }
        }
        // invalid_authorization_specification, invalid_password
        "28000" | "28P01" => {
            Error::Denied { message: format!("the database refused the login: {}", fields.message) }
        }
        // lock_not_available
        "55P03" => Error::Locked(error),
        // A database that is not there, or not yet again; a server that may only be read, as a standby or one that fails over; an object
        // in use; transactions that the server ended for their length.
        "3D000" | "25006" | "25P02" | "25P03" | "25P04" | "55006" => Error::Unreachable(error),
        // Broken connections, rollbacks for concurrency, resources that ran out (memory, disk, connections), intervention of an
        // operator (shutdown, cancel), errors of the system (I/O).
        other if matches!(other.get(..2), Some("08" | "40" | "53" | "57" | "58")) => {
            Error::Unreachable(error)
        }
        // undefined schema, table or function: an empty or an older database.
        "3F000" | "42P01" | "42883" => Error::VersionMismatch {
            message: format!("the database lacks what this program needs: {}", fields.message),
            hint: "run `nightshift migrate` with this version of the program".to_owned(),
        },
        _ => Error::Unexpected(error),
    }
}

struct Fields {
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    table: Option<String>,
}

impl Fields {
    fn of(error: &sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self { message: error.to_string(), detail: None, hint: None, table: None };
        };
        let postgres = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
        Self {
            message: database.message().to_owned(),
            detail: postgres.and_then(|e| e.detail()).map(str::to_owned),
            hint: postgres.and_then(|e| e.hint()).map(str::to_owned),
            table: database.table().map(str::to_owned),
        }
    }
}
