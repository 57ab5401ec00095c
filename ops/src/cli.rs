//! What may be typed: clap types only. What it means is decided in [`crate::config`] and [`crate::commands`].

mod admin;
mod engine;
mod eval;
mod generate;
mod jobs;
mod queue;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::output::Format;
use nightshift_nano::sample::{LAST, MAX_SCENES};

pub use admin::{
    AdminVerb, LoginVerb, MemberVerb, PasswordArgs, TenantSettingArgs, TenantVerb, WorkerVerb,
};
pub use engine::{
    BenchEngineArgs, BenchQueueArgs, BenchVerb, DecodingArgs, DecodingName, MemoryArgs, ModelVerb,
    ShapeArgs,
};
pub use eval::{EvalNanoArgs, EvalVerb};
pub use generate::{GenerateArgs, GenerateKind, GenerateTask};
pub use jobs::{ItemsArgs, LogsArgs, PlanArgs, RunArgs, SubmitArgs};
pub use queue::{QueueArgs, ScheduleVerb};

/// Turn YAML job specs into image datasets
///
/// Specs go to Postgres, workers draw the pictures, the pictures go to S3. `nightshift run SPEC` does all of it on this machine.
#[derive(Debug, Parser)]
#[command(name = "nightshift", version, propagate_version = true, after_help = crate::exit::help_text())]
pub struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Read this configuration file before the usual ones
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Postgres to talk to, without a password (that comes from the environment or a file)
    #[arg(long, global = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Folder of the local system (run, up)
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder that holds one folder per model
    #[arg(long, global = true, value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
    /// Print errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No colours (NO_COLOR does the same)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// `-o`.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check specs without any server; every mistake is listed
    Validate {
        /// Spec files; `-` is standard input
        #[arg(required = true, value_name = "SPEC")]
        files: Vec<PathBuf>,
        /// Exit 2 also when a valid spec asks for what this build cannot run
        #[arg(long)]
        runnable: bool,
    },
    /// Show what a spec would make, without writing anything
    ///
    /// Counts the inputs and items and shows the first ones. Needs the object store only when the inputs are there.
    Plan(PlanArgs),
    /// Submit a spec; prints the id of the job alone on standard output
    Submit(SubmitArgs),
    /// List jobs
    Ps {
        /// Include finished, cancelled and rejected jobs
        #[arg(short, long)]
        all: bool,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show which job is next, and when each will start and finish
    Queue(QueueArgs),
    /// List, pause and remove recurring jobs
    #[command(subcommand)]
    Schedule(ScheduleVerb),
    /// Print one job as data
    Get {
        /// The job's id
        job: i64,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Explain one job: state, reason, counts, events, errors
    Describe {
        /// The job's id
        job: i64,
    },
    /// List the finished items of a job
    Items(ItemsArgs),
    /// Print what was logged for a job
    Logs(LogsArgs),
    /// Wait until a job is over; the exit code says how it went
    Wait {
        /// The job's id
        job: i64,
        /// Give up after this long (exit code 124), such as 90s, 10m or 8h
        #[arg(long, value_name = "TIME", value_parser = crate::units::parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Stop a job; finished pictures stay, and `retry` would continue with the rest
    Cancel {
        /// The job's id
        job: i64,
    },
    /// Stop handing out work of a job
    Pause {
        /// The job's id
        job: i64,
    },
    /// Resume a paused or held job
    Resume {
        /// The job's id
        job: i64,
    },
    /// Continue a job that has ended: its failed items, and the items that a cancelled or failed job never ran
    Retry {
        /// The job's id
        job: i64,
        /// Only this failed item
        #[arg(long, value_name = "INDEX", conflicts_with = "error_code")]
        item: Option<u64>,
        /// Only the failed items with this code
        #[arg(long, value_name = "CODE")]
        error_code: Option<String>,
    },
    /// Run specs on this machine only: start everything, submit, wait, stop everything
    Run(RunArgs),
    /// Start the local system and stay until interrupted
    ///
    /// Prints which file to `source` in another shell: it sets the URLs of a user and of the owner (for admin), and the keys of the object store.
    Up {
        /// Port of the embedded object store; 0 is any free one
        #[arg(long, default_value_t = 0, value_name = "PORT")]
        s3_port: u16,
        /// Pictures drawn at the same time
        #[arg(long, value_name = "N")]
        slots: Option<u64>,
        /// Threads of the engine; 0 is one per core
        #[arg(long, value_name = "N")]
        threads: Option<u64>,
    },
    /// Run the scheduler: check specs, plan jobs, expire leases, close jobs
    Scheduler,
    /// Run a worker: lease shards, draw pictures, store them
    Worker {
        /// Pictures drawn at the same time
        #[arg(long, value_name = "N")]
        slots: Option<u64>,
        /// Threads of the engine; 0 is one per core
        #[arg(long, value_name = "N")]
        threads: Option<u64>,
        /// Name of this worker
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Create or upgrade the schema, as the owner of the database
    Migrate,
    /// Manage tenants, logins and workers, as the owner of the database
    ///
    /// The owner's URL is NIGHTSHIFT_OWNER_URL (database.owner_url), else that of every verb. `nightshift up` sets it in its env file.
    #[command(subcommand)]
    Admin(AdminVerb),
    /// Draw one picture without any server
    Generate(GenerateArgs),
    /// Manage model folders
    #[command(subcommand)]
    Model(ModelVerb),
    /// Make toy scenes with known ground truth, which the nano model is trained on
    #[command(subcommand)]
    Nano(NanoVerb),
    /// Measure how well a model follows its tasks
    #[command(subcommand)]
    Eval(EvalVerb),
    /// Measure this machine and this build
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Check the database, the object store and the models, and report what is wrong
    Doctor {
        /// Also write to and read from this place
        #[arg(long, value_name = "S3_URI")]
        storage: Option<String>,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Make a contact sheet (PNG) of a job's pictures
    Sheet {
        /// The job's id
        job: i64,
        /// The file to write
        #[arg(short = 'O', long, value_name = "FILE", default_value = "sheet.png")]
        out: PathBuf,
        /// Pictures in a row
        #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
        columns: u32,
        /// Side of a cell, in pixels
        #[arg(long, value_name = "PX", default_value_t = 192, value_parser = clap::value_parser!(u32).range(16..=1024))]
        cell: u32,
        /// At most this many pictures
        #[arg(long, value_name = "N", default_value_t = 120)]
        limit: usize,
    },
    /// Show the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Decode one image within limits; used by the worker
    #[command(hide = true)]
    DecodeImage {
        /// What the worker passes on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        rest: Vec<String>,
    },
}

/// `nano ...`.
#[derive(Debug, Subcommand)]
pub enum NanoVerb {
    /// Write pictures, maps, captions, edits and subjects of a range of seeds
    Scenes(ScenesArgs),
}

/// Arguments of `nano scenes`.
#[derive(Debug, Args)]
pub struct ScenesArgs {
    /// Folder to write; it must not exist
    pub dir: PathBuf,
    /// First seed; those from 1000000000 are never trained on
    #[arg(long, default_value_t = 0, value_name = "SEED", value_parser = clap::value_parser!(u64).range(..=LAST))]
    pub first: u64,
    /// Number of scenes
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_SCENES))]
    pub count: u64,
    /// Also draw a contact sheet of the first twelve
    #[arg(long)]
    pub png: bool,
}

/// `config ...`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print every value; secrets are hidden
    Show {
        /// Show where each value came from
        #[arg(long)]
        origin: bool,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_verb_is_told_in_one_brief_line() {
        let command = Cli::command();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about}", verb.get_name());
        }
    }

    #[test]
    fn the_verbs_are_these() {
        let command = Cli::command();
        let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(
            verbs.join(" "),
            "validate plan submit ps queue schedule get describe items logs wait cancel pause resume retry run up scheduler worker migrate admin \
             generate model nano eval bench doctor sheet config completion decode-image"
        );
    }
}
