//! Arguments of `generate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nightshift_engine::{KvCache, Weights};

use super::DecodingArgs;

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
    #[arg(long, default_value = "768x768", value_name = "WxH", value_parser = crate::units::parse_size)]
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
    /// Format of the weights: f32, bf16 or int4
    #[arg(long, default_value = "f32", value_name = "FORMAT")]
    pub weights: Weights,
    /// Format of the key and value cache: f32, bf16 or int8
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
    #[arg(short, long, value_name = "FILE", required_unless_present = "codes_only")]
    pub out: Option<PathBuf>,
}
