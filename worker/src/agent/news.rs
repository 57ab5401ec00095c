//! What the tasks beside the loop answer.

use nightshift_store::{Error as StoreError, ItemReport, Lease, Report, Verdict, WorkerId};

use crate::failure::ShardError;

/// The answer of a store call; `None` when it took too long to wait for.
pub(super) type Answer<T> = Option<Result<T, StoreError>>;

/// How this worker ends a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Finish,
    Release,
    Fail { code: &'static str, message: String },
}

/// An answer of a task.
pub(super) enum Note {
    Registered(Answer<WorkerId>),
    Claimed(Answer<Vec<Lease>>),
    /// About the lease with this token.
    Lease(i64, News),
    /// A task panicked that belongs to no lease.
    Panicked,
}

/// What a task has done for its lease.
pub(super) enum News {
    /// A progress call: the lease as renewed, and what was sent.
    Reported { lease: Box<Lease>, report: Report, answer: Answer<Verdict> },
    /// A finish, release or fail call.
    Ended { end: End, report: Report, answer: Answer<()> },
    /// A feeder handed over its last item, or gave up.
    FeedEnded(Result<(), ShardError>),
    /// All files of a job are written, or cannot be.
    Closed(Result<(), ShardError>),
    /// A picture was stored, or failed.
    Published(Result<Box<ItemReport>, ShardError>),
    /// A task panicked: a bug, which costs its attempt and not the process.
    Panicked { was_publishing: bool },
}
