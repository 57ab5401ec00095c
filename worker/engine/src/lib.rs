//! Tokens to pixels: the transformer, its tokenizer and decoders, the image tokenizer, and nothing else.
//!
//! The crate knows no job, no database and no network. Its promise: a picture is a function of (model fingerprint, prompt, size,
//! given panel, sampler, seed), the same bytes alone, in any batch, with any number of threads and after any retry.
//!
//! To follow a picture, read [`engine`] (the step loop, then its slots and one pass), [`decode`] and [`sample`] (which code), and
//! [`transformer`] with [`quant`] and [`kernels`] below it (the scores); [`movqgan`] turns codes into pixels. A model comes from
//! [`model`], which reads a folder by [`checkpoint`].

pub mod checkpoint;
#[path = "../conform/mod.rs"]
pub mod conform;
pub mod decode;
pub mod engine;
pub mod error;
mod files;
pub mod image;
pub mod kernels;
pub mod model;
pub mod movqgan;
pub mod prompt;
pub mod quant;
pub mod quantise;
pub mod random;
pub mod request;
pub mod sample;
pub mod transformer;

pub use self::image::RgbImage;
pub use engine::budget;
pub use engine::{Counters, Engine, Spent, Surprise, generate, surprise};
pub use error::{EngineError, LoadError};
pub use model::{LoadOptions, Model};
pub use quant::{KvCache, Weights};
pub use request::{Decoding, Event, GuidanceSchedule, Picture, Request, Sampler, Window};
