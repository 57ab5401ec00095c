//! How much memory a model and its slots need, from shapes alone.

use std::path::Path;

use super::batch::CATCH_UP_ROWS;
use crate::error::{EngineError, LoadError};
use crate::movqgan;
use crate::prompt::tokenizer::Tokenizer;
use crate::quant::int4;
use crate::quant::{KvCache, Weights};
use crate::random;
use crate::sample::grid::Grid;
use crate::transformer::BranchCache;
use crate::transformer::config::Config;

/// What is to be run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Format of the matrices.
    pub weights: Weights,
    /// Format of the caches.
    pub kv_cache: KvCache,
    /// Width of the whole picture in pixels.
    pub width: u32,
    /// Height of the whole picture in pixels.
    pub height: u32,
    /// Tokens of the prompt, begin and separator included.
    pub prompt: usize,
    /// Places of the engine.
    pub slots: usize,
    /// Cells that a slot evaluates at once.
    pub window: usize,
}

/// Sizes of the image tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTokenizer {
    /// Numbers in all its tensors, held as f32.
    pub parameters: u64,
    /// Channels of its decoder's levels, from full resolution down.
    pub channels: Vec<usize>,
}

impl From<&crate::movqgan::Config> for ImageTokenizer {
    fn from(config: &crate::movqgan::Config) -> Self {
        Self { parameters: config.parameters, channels: config.decoder_channels.clone() }
    }
}

/// What there is to run: the shapes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Shapes {
    /// Of the transformer.
    pub config: Config,
    /// Image tokens.
    pub codes: usize,
    /// Of the image tokenizer; `None` when only codes are made.
    pub image_tokenizer: Option<ImageTokenizer>,
}

impl Shapes {
    /// The shapes of a random checkpoint, without writing it.
    pub fn of_random(options: &random::Options) -> Self {
        let config = random::image_tokenizer(options);
        Self {
            config: options.preset.config(),
            codes: options.preset.codes(),
            image_tokenizer: Some((&config).into()),
        }
    }

    /// The shapes of a model folder; no weights are read.
    ///
    /// # Errors
    /// A file is missing or contradicts itself.
    pub fn of_folder(dir: &Path) -> Result<Self, LoadError> {
        let config = Config::read(&dir.join("config.json"))?;
        let codes = Tokenizer::read(dir)?.token_ids(&config)?.codes();
        let path = crate::model::image_tokenizer_file(dir)?;
        let image = movqgan::structure_of(&path).map_err(|error| error.in_file(&path))?;
        Ok(Self { config, codes, image_tokenizer: Some((&image).into()) })
    }
}

/// Bytes by use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Rows of the embedding that get into memory: all of them as f32; where they stay mapped as bf16, those of the image
    /// tokens and, with their neighbours on the pages that are read together, those of the prompt.
    pub embedding: u64,
    /// Image rows of the head.
    pub head: u64,
    /// Matrices and norms of all layers.
    pub layers: u64,
    /// Both branches of all slots.
    pub caches: u64,
    /// Buffers of a forward pass.
    pub scratch: u64,
    /// Weights of the image tokenizer.
    pub image_tokenizer: u64,
    /// What decoding one picture takes beside its weights.
    pub image_workspace: u64,
}

impl Budget {
    /// The budget of a load.
    ///
    /// # Errors
    /// The picture has a size that cannot be made.
    pub fn new(shapes: &Shapes, load: &Load) -> Result<Self, EngineError> {
        let Shapes { config, codes, image_tokenizer } = shapes;
        let (codes, image) = (*codes, image_tokenizer.as_ref());
        let grid = Grid::of_pixels(load.width, load.height)?;
        let d = config.hidden_size as u64;
        let plain = if load.weights == Weights::F32 { 4 } else { 2 };
        let cache = |positions| BranchCache::bytes(config, positions, load.kv_cache);
        let pixels = u64::from(load.width) * u64::from(load.height);
        Ok(Self {
            embedding: embedding(config, codes, load),
            head: codes as u64 * d * plain,
            layers: layers(config, load.weights),
            caches: load.slots as u64 * (cache(load.prompt + grid.len()) + cache(grid.len())),
            scratch: scratch(config, codes, grid, load),
            image_tokenizer: image.map_or(0, |image| image.parameters * 4),
            image_workspace: image.map_or(0, |image| pixels * 4 * widest(&image.channels)),
        })
    }

    /// Everything together.
    pub fn total(&self) -> u64 {
        self.embedding
            + self.head
            + self.layers
            + self.caches
            + self.scratch
            + self.image_tokenizer
            + self.image_workspace
    }
}

/// Bytes that the system maps around a page that is touched.
const FAULT_AROUND: u64 = 64 << 10;

fn embedding(config: &Config, codes: usize, load: &Load) -> u64 {
    let (vocabulary, d) = (config.vocab_size as u64, config.hidden_size as u64);
    if load.weights == Weights::F32 {
        return vocabulary * d * 4;
    }
    let prompt = load.prompt as u64 * (2 * d).max(FAULT_AROUND);
    (codes as u64 * d * 2 + prompt).min(vocabulary * d * 2)
}

/// Input, inner map and output of the first block at full resolution.
fn widest(channels: &[usize]) -> u64 {
    let full = channels.first().copied().unwrap_or(0);
    let below = channels.get(1).copied().unwrap_or(full);
    (below + 2 * full) as u64
}

fn layers(config: &Config, weights: Weights) -> u64 {
    let (d, kv, inner) = (config.hidden_size, config.kv_dim(), config.intermediate_size);
    let shapes = [(d, d), (kv, d), (kv, d), (d, d), (inner, d), (inner, d), (d, inner)];
    let matrices: u64 =
        shapes.iter().map(|(out, inputs)| matrix(*out as u64, *inputs as u64, weights)).sum();
    let norms = 4 * (2 * d + 4 * config.model_parallel_size * config.head_dim()) as u64;
    config.num_hidden_layers as u64 * (matrices + norms)
}

fn matrix(out: u64, inputs: u64, weights: Weights) -> u64 {
    match weights {
        Weights::F32 => out * inputs * 4,
        Weights::Int4 if int4::fits(inputs as usize) => {
            out * inputs / 2 + out * inputs / int4::GROUP as u64 * 4
        }
        Weights::Bf16 | Weights::Int4 => out * inputs * 2,
    }
}

/// Rows of the largest step times the width of all buffers, the scores of a block of queries, and the logits.
fn scratch(config: &Config, codes: usize, grid: Grid, load: &Load) -> u64 {
    let rows = (2 * load.slots * load.window.max(CATCH_UP_ROWS)) as u64;
    let width = 5 * config.hidden_size + 2 * config.kv_dim() + 2 * config.intermediate_size;
    let keys = (load.prompt + grid.len() + load.window) as u64;
    let scores = config.num_attention_heads as u64 * 8 * keys;
    4 * (rows * width as u64 + scores + (2 * load.slots * load.window * codes) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{ImageTokenizerSize, Options, Preset};

    fn released(kv_cache: KvCache) -> Budget {
        let load = Load {
            weights: Weights::Int4,
            kv_cache,
            width: 768,
            height: 768,
            prompt: 64,
            slots: 1,
            window: 16,
        };
        let options = Options {
            preset: Preset::B7,
            seed: 0,
            sharp: false,
            image_tokenizer: ImageTokenizerSize::M270,
        };
        Budget::new(&Shapes::of_random(&options), &load).unwrap()
    }

    #[test]
    fn the_released_shape_fits_the_promised_sizes() {
        let budget = released(KvCache::Bf16);
        assert!((3_300_000_000..3_600_000_000).contains(&budget.layers), "{budget:?}");
        assert!((9_700_000_000..9_900_000_000).contains(&budget.caches), "{budget:?}");
        assert!(budget.image_workspace < 2_600_000_000, "{budget:?}");
        assert!(budget.total() < 19_000_000_000, "{budget:?}");
        assert!(released(KvCache::Int8).total() < 14_000_000_000, "{:?}", released(KvCache::Int8));
    }

    #[test]
    fn a_size_that_cannot_be_made_has_no_budget() {
        let load = Load {
            weights: Weights::F32,
            kv_cache: KvCache::F32,
            width: 100,
            height: 64,
            prompt: 1,
            slots: 1,
            window: 1,
        };
        let shapes = Shapes { config: Preset::Tiny.config(), codes: 256, image_tokenizer: None };
        assert!(Budget::new(&shapes, &load).is_err());
    }
}
