//! The image tokenizer: pictures to grids of codes and back, as `reference/movqgan.md` specifies, in f32 on the CPU.
//!
//! Main path: [`MoVqGan::open`] -> [`MoVqGan::encode`] (picture -> latents -> nearest codes) and [`MoVqGan::decode`] (codes -> code
//! vectors -> picture). Results do not depend on the number of threads or on the instruction set.
//! Memory: decoding holds at most the input of a block, its output and one map between them (about 2.4 GB at 768x768 for the
//! 270M model, weights apart); nothing is held at input size for norms, paddings, upsampling or windows.
//! This module knows nothing of tokens, the transformer or files other than its weights.

mod attention;
pub(crate) mod blocks;
pub(crate) mod codebook;
pub(crate) mod conv;
mod decoder;
mod encoder;
mod gemm;
pub(crate) mod load;
pub(crate) mod map;
mod norm;
pub(crate) mod pixels;
mod prepared;
#[cfg(test)]
mod tests;
pub(crate) mod trace;

use std::path::Path;

use codebook::Codebook;
use conv::Conv;
use decoder::Decoder;
use encoder::Encoder;
use map::Map;
use trace::Trace;

pub use load::{structure, structure_of};

use crate::error::LoadError;
use crate::image::RgbImage;
use crate::kernels::Pool;

/// Why a picture cannot be encoded or codes cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum MovqError {
    /// A picture too small for a single code.
    #[error("a picture of {width}x{height} pixels is smaller than one code of {factor}x{factor}")]
    TooSmall {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// Pixels of a code's side.
        factor: usize,
    },
    /// Codes that do not fill the grid, or that the codebook does not have.
    #[error("{0}")]
    Codes(String),
    /// Weights so large that pixels overflow.
    #[error("a pixel of the decoded picture is not a number")]
    NotANumber,
}

/// What was found in the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Codes.
    pub n_embed: usize,
    /// Length of a code vector.
    pub embed_dim: usize,
    /// Channels of the decoder's input.
    pub z_channels: usize,
    /// Channels of each encoder level, from full resolution down.
    pub encoder_channels: Vec<usize>,
    /// Channels of each decoder level as stored, from full resolution down.
    pub decoder_channels: Vec<usize>,
    /// Residual blocks of an encoder level.
    pub encoder_blocks: usize,
    /// Encoder levels with attention.
    pub attention_levels: Vec<usize>,
    /// Numbers in all tensors of the model.
    pub parameters: u64,
}

impl Config {
    /// Pixels of a code's side.
    pub fn factor(&self) -> usize {
        1 << (self.encoder_channels.len() - 1)
    }
}

/// A loaded image tokenizer. Immutable: share it between threads.
#[derive(Debug)]
pub struct MoVqGan {
    config: Config,
    encoder: Encoder,
    decoder: Decoder,
    codebook: Codebook,
    quant_conv: Conv,
    post_quant_conv: Conv,
}

impl MoVqGan {
    /// Loads a weights file: `.safetensors`, or a PyTorch checkpoint in its zip or legacy form, flat or under `state_dict`.
    ///
    /// # Errors
    /// [`LoadError`] names the file or the tensor.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        load::open(path)
    }

    /// What the weights turned out to be.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The codes of a picture, row-major; the grid is (height / f, width / f), rounded down, f from [`Config::factor`].
    ///
    /// # Errors
    /// [`MovqError::TooSmall`].
    pub fn encode(&self, image: &RgbImage, pool: &Pool) -> Result<Vec<u32>, MovqError> {
        let factor = self.config.factor();
        if (image.width.min(image.height) as usize) < factor {
            return Err(MovqError::TooSmall { width: image.width, height: image.height, factor });
        }
        let latents = self.latents(&pixels::to_map(image), pool, &mut Trace::off());
        Ok(self.codebook.nearest(&latents, pool))
    }

    /// The picture of row-major codes, (h * f, w * f) pixels.
    ///
    /// # Errors
    /// [`MovqError::Codes`] when they do not fill the grid or one is not in the codebook.
    pub fn decode(
        &self,
        codes: &[u32],
        h: usize,
        w: usize,
        pool: &Pool,
    ) -> Result<RgbImage, MovqError> {
        let zq = self.code_vectors(codes, h, w)?;
        let pixels = self.render(&zq, pool, &mut Trace::off());
        match pixels.data.iter().any(|pixel| pixel.is_nan()) {
            true => Err(MovqError::NotANumber),
            false => Ok(pixels::to_image(&pixels)),
        }
    }

    /// Code vectors (h, w, embed).
    pub(crate) fn code_vectors(&self, codes: &[u32], h: usize, w: usize) -> Result<Map, MovqError> {
        if h == 0 || w == 0 || codes.len() != h * w {
            return Err(MovqError::Codes(format!(
                "{} codes do not fill a grid of {h}x{w}",
                codes.len()
            )));
        }
        let unknown = || {
            MovqError::Codes(format!(
                "a code lies beyond the codebook of {} entries",
                self.config.n_embed
            ))
        };
        self.codebook.look_up(codes, h, w).ok_or_else(unknown)
    }

    /// Latents before quantisation (h / f, w / f, embed) of a scaled picture (h, w, 3).
    pub(crate) fn latents(&self, picture: &Map, pool: &Pool, trace: &mut Trace<'_>) -> Map {
        let encoded = self.encoder.forward(picture, pool, trace);
        let latents = self.quant_conv.forward(&(&encoded).into(), pool);
        trace.show("quant_conv", "", &latents);
        latents
    }

    /// The raw output (h * f, w * f, 3) of code vectors, not clamped.
    pub(crate) fn render(&self, zq: &Map, pool: &Pool, trace: &mut Trace<'_>) -> Map {
        let z = self.post_quant_conv.forward(&zq.into(), pool);
        trace.show("post_quant_conv", "", &z);
        self.decoder.forward(&z, zq, pool, trace)
    }
}
