//! Verbs about what runs when: `queue`, `schedule`.

use clap::{Args, Subcommand};

use super::OutputArgs;

/// Arguments of `queue`.
#[derive(Debug, Clone, Copy, Args)]
pub struct QueueArgs {
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `schedule ...`.
#[derive(Debug, Subcommand)]
pub enum ScheduleVerb {
    /// List recurring jobs
    Ls {
        /// Removed ones too
        #[arg(short, long)]
        all: bool,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Start no more runs until `resume`; those that have started go on
    Pause {
        /// The schedule's id
        schedule: i64,
    },
    /// Start runs again; those that were missed are left out
    Resume {
        /// The schedule's id
        schedule: i64,
    },
    /// End a recurring job; runs that have started go on
    Rm {
        /// The schedule's id
        schedule: i64,
    },
}
