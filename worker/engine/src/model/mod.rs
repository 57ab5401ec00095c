//! A loaded model: transformer, tokenizer and image tokenizer, and the fingerprint that names the results they give.

mod fingerprint;
mod image_tokenizer;

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{Tensors, weight_files};
use crate::error::{EngineError, LoadError};
use crate::image::RgbImage;
use crate::kernels::Pool;
use crate::prompt::tokenizer::{self, TokenIds, Tokenizer};
use crate::quant::{KvCache, Weights};
use crate::transformer::Transformer;
use crate::transformer::config::{Config, Generation};
use image_tokenizer::ImageTokenizer;
pub(crate) use image_tokenizer::image_tokenizer_file;

/// How a model folder is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Format of the matrices.
    pub weights: Weights,
    /// Format of the cache.
    pub kv_cache: KvCache,
    /// Threads of the forward pass; results do not depend on it. 0 means one for each hardware thread.
    pub threads: usize,
    /// Load no image tokenizer: results are codes.
    pub codes_only: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { weights: Weights::F32, kv_cache: KvCache::F32, threads: 1, codes_only: false }
    }
}

/// A model in memory, shared by the engines that run it.
#[derive(Debug)]
pub struct Model {
    transformer: Transformer,
    tokenizer: Tokenizer,
    ids: TokenIds,
    image_tokenizer: Option<ImageTokenizer>,
    kv_cache: KvCache,
    generation: Generation,
    pool: Pool,
    fingerprint: String,
}

/// The window of coupled decoding for models that publish none.
const COUPLED_WINDOW: u32 = 16;

impl Model {
    /// Reads a model folder: `config.json`, the weights, the tokenizer files, and the image tokenizer at `movqgan/` or
    /// `movqgan*.{ckpt,safetensors}` unless `codes_only` is set.
    ///
    /// # Errors
    /// [`LoadError`] names the file or tensor that is missing or wrong, or the format that this build cannot run.
    pub fn load(dir: &Path, opts: &LoadOptions) -> Result<Arc<Self>, LoadError> {
        let config = Config::read(&dir.join("config.json"))?;
        let tokenizer = Tokenizer::read(dir)?;
        let ids = tokenizer.token_ids(&config)?;
        let image_file = if opts.codes_only { None } else { Some(image_tokenizer_file(dir)?) };
        let image_tokenizer =
            image_file.as_deref().map(|path| ImageTokenizer::load(path, ids.codes(), opts.threads));
        let image_tokenizer = image_tokenizer.transpose()?;
        let weights = weight_files(dir)?;
        let tensors = Tensors::open(&weights)?;
        check_layers(&tensors, &config)?;
        let rows = ids.image.start as usize..ids.image.end as usize;
        let transformer = Transformer::load(&tensors, &config, rows, opts.weights)?;
        let generation = Generation::read(&dir.join("generation_config.json"))?;
        let mut class =
            format!("cpu weights={} kv={}", opts.weights.as_str(), opts.kv_cache.as_str());
        if let Some(window) = generation.coupled_window {
            class += &format!(" coupled_window={window}");
        }
        let mut files = vec![("config", dir.join("config.json"))];
        files.extend(weights.into_iter().map(|path| ("weights", path)));
        files.extend(tokenizer::files(dir).into_iter().map(|path| ("tokenizer", path)));
        files.extend(image_file.into_iter().map(|path| ("image tokenizer", path)));
        let fingerprint = fingerprint::of(&class, &files)?;
        let pool = Pool::new(opts.threads);
        let kv_cache = opts.kv_cache;
        Ok(Arc::new(Self {
            transformer,
            tokenizer,
            ids,
            image_tokenizer,
            kv_cache,
            generation,
            pool,
            fingerprint,
        }))
    }

    /// Hex sha256 over weights, tokenizers, numeric class and kernel revision: equal fingerprints give equal bytes.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Shape of the transformer.
    pub fn config(&self) -> &Config {
        self.transformer.config()
    }

    /// Ids of the structuring tokens.
    pub fn token_ids(&self) -> &TokenIds {
        &self.ids
    }

    /// Whether pictures can be made, or codes alone.
    pub fn makes_pictures(&self) -> bool {
        self.image_tokenizer.is_some()
    }

    /// Codes of a picture, row-major, one for each 8 by 8 pixels.
    ///
    /// # Errors
    /// No image tokenizer, or a size that is not a multiple of 8.
    pub fn encode_panel(&self, image: &RgbImage) -> Result<Vec<u32>, EngineError> {
        self.image_tokenizer.as_ref().ok_or(EngineError::NoImageTokenizer)?.encode(image)
    }

    /// The picture of `h` rows of `w` codes.
    ///
    /// # Errors
    /// No image tokenizer, a wrong number of codes, or a code outside the codebook.
    pub fn decode_codes(&self, codes: &[u32], h: usize, w: usize) -> Result<RgbImage, EngineError> {
        self.image_tokenizer.as_ref().ok_or(EngineError::NoImageTokenizer)?.decode(codes, h, w)
    }

    /// `BOS, text, separator` of a prompt.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let ids = self
            .tokenizer
            .encode(text)
            .map_err(|error| EngineError::BadRequest(error.to_string()))?;
        Ok([&[self.ids.bos][..], &ids, &[self.ids.separator]].concat())
    }

    /// Format of the caches.
    pub fn kv_cache(&self) -> KvCache {
        self.kv_cache
    }

    /// The window of coupled decoding where a request leaves it to the model: the one published with it, else 16. It is part of
    /// the results, and so of the fingerprint.
    pub fn coupled_window(&self) -> usize {
        self.generation.coupled_window.unwrap_or(COUPLED_WINDOW) as usize
    }

    /// Numbers in the matrices of all layers, and in the head.
    pub fn weights(&self) -> (u64, u64) {
        self.transformer.weights()
    }

    pub(crate) fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }
}

/// Layers beyond those of the configuration mean that the two do not belong together.
fn check_layers(tensors: &Tensors, config: &Config) -> Result<(), LoadError> {
    let layers = config.num_hidden_layers;
    let number = |name: &str| {
        let (number, _) = name.strip_prefix("model.layers.")?.split_once('.')?;
        number.parse::<usize>().ok()
    };
    let beyond = |name: &String| number(name).is_some_and(|number| number >= layers);
    match tensors.names().into_iter().find(beyond) {
        Some(name) => Err(LoadError::Tensor {
            name,
            reason: format!("config.json says that there are {layers} layers"),
        }),
        None => Ok(()),
    }
}
