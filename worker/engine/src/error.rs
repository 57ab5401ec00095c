//! What can go wrong, as decisions a caller can take: a model that cannot be loaded, a request that cannot run.

use std::any::Any;
use std::path::{Path, PathBuf};

/// A model folder that cannot be used. Fixing it means changing files or options, never retrying.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file that must exist does not, or cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// A file is there but is not what its name promises.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor is missing, has another shape or another element type than the configuration implies.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Full name as in the checkpoint.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration asks for something that this engine does not compute.
    #[error("config.json: {0}")]
    Config(String),
    /// A named special token is missing from the tokenizer.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The options ask for a numeric format that this build cannot run.
    #[error("{0}")]
    Unsupported(String),
}

impl LoadError {
    /// The same error, naming the file of the tensor that it speaks of.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Tensor { name, reason } => {
                Self::Format { path: path.to_owned(), reason: format!("tensor `{name}`: {reason}") }
            }
            other => other,
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}

/// A request that cannot be run, or that failed while it ran.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The request contradicts itself or the model (sizes, panels, sampler values).
    #[error("{0}")]
    BadRequest(String),
    /// The request needs more cache than the engine was given.
    #[error("{positions} positions need {needed} bytes of cache, the slot has {available}")]
    OutOfBudget {
        /// Positions of the longest branch.
        positions: usize,
        /// Bytes that both branches would need.
        needed: u64,
        /// Bytes that one slot holds.
        available: u64,
    },
    /// Every slot is taken.
    #[error("all slots are taken")]
    NoFreeSlot,
    /// The id is already in a slot.
    #[error("request {0} is already running")]
    DuplicateId(u64),
    /// The model folder has no image tokenizer, or it was not loaded.
    #[error("this model was loaded without an image tokenizer")]
    NoImageTokenizer,
    /// The forward pass gave a score that is not a number.
    #[error("the model gave a score that is not a number at code cell {cell}")]
    NotANumber {
        /// Raster index of the code cell.
        cell: usize,
    },
    /// The image tokenizer failed.
    #[error("image tokenizer: {0}")]
    ImageTokenizer(String),
}

impl EngineError {
    /// A stable word for tables and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::OutOfBudget { .. } => "out_of_budget",
            Self::NoFreeSlot => "no_free_slot",
            Self::DuplicateId(_) => "duplicate_id",
            Self::NoImageTokenizer => "no_image_tokenizer",
            Self::NotANumber { .. } => "not_a_number",
            Self::ImageTokenizer(_) => "image_tokenizer",
        }
    }
}
