//! Tokens to pixels: the transformer, its tokenizer and decoders, the image tokenizer, and nothing else.
//!
//! The crate knows no job, no database and no network. Its promise: a picture is a function of (model fingerprint, prompt, size,
//! given panel, sampler, seed), the same bytes alone, in any batch, with any number of threads and after any retry.

pub mod batch;
pub mod bench;
pub mod budget;
pub mod checkpoint;
pub mod config;
pub mod conform;
pub mod decode;
pub mod engine;
pub mod error;
pub mod fingerprint;
pub mod image;
mod image_tokenizer;
pub mod kernels;
pub mod model;
pub mod movqgan;
mod painter;
mod prefix;
pub mod prompt;
pub mod quant;
pub mod quantise;
pub mod random;
pub mod request;
pub mod sample;
mod slot;
mod stored;
pub mod surprise;
pub mod tokenizer;
pub mod transformer;
pub mod weights;
pub mod window;

pub use self::image::RgbImage;

pub use engine::{Counters, Engine, Spent, generate};
pub use error::{EngineError, LoadError};
pub use model::{KvCache, LoadOptions, Model, Weights};
pub use request::{Decoding, Event, GuidanceSchedule, Picture, Request, Sampler, Window};
pub use surprise::{Surprise, surprise};
