//! Exit codes: what a script may rely on, and how an error becomes one of them.
//!
//! The numbers are public interface. They are listed once, in [`Exit::ALL`], which `nightshift --help` prints.

use std::fmt;

/// The exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// The job finished, but some of its items failed; or a check reported a failure.
    ItemsFailed = 1,
    /// The command line, the configuration or the spec is wrong.
    Usage = 2,
    /// The job, item or file does not exist (or this login may not see it).
    NotFound = 3,
    /// Refused: permission, budget, a destination or an idempotency key that belongs to another job, a wrong state.
    Refused = 4,
    /// Postgres or the object store cannot be reached, or speaks another version.
    Unreachable = 5,
    /// The job failed as a whole, or was rejected.
    JobFailed = 6,
    /// The job was cancelled.
    JobCancelled = 7,
    /// `wait --timeout` ran out; the job continues.
    TimedOut = 124,
    /// Interrupted; a submitted job continues.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, in numeric order.
    pub const ALL: [(Exit, &'static str); 10] = [
        (Exit::Ok, "ok"),
        (
            Exit::ItemsFailed,
            "the job finished with failed items (wait, run, submit --wait); a check failed",
        ),
        (Exit::Usage, "bad usage, configuration or spec"),
        (Exit::NotFound, "not found"),
        (Exit::Refused, "refused: permission, budget, conflict"),
        (Exit::Unreachable, "database or object store unreachable, or of another version"),
        (Exit::JobFailed, "the job failed or was rejected"),
        (Exit::JobCancelled, "the job was cancelled"),
        (Exit::TimedOut, "wait timed out; the job continues"),
        (Exit::Interrupted, "interrupted; a submitted job continues (run: the local system stops)"),
    ];

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that already knows its exit code: what happened and where, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code it leads to.
    pub exit: Exit,
    /// What happened, and where.
    pub message: String,
    /// What the reader can do now.
    pub help: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None }
    }

    /// Adds the advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The list of codes as `--help` shows it.
#[must_use]
pub fn help_text() -> String {
    let mut text = String::from("Exit codes:\n");
    for (exit, meaning) in Exit::ALL {
        text.push_str(&format!("  {:>3}  {meaning}\n", exit.code()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_these_and_stay_these() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 124, 130]);
        insta::assert_snapshot!(help_text(), @r"
        Exit codes:
            0  ok
            1  the job finished with failed items (wait, run, submit --wait); a check failed
            2  bad usage, configuration or spec
            3  not found
            4  refused: permission, budget, conflict
            5  database or object store unreachable, or of another version
            6  the job failed or was rejected
            7  the job was cancelled
          124  wait timed out; the job continues
          130  interrupted; a submitted job continues (run: the local system stops)
        ");
    }
}
