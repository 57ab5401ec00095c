//! Arguments of `eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nightshift_engine::{KvCache, Weights};

use super::OutputArgs;
use super::engine::DecodingName;
use nightshift_nano::eval::FIRST;
use nightshift_nano::eval::tasks::Filter;
use nightshift_nano::sample::LAST;

/// `eval ...`.
#[derive(Debug, Subcommand)]
pub enum EvalVerb {
    /// Examine a nano model on toy scenes that are never used in training
    ///
    /// Every measure is shown beside its bound (the image tokenizer's copy of the truth) and a trivial baseline (mean depth, mean
    /// normal, the unedited picture, another scene). The same command prints the same table.
    Nano(EvalNanoArgs),
}

/// Arguments of `eval nano`.
#[derive(Debug, Args)]
pub struct EvalNanoArgs {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Scenes of the dense tasks, which take the best code at guidance 1
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub scenes: u32,
    /// Scenes of the sampled tasks, at guidance 4 and temperature 1; by default four times those of the dense tasks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sampled: Option<u32>,
    /// First seed
    #[arg(long, default_value_t = FIRST, value_name = "SEED", value_parser = clap::value_parser!(u64).range(..=LAST))]
    pub first: u64,
    /// Only these tasks: dense, control, text, edit, subject, or one such as dense-depth
    #[arg(long, value_delimiter = ',', value_name = "TASKS")]
    pub tasks: Vec<Filter>,
    /// Guidance scale of every task instead of its own
    #[arg(long)]
    pub cfg: Option<f32>,
    /// Format of the weights: f32, bf16 or int4
    #[arg(long, default_value = "f32", value_name = "FORMAT")]
    pub weights: Weights,
    /// Format of the key and value cache: f32, bf16 or int8
    #[arg(long, default_value = "f32", value_name = "FORMAT")]
    pub kv_cache: KvCache,
    /// How to decode
    #[arg(long, value_enum, default_value = "sequential")]
    pub decoding: DecodingName,
    /// Cells that are evaluated at once (jacobi, coupled)
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = window)]
    pub window: usize,
    /// Pictures drawn at the same time; the table does not depend on it
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub slots: u32,
    /// Threads; 0 is one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Write a contact sheet of each task to this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// As data, also each scene's value: two runs can then be compared pair by pair
    #[arg(long)]
    pub values: bool,
    /// Print JSON (the same as `-o json`)
    #[arg(long)]
    pub json: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

fn window(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=256) => Ok(n),
        _ => Err("expected a number from 1 to 256".to_owned()),
    }
}
