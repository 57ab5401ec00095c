//! The decoder-only transformer: embedding, layers over static caches, head.
//!
//! **Promise.** A row of the result depends on its own sequence alone: not on the other sequences of the batch, not on how a
//! sequence is cut into chunks, not on the number of threads.
//!
//! **Main path.** [`Transformer::load`], then [`Transformer::forward`] on one [`Chunk`] for each branch of each slot, then
//! [`Transformer::logits`] on the rows whose scores are wanted.
//!
//! **Must never know.** Requests, sampling, pictures.

mod attention;
pub mod config;
mod kv_cache;
pub(crate) mod linear;
mod mlp;
mod rope;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

pub use kv_cache::BranchCache;
pub(crate) use kv_cache::common;
pub use rope::RopeTable;

use crate::checkpoint::Tensors;
use crate::error::LoadError;
use crate::kernels::{Pool, add_in_place, rms_norm};
use crate::quant::Linear;
use crate::quant::{KvCache, Weights};
use crate::transformer::config::Config;
use attention::Attention;
use linear::Embedding;
use mlp::Mlp;

/// The next tokens of one sequence; they take the positions from `cache.len()` on.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Keys and values of everything before; the new ones are added.
    pub cache: &'a mut BranchCache,
    /// Token ids.
    pub tokens: &'a [u32],
}

/// A point of the forward pass that a trace sees. Values are (rows of all chunks, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// After the embedding.
    Embedding,
    /// Queries after their norm, before the rotation.
    QueryNormed,
    /// Keys after their norm, before the rotation.
    KeyNormed,
    /// Output of the attention block, before it is normed or added.
    AttentionOut,
    /// Output of the feed-forward block, before it is normed or added.
    MlpOut,
    /// The residual stream after a layer.
    LayerOut,
    /// After the final norm.
    FinalNorm,
}

/// Called with (stage, layer, values) at every point of a forward pass.
pub type Trace<'a> = dyn FnMut(Stage, usize, &[f32]) + 'a;

/// Buffers of a forward pass, kept between passes. Their contents mean nothing between them, except the residual stream.
#[derive(Debug, Default)]
pub struct Scratch {
    rows: usize,
    /// The residual stream, (rows, hidden).
    hidden: Vec<f32>,
    /// Input and output of a block, (rows, hidden).
    input: Vec<f32>,
    output: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    heads: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    spent: Spent,
}

/// Seconds that forward passes have taken, by stage.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Norms and projections of attention.
    pub projections: f64,
    /// Rotation, cache writes, scores and mixing.
    pub attention: f64,
    /// Norms and feed-forward blocks.
    pub feed_forward: f64,
    /// Final norm and head.
    pub head: f64,
}

impl Spent {
    /// All stages.
    pub fn total(&self) -> f64 {
        self.projections + self.attention + self.feed_forward + self.head
    }

    /// What has been spent since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            projections: self.projections - earlier.projections,
            attention: self.attention - earlier.attention,
            feed_forward: self.feed_forward - earlier.feed_forward,
            head: self.head - earlier.head,
        }
    }
}

impl Scratch {
    /// Seconds by stage over all passes with these buffers.
    pub fn spent(&self) -> Spent {
        self.spent
    }
}

/// The weights.
#[derive(Debug)]
pub struct Transformer {
    config: Config,
    embed: Embedding,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Linear,
    rope: Arc<RopeTable>,
}

#[derive(Debug)]
struct Layer {
    input_norm: Vec<f32>,
    post_attention_norm: Vec<f32>,
    attention: Attention,
    mlp: Mlp,
}

impl Transformer {
    /// Loads the transformer. Only `head_rows` of the head are kept: the image tokens for making pictures, everything for
    /// comparisons. In 4 bits, embedding and head are bf16.
    ///
    /// # Errors
    /// A tensor is missing or of a wrong shape or type.
    pub fn load(
        tensors: &Tensors,
        config: &Config,
        head_rows: Range<usize>,
        format: Weights,
    ) -> Result<Self, LoadError> {
        let (vocab, d) = (config.vocab_size, config.hidden_size);
        let embed_name = "model.embed_tokens.weight";
        let head_name = if config.tie_word_embeddings { embed_name } else { "lm_head.weight" };
        let (n, shape) = (head_rows.len(), [vocab, d]);
        let head = match format {
            Weights::F32 => {
                Linear::from_f32(tensors.float_rows(head_name, &shape, head_rows)?, None, n, d)
            }
            Weights::Bf16 | Weights::Int4 => Linear::from_bf16_bytes(
                tensors.bf16_rows(head_name, &shape, head_rows)?,
                None,
                n,
                d,
            ),
        };
        let layers = (0..config.num_hidden_layers).map(|i| Layer::load(tensors, i, config, format));
        Ok(Self {
            config: config.clone(),
            embed: Embedding::load(tensors, embed_name, shape, format)?,
            layers: layers.collect::<Result<_, _>>()?,
            norm: linear::vector(tensors, "model.norm.weight", &[d], format)?,
            head,
            rope: Arc::new(RopeTable::new(config, config.max_position_embeddings)),
        })
    }

    /// Its shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The rotary table of a sequence that will have `positions` tokens.
    pub fn rope(&self, positions: usize) -> Arc<RopeTable> {
        if positions <= self.rope.positions() {
            return Arc::clone(&self.rope);
        }
        Arc::new(RopeTable::new(&self.config, positions))
    }

    /// An empty cache for a sequence of `positions` tokens.
    pub fn cache(&self, positions: usize, format: KvCache) -> BranchCache {
        BranchCache::new(&self.config, positions, format, self.rope(positions))
    }

    /// Numbers in the matrices of all layers, and in the head.
    pub fn weights(&self) -> (u64, u64) {
        let layers =
            self.layers.iter().map(|layer| layer.attention.weights() + layer.mlp.weights());
        (layers.sum(), (self.head.out() * self.head.inputs()) as u64)
    }

    /// Bytes of weights that one pass reads, whatever its number of rows: every matrix of the layers, and the head when any
    /// scores are wanted.
    pub fn bytes_read(&self, scored: bool) -> u64 {
        let layers: usize =
            self.layers.iter().map(|layer| layer.attention.bytes() + layer.mlp.bytes()).sum();
        (layers + if scored { self.head.bytes() } else { 0 }) as u64
    }

    /// Runs all chunks through all layers: their caches grow, and `scratch` holds the residual stream of every row.
    ///
    /// # Panics
    /// When a token is outside the vocabulary or a cache is too short: callers check both when they admit a request.
    pub fn forward(
        &self,
        pool: &Pool,
        chunks: &mut [Chunk<'_>],
        scratch: &mut Scratch,
        trace: &mut Trace<'_>,
    ) {
        let d = self.config.hidden_size;
        scratch.rows = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        scratch.hidden.clear();
        for token in chunks.iter().flat_map(|chunk| chunk.tokens) {
            self.embed.append(*token, d, &mut scratch.hidden);
        }
        scratch.input.resize(scratch.rows * d, 0.0);
        scratch.output.resize(scratch.rows * d, 0.0);
        trace(Stage::Embedding, 0, &scratch.hidden);
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(pool, i, &self.config, chunks, scratch, trace);
            trace(Stage::LayerOut, i, &scratch.hidden);
        }
        for chunk in chunks {
            chunk.cache.advance(chunk.tokens);
        }
    }

    /// Scores of the given rows of the last forward pass: (rows, head rows).
    pub fn logits(
        &self,
        pool: &Pool,
        scratch: &mut Scratch,
        rows: &[usize],
        logits: &mut Vec<f32>,
        trace: &mut Trace<'_>,
    ) {
        let d = self.config.hidden_size;
        let began = Instant::now();
        scratch.input.clear();
        for row in rows {
            scratch.input.extend_from_slice(&scratch.hidden[row * d..(row + 1) * d]);
        }
        scratch.output.resize(rows.len() * d, 0.0);
        rms_norm(&scratch.input, &self.norm, self.config.rms_norm_eps as f32, &mut scratch.output);
        trace(Stage::FinalNorm, 0, &scratch.output);
        logits.resize(rows.len() * self.head.out(), 0.0);
        self.head.forward(&scratch.output, rows.len(), logits, pool);
        scratch.spent.head += began.elapsed().as_secs_f64();
    }
}

impl Layer {
    fn load(
        tensors: &Tensors,
        i: usize,
        config: &Config,
        format: Weights,
    ) -> Result<Self, LoadError> {
        let prefix = format!("model.layers.{i}");
        let width = [config.hidden_size];
        let norm = |name: &str| {
            linear::vector(tensors, &format!("{prefix}.{name}.weight"), &width, format)
        };
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            post_attention_norm: norm("post_attention_layernorm")?,
            attention: Attention::load(tensors, &format!("{prefix}.self_attn"), config, format)?,
            mlp: Mlp::load(tensors, &format!("{prefix}.mlp"), config, format)?,
        })
    }

    fn forward(
        &self,
        pool: &Pool,
        i: usize,
        config: &Config,
        chunks: &mut [Chunk<'_>],
        scratch: &mut Scratch,
        trace: &mut Trace<'_>,
    ) {
        let eps = config.rms_norm_eps as f32;
        let (began, mixing) = (Instant::now(), scratch.spent.attention);
        self.enter(config, &self.input_norm, scratch);
        self.attention.forward(pool, i, chunks, scratch, trace);
        leave(config, &self.input_norm, eps, scratch);
        let mixing = scratch.spent.attention - mixing;
        scratch.spent.projections += began.elapsed().as_secs_f64() - mixing;
        let began = Instant::now();
        self.enter(config, &self.post_attention_norm, scratch);
        self.mlp.forward(pool, scratch);
        trace(Stage::MlpOut, i, &scratch.output);
        leave(config, &self.post_attention_norm, eps, scratch);
        scratch.spent.feed_forward += began.elapsed().as_secs_f64();
    }

    /// Fills a block's input: the residual stream, normed unless the norm comes after the block.
    fn enter(&self, config: &Config, norm: &[f32], scratch: &mut Scratch) {
        scratch.input.resize(scratch.hidden.len(), 0.0);
        if config.swin_norm {
            scratch.input.copy_from_slice(&scratch.hidden);
        } else {
            rms_norm(&scratch.hidden, norm, config.rms_norm_eps as f32, &mut scratch.input);
        }
    }
}

/// Adds a block's output to the residual stream, normed when the norm comes after the block.
fn leave(config: &Config, norm: &[f32], eps: f32, scratch: &mut Scratch) {
    if config.swin_norm {
        rms_norm(&scratch.output, norm, eps, &mut scratch.input);
        add_in_place(&mut scratch.hidden, &scratch.input);
    } else {
        add_in_place(&mut scratch.hidden, &scratch.output);
    }
}
