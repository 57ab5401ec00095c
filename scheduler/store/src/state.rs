//! The states of jobs, shards and attempts, and the legal moves between them, listed once.
//!
//! The same moves stand in `migrations/` as the table `nightshift.legal_move`, which a trigger enforces; a test
//! compares the two.

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of the database's enum.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.as_str()) }
        }

        impl sqlx::Type<sqlx::Postgres> for $name {
            fn type_info() -> sqlx::postgres::PgTypeInfo { <str as sqlx::Type<sqlx::Postgres>>::type_info() }
            fn compatible(ty: &sqlx::postgres::PgTypeInfo) -> bool { <str as sqlx::Type<sqlx::Postgres>>::compatible(ty) }
        }

        /// From the text of the enum: queries cast it, so that no type of the database must be looked up.
        impl<'r> sqlx::Decode<'r, sqlx::Postgres> for $name {
            fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
                Ok(<&str as sqlx::Decode<'r, sqlx::Postgres>>::decode(value)?.parse::<Self>()?)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text)
                    .ok_or_else(|| crate::Error::inconsistent(stringify!($name), text))
            }
        }
    };
}
pub(crate) use states;

states! {
    /// Where a job stands.
    JobState {
        /// Stored as text; no scheduler has looked at it yet.
        Submitted = "submitted",
        /// The spec, its inputs or its destination are wrong; `errors` says why. Final.
        Rejected = "rejected",
        /// Planned; its shards may be claimed (unless the job is held).
        Ready = "ready",
        /// Paused by a user: no new claims, running shards give their leases back.
        Paused = "paused",
        /// All items are final; one shard of kind `close` writes what belongs at the end.
        Closing = "closing",
        /// Cancelled, or stopped by too many failed items; some shards are still leased.
        Cancelling = "cancelling",
        /// Cancelled; nothing is leased. Final, but may be retried.
        Cancelled = "cancelled",
        /// Every item is ok or skipped. Final.
        Finished = "finished",
        /// Closed with some items failed. Final, but may be retried.
        FinishedWithErrors = "finished_with_errors",
        /// Stopped by too many failed items, or could not be closed; `errors` says why. Final, but may be retried.
        Failed = "failed",
    }
}

impl JobState {
    /// Whether nothing more happens by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Rejected
                | Self::Cancelled
                | Self::Finished
                | Self::FinishedWithErrors
                | Self::Failed
        )
    }
}

states! {
    /// Where a shard stands.
    ShardState {
        /// May be claimed once its `ready_at` has passed.
        Waiting = "waiting",
        /// A worker holds it until `leased_until`.
        Leased = "leased",
        /// All of its items are final.
        Finished = "finished",
        /// Out of attempts; its unfinished items became failed items.
        Dead = "dead",
        /// Ended with its job.
        Cancelled = "cancelled",
    }
}

states! {
    /// How an attempt ended.
    AttemptOutcome {
        /// Given back by a drain, pause or preemption; costs nothing.
        Released = "released",
        /// All of its items became final.
        Finished = "finished",
        /// The worker reported an error of the whole shard; spends an attempt.
        Failed = "failed",
        /// The lease ran out; spends a lost attempt.
        Lost = "lost",
        /// The job was cancelled meanwhile.
        Cancelled = "cancelled",
    }
}

/// Every legal move of a job.
pub const LEGAL_JOB_MOVES: &[(JobState, JobState)] = {
    use JobState::{
        Cancelled, Cancelling, Closing, Failed, Finished, FinishedWithErrors, Paused, Ready,
        Rejected, Submitted,
    };
    &[
        (Submitted, Rejected),
        (Submitted, Ready),
        (Submitted, Closing), // no items at all
        (Submitted, Cancelled),
        (Ready, Paused),
        (Paused, Ready),
        (Ready, Closing),
        (Paused, Closing), // the last leased shard finished although the job was paused
        (Ready, Cancelling),
        (Paused, Cancelling),
        (Closing, Cancelling),
        (Cancelling, Cancelled),
        (Cancelling, Failed), // stopped by too many failed items
        (Closing, Finished),
        (Closing, FinishedWithErrors),
        (Closing, Failed), // the close shard ran out of attempts
        (FinishedWithErrors, Ready),
        (Failed, Ready),
        (Cancelled, Ready),
        (Failed, Closing), // retry when only the closing had failed
        (Cancelled, Closing),
    ]
};

/// Every legal move of a shard.
pub const LEGAL_SHARD_MOVES: &[(ShardState, ShardState)] = {
    use ShardState::{Cancelled, Dead, Finished, Leased, Waiting};
    &[
        (Waiting, Leased),
        (Waiting, Cancelled),
        (Waiting, Dead), // failed in a way that is not tried again
        (Leased, Waiting),
        (Leased, Finished),
        (Leased, Dead),
        (Leased, Cancelled),
        (Finished, Waiting), // retry of failed items
        (Dead, Waiting),
        (Cancelled, Waiting),
    ]
};
