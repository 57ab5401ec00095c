//! A loaded model: transformer, tokenizer and image tokenizer, and the fingerprint that names the results they give.

use std::path::Path;
use std::sync::Arc;

use crate::image::RgbImage;

use crate::error::{EngineError, LoadError};

/// Format of the transformer's matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weights {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// 4-bit codes in groups of 128.
    Int4,
}

/// Format of the key and value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvCache {
    /// bfloat16.
    Bf16,
    /// 32-bit floats.
    F32,
    /// 8-bit codes with a scale for each head and position.
    Int8,
}

impl Weights {
    /// The name used in specs and fingerprints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int4 => "int4",
        }
    }
}

impl KvCache {
    /// The name used in specs and fingerprints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

/// How a model folder is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Format of the matrices.
    pub weights: Weights,
    /// Format of the cache.
    pub kv_cache: KvCache,
    /// Threads of the forward pass; results do not depend on it. At least 1.
    pub threads: usize,
    /// Load no image tokenizer: results are codes.
    pub codes_only: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            weights: Weights::F32,
            kv_cache: KvCache::F32,
            threads: 1,
            codes_only: false,
        }
    }
}

/// A model in memory, shared by the engines that run it.
#[derive(Debug)]
pub struct Model {
    fingerprint: String,
}

impl Model {
    /// Reads a model folder.
    ///
    /// # Errors
    /// [`LoadError`] names the file or tensor that is missing or wrong.
    pub fn load(dir: &Path, _opts: &LoadOptions) -> Result<Arc<Self>, LoadError> {
        Err(LoadError::Unsupported(format!(
            "{}: loading is not written yet",
            dir.display()
        )))
    }

    /// Hex sha256 over weights, tokenizers, numeric class and kernel revision: equal fingerprints give equal bytes.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Codes of a picture, row-major, one for each 8 by 8 pixels.
    ///
    /// # Errors
    /// No image tokenizer, or a size that is not a multiple of 8.
    pub fn encode_panel(&self, _image: &RgbImage) -> Result<Vec<u32>, EngineError> {
        Err(EngineError::NoImageTokenizer)
    }

    /// The picture of `h` rows of `w` codes.
    ///
    /// # Errors
    /// No image tokenizer, a wrong number of codes, or a code outside the codebook.
    pub fn decode_codes(
        &self,
        _codes: &[u32],
        _h: usize,
        _w: usize,
    ) -> Result<RgbImage, EngineError> {
        Err(EngineError::NoImageTokenizer)
    }
}
