//! Arguments of the verbs about jobs: `plan`, `submit`, `items`, `logs`, `run`.

use std::path::PathBuf;

use clap::Args;

use super::OutputArgs;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Spec file; `-` is standard input
    #[arg(value_name = "SPEC")]
    pub file: PathBuf,
    /// Change a value of the spec first, such as sampler.cfg=3
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Show this many of the first items
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub items: u64,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// Spec file; `-` is standard input
    #[arg(value_name = "SPEC")]
    pub file: PathBuf,
    /// Use this name instead of metadata.name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Change a value of the spec first, such as sampler.cfg=3
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Plan it, but do not start it before `resume`
    #[arg(long)]
    pub hold: bool,
    /// Wait until it is over; the exit code is that of `wait`
    #[arg(long)]
    pub wait: bool,
    /// Submitting again with the same key and spec returns the first job
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Submit for this tenant
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
}

/// Arguments of `items`.
#[derive(Debug, Args)]
pub struct ItemsArgs {
    /// The job's id
    pub job: i64,
    /// Only items in this state
    #[arg(long, value_name = "STATE", value_parser = ["ok", "failed", "skipped"])]
    pub state: Option<String>,
    /// Only items with this error code
    #[arg(long, value_name = "CODE")]
    pub error_code: Option<String>,
    /// Only items after this index
    #[arg(long, value_name = "INDEX")]
    pub after: Option<i64>,
    /// At most this many items
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The job's id
    pub job: i64,
    /// Only entries about this item
    #[arg(long, value_name = "INDEX")]
    pub item: Option<i64>,
    /// Keep printing new entries until the job is over
    #[arg(short, long)]
    pub follow: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Spec files
    #[arg(required = true, value_name = "SPEC")]
    pub files: Vec<PathBuf>,
    /// Change a value of the specs first, such as sampler.cfg=3
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Copy these files into the bucket first: a file or folder, and the key below s3://nightshift/
    #[arg(long, value_name = "PATH=KEY")]
    pub put: Vec<String>,
    /// Pictures drawn at the same time
    #[arg(long, value_name = "N")]
    pub slots: Option<u64>,
    /// Threads of the engine; 0 is one per core
    #[arg(long, value_name = "N")]
    pub threads: Option<u64>,
    /// Write a contact sheet of each job into this folder
    #[arg(long, value_name = "DIR")]
    pub sheets: Option<PathBuf>,
}
