//! What may be typed: clap types only. What it means is decided in [`crate::config`] and [`crate::commands`].

mod admin;
mod engine;
mod eval;
mod queue;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nightshift_engine::{KvCache, Weights};

pub use admin::{
    AdminVerb, LoginVerb, MemberVerb, PasswordArgs, TenantSettingArgs, TenantVerb, WorkerVerb,
};
pub use engine::{
    BenchEngineArgs, BenchQueueArgs, BenchVerb, DecodingArgs, DecodingName, MemoryArgs, ModelVerb,
    ShapeArgs,
};
pub use eval::{EvalNanoArgs, EvalVerb};
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
    /// Say less: errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No colours (NO_COLOR does the same)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// How a read command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// One JSON document
    Json,
    /// One JSON object per line
    Jsonl,
    /// One YAML document
    Yaml,
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
    /// Show what a spec would make, and write nothing
    ///
    /// Counts the inputs and items and shows the first ones. Needs the object store only when the inputs lie there.
    Plan(PlanArgs),
    /// Submit a spec; prints the id of the job alone on standard output
    Submit(SubmitArgs),
    /// List jobs
    Ps {
        /// Finished, cancelled and rejected jobs too
        #[arg(short, long)]
        all: bool,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show who goes next, and when it will start and finish
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
        #[arg(long, value_name = "TIME", value_parser = crate::commands::wait::parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Stop a job for good; what is finished stays
    Cancel {
        /// The job's id
        job: i64,
    },
    /// Stop handing out work of a job
    Pause {
        /// The job's id
        job: i64,
    },
    /// Go on with a paused or held job
    Resume {
        /// The job's id
        job: i64,
    },
    /// Run failed items of a finished job again, in the same job
    Retry {
        /// The job's id
        job: i64,
        /// Only this item
        #[arg(long, value_name = "INDEX", conflicts_with = "error_code")]
        item: Option<u64>,
        /// Only items that failed with this code
        #[arg(long, value_name = "CODE")]
        error_code: Option<String>,
    },
    /// Run specs on this machine alone: start everything, submit, wait, stop everything
    Run(RunArgs),
    /// Start the local system and stay until interrupted
    Up {
        /// Port of the embedded object store; 0 is any free one
        #[arg(long, default_value_t = 0, value_name = "PORT")]
        s3_port: u16,
        /// Pictures in the making at a time
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
        /// Pictures in the making at a time
        #[arg(long, value_name = "N")]
        slots: Option<u64>,
        /// Threads of the engine; 0 is one per core
        #[arg(long, value_name = "N")]
        threads: Option<u64>,
        /// Name of this worker
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Create or upgrade the schema; run it as the owner of the database
    Migrate,
    /// Look after tenants, logins and workers; run it as the owner of the database
    #[command(subcommand)]
    Admin(AdminVerb),
    /// Draw one picture without any server
    Generate(GenerateArgs),
    /// Look after model folders
    #[command(subcommand)]
    Model(ModelVerb),
    /// Make toy scenes with known truth, which the nano model is trained on
    #[command(subcommand)]
    Nano(NanoVerb),
    /// Measure how well a model does what it is asked
    #[command(subcommand)]
    Eval(EvalVerb),
    /// Measure this machine and this build
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Check the database, the object store and the models, and say what is wrong
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
    /// Only what concerns this item
    #[arg(long, value_name = "INDEX")]
    pub item: Option<i64>,
    /// Stay and print what comes, until the job is over
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
    /// Pictures in the making at a time
    #[arg(long, value_name = "N")]
    pub slots: Option<u64>,
    /// Threads of the engine; 0 is one per core
    #[arg(long, value_name = "N")]
    pub threads: Option<u64>,
    /// Write a contact sheet of each job into this folder
    #[arg(long, value_name = "DIR")]
    pub sheets: Option<PathBuf>,
}

/// What `generate` draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum GenerateKind {
    /// A picture from a prompt
    TextToImage,
    /// A picture and a map of it
    ImagePairs,
    /// A subject in another scene; needs --image
    SubjectSet,
    /// A changed picture; needs --image, --prompt is the instruction
    Edit,
    /// A picture that follows a map; needs --image
    Controllable,
    /// A map of a picture; needs --image
    DensePrediction,
}

/// Which map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GenerateTask {
    /// Depth map
    Depth,
    /// Canny edges
    Canny,
    /// Soft edges
    Hed,
    /// Human pose
    Openpose,
    /// Surface normals
    Normal,
    /// Segmentation
    Segmentation,
    /// The subject's description is in --subject
    Subject,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// What to draw
    #[arg(long, value_enum, default_value = "text_to_image")]
    pub kind: GenerateKind,
    /// Which map (image_pairs, controllable, dense_prediction), or subject
    #[arg(long, value_enum)]
    pub task: Option<GenerateTask>,
    /// Caption or instruction
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub prompt: String,
    /// Description of the subject (subject_set)
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// The given upper panel
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Whole picture, both panels: width x height
    #[arg(long, default_value = "768x768", value_name = "WxH", value_parser = crate::commands::generate::parse_size)]
    pub size: (u32, u32),
    /// Seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Guidance scale
    #[arg(long, default_value_t = 4.0)]
    pub cfg: f32,
    /// Keep this many codes
    #[arg(long, default_value_t = 4096)]
    pub top_k: usize,
    /// Temperature; 0 takes the best code
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f32,
    /// Guidance over the positions: constant, or as the reference did it
    #[arg(long, default_value = "constant", value_parser = ["constant", "reference"])]
    pub guidance_schedule: String,
    /// How to decode
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// Numbers of the weights: f32, bf16 or int4
    #[arg(long, default_value = "f32", value_name = "FORMAT")]
    pub weights: Weights,
    /// Numbers of the key and value cache: f32, bf16 or int8
    #[arg(long, default_value = "f32", value_name = "FORMAT")]
    pub kv_cache: KvCache,
    /// Threads; 0 is one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Write the drawn ids as a JSON array
    #[arg(long, value_name = "FILE")]
    pub codes: Option<PathBuf>,
    /// The folder has no image tokenizer: only --codes
    #[arg(long, requires = "codes")]
    pub codes_only: bool,
    /// The PNG to write
    #[arg(
        short,
        long,
        value_name = "FILE",
        required_unless_present = "codes_only"
    )]
    pub out: Option<PathBuf>,
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
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub first: u64,
    /// Number of scenes
    #[arg(long, default_value_t = 256, value_name = "N")]
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
        /// Say where each value came from
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
            let about = verb
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                !about.is_empty() && !about.ends_with('.'),
                "{}: {about}",
                verb.get_name()
            );
        }
    }

    #[test]
    fn the_verbs_are_these() {
        let command = Cli::command();
        let verbs: Vec<&str> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(
            verbs.join(" "),
            "validate plan submit ps queue schedule get describe items logs wait cancel pause resume retry run up scheduler worker migrate admin \
             generate model nano eval bench doctor sheet config completion decode-image"
        );
    }
}
