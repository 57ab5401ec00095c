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
    /// Start no more runs until `resume`; those that have started continue
    Pause {
        /// The schedule's id
        schedule: i64,
    },
    /// Start runs again; missed ones are skipped
    Resume {
        /// The schedule's id
        schedule: i64,
    },
    /// End a recurring job; runs that have started continue
    Rm {
        /// The schedule's id
        schedule: i64,
    },
}
