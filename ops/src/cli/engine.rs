//! Arguments of the verbs that work on the engine alone: `model` and `bench engine`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use nightshift_engine::kernels::Isa;
use nightshift_engine::random::{ImageTokenizerSize, Preset};
use nightshift_engine::{Decoding, KvCache, Weights, Window};

use super::OutputArgs;

/// `model ...`.
#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// Compare the engine with the golden files of a fixture folder
    ///
    /// One line per check: name, worst error, tolerance, and ok, FAIL or "not covered". Exit code 1 when one fails.
    Conform {
        /// Fixture folder
        dir: PathBuf,
        /// What the folder describes; detected when omitted
        #[arg(long, value_parser = ["transformer", "movqgan"])]
        kind: Option<String>,
    },
    /// Write a model with random weights: it makes noise, in the layout of the real one
    Random {
        /// Folder to write; it must not exist
        dir: PathBuf,
        /// Size: tiny, mid (hidden width 1024, 16 layers), 2b, or 7b, which has the released shape and takes 16 GB
        #[arg(long, default_value = "tiny")]
        preset: Preset,
        /// Laws as peaked as those of trained models, about one nat; otherwise they are nearly flat
        #[arg(long)]
        sharp: bool,
        /// Image tokenizer beside it: small, or 270m, which has the released shape and takes 1.1 GB
        #[arg(long, default_value = "small", value_name = "SIZE")]
        tokenizer: ImageTokenizerSize,
        /// Seed of the weights
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Write a model with its matrices in 4 bits; the result loads by memory map
    ///
    /// One matrix is in memory at a time, so a checkpoint of any size can be converted anywhere.
    Quantize {
        /// Model folder to read
        from: PathBuf,
        /// Folder to write; it must not exist
        to: PathBuf,
    },
    /// Show how much memory a model needs, itemised; nothing is loaded
    Memory(MemoryArgs),
}

/// Arguments of `model memory`.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// The model and its load
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Cells that a slot evaluates at once
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub window: u16,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub prompt_tokens: u16,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A model, its number formats, and what it is to make.
#[derive(Debug, Clone, Args)]
pub struct ShapeArgs {
    /// Model folder
    #[arg(long, value_name = "DIR", required_unless_present = "preset")]
    pub model: Option<PathBuf>,
    /// A random model of this size instead: tiny, mid, 2b or 7b
    #[arg(long, conflicts_with = "model")]
    pub preset: Option<Preset>,
    /// Its image tokenizer: small or 270m
    #[arg(long, default_value = "small", value_name = "SIZE", conflicts_with = "model")]
    pub tokenizer: ImageTokenizerSize,
    /// Format of the weights: f32, bf16 or int4
    #[arg(long, default_value = "int4", value_name = "FORMAT")]
    pub weights: Weights,
    /// Format of the key and value cache: f32, bf16 or int8
    #[arg(long, default_value = "bf16", value_name = "FORMAT")]
    pub kv_cache: KvCache,
    /// Whole picture, both panels: width x height
    #[arg(long, default_value = "768x768", value_name = "WxH", value_parser = crate::units::parse_size)]
    pub size: (u32, u32),
    /// Pictures drawn at the same time
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = slots)]
    pub slots: usize,
}

fn slots(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_024) => Ok(n),
        _ => Err("expected a number from 1 to 1024".to_owned()),
    }
}

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, Args)]
pub struct DecodingArgs {
    /// How to decode
    #[arg(long, value_enum, default_value = "sequential")]
    pub decoding: DecodingName,
    /// Cells that are evaluated at once (jacobi, coupled): a number, or auto
    #[arg(long, default_value = "auto", value_name = "N", value_parser = window)]
    pub window: Window,
}

/// A way to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DecodingName {
    /// One token after the other: the definition
    Sequential,
    /// The same tokens in fewer steps
    Jacobi,
    /// Other tokens of the same law in still fewer steps
    Coupled,
}

impl DecodingArgs {
    /// What the engine calls it.
    #[must_use]
    pub fn decoding(self) -> Decoding {
        let window = self.window;
        match self.decoding {
            DecodingName::Sequential => Decoding::Sequential,
            DecodingName::Jacobi => Decoding::Jacobi { window },
            DecodingName::Coupled => Decoding::Coupled { window },
        }
    }
}

fn window(text: &str) -> Result<Window, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Window::Auto),
        (_, Ok(n @ 1..=256)) => Ok(Window::Fixed(n)),
        _ => Err("expected auto, or a number from 1 to 256".to_owned()),
    }
}

/// `bench ...`.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Measure the engine: tokens and pictures a second, where the time goes, and what the machine could do
    Engine(BenchEngineArgs),
    /// The queue on a private Postgres: rates, waiting times, shares, bytes; exit code 1 when a target is missed
    Queue(BenchQueueArgs),
}

/// Arguments of `bench engine`.
#[derive(Debug, Args)]
pub struct BenchEngineArgs {
    /// The model and its load
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// How to decode
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// Guidance scale; 1 runs one branch
    #[arg(long, default_value_t = 4.0)]
    pub cfg: f32,
    /// Temperature; 0 takes the best code
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f32,
    /// Pictures to make; by default one for each slot
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub images: Option<u32>,
    /// Stop each picture after this many tokens, to measure a part of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: Option<u32>,
    /// Threads; 0 is one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Instructions of the kernels: scalar, avx2 or avx512; by default the best of this machine. Results are the same
    #[arg(long)]
    pub isa: Option<Isa>,
    /// Measure products of all formats too, by number of rows
    #[arg(long)]
    pub products: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `bench queue`.
#[derive(Debug, Args)]
pub struct BenchQueueArgs {
    /// Finish at least this many items before table sizes are measured
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub items: i64,
    /// How long to measure each rate
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub seconds: u64,
    /// Lines of the manifest that is listed
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub manifest_lines: u64,
}
