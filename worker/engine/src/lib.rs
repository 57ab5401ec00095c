//! Tokens to pixels: the transformer, its tokenizer and decoders, the image tokenizer, and nothing else.
//!
//! The crate knows no job, no database and no network. Its promise: a picture is a function of (model fingerprint, prompt, size,
//! given panel, sampler, seed), the same bytes alone, in any batch, with any number of threads and after any retry.

pub mod conform;
pub mod engine;
pub mod error;
pub mod image;
pub mod kernels;
pub mod model;
pub mod prompt;
pub mod quant;
pub mod random;
pub mod request;
pub mod sample;

pub use self::image::RgbImage;

pub use engine::{Engine, generate};
pub use error::{EngineError, LoadError};
pub use model::{KvCache, LoadOptions, Model, Weights};
pub use request::{Decoding, Event, GuidanceSchedule, Picture, Request, Sampler, Window};
