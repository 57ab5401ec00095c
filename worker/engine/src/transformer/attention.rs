//! Attention of a batch of sequences: projections over all rows at once, scores by sequence over its own cache.

use std::time::Instant;

use super::kv_cache::BranchCache;
use super::{Chunk, Scratch, Stage, Trace, linear};
use crate::checkpoint::Tensors;
use crate::error::LoadError;
use crate::kernels::{
    Pool, add_mixed, add_weighted_rows, layer_norm_in_place, matmul_nt_serial, scores,
    softmax_in_place,
};
use crate::quant::Linear;
use crate::quant::Weights;
use crate::transformer::config::Config;

/// The q/k norms use this value whatever `rms_norm_eps` says.
const QK_NORM_EPS: f32 = 1e-5;

/// Keys or values widened at once; small enough to stay in the first cache level between two uses.
const KEY_BLOCK: usize = 64;

/// Query rows whose scores are held at once; amortises each read of the keys.
const ROW_BLOCK: usize = 8;

/// Up to so many query rows widen keys and values in registers, each for itself; more share a widened block.
const FEW_ROWS: usize = 2;

/// One layer's attention.
#[derive(Debug)]
pub(super) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: HeadNorm,
    k_norm: HeadNorm,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// Layer norm over the values of a head; each row of parameters serves consecutive heads.
#[derive(Debug)]
struct HeadNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    heads_per_row: usize,
}

impl HeadNorm {
    fn load(
        tensors: &Tensors,
        name: &str,
        config: &Config,
        heads: usize,
        format: Weights,
    ) -> Result<Self, LoadError> {
        let shape = [config.model_parallel_size, config.head_dim()];
        Ok(Self {
            weight: linear::vector(tensors, &format!("{name}.weight"), &shape, format)?,
            bias: linear::vector(tensors, &format!("{name}.bias"), &shape, format)?,
            heads_per_row: heads / config.model_parallel_size,
        })
    }

    fn apply(&self, head: usize, values: &mut [f32]) {
        let row = head / self.heads_per_row * values.len();
        let range = row..row + values.len();
        layer_norm_in_place(values, &self.weight[range.clone()], &self.bias[range], QK_NORM_EPS);
    }
}

impl Attention {
    /// Loads `{prefix}.{q,k,v,o}_proj` and `{prefix}.{q,k}_norm`.
    ///
    /// # Errors
    /// A tensor is missing or of a wrong shape or type.
    pub(super) fn load(
        tensors: &Tensors,
        prefix: &str,
        config: &Config,
        format: Weights,
    ) -> Result<Self, LoadError> {
        let (d, kv) = (config.hidden_size, config.kv_dim());
        let project = |name: &str, out: usize| {
            linear::load(
                tensors,
                &format!("{prefix}.{name}"),
                (out, d),
                config.attention_bias,
                format,
            )
        };
        Ok(Self {
            q_proj: project("q_proj", d)?,
            k_proj: project("k_proj", kv)?,
            v_proj: project("v_proj", kv)?,
            o_proj: project("o_proj", d)?,
            q_norm: HeadNorm::load(
                tensors,
                &format!("{prefix}.q_norm"),
                config,
                config.num_attention_heads,
                format,
            )?,
            k_norm: HeadNorm::load(
                tensors,
                &format!("{prefix}.k_norm"),
                config,
                config.num_key_value_heads,
                format,
            )?,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim(),
        })
    }

    /// Bytes of the matrices.
    pub(super) fn bytes(&self) -> usize {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj]
            .iter()
            .map(|matrix| matrix.bytes())
            .sum()
    }

    /// Numbers in the matrices.
    pub(super) fn weights(&self) -> u64 {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj]
            .iter()
            .map(|matrix| (matrix.out() * matrix.inputs()) as u64)
            .sum()
    }

    /// `out = Attn(input)` for all rows of all chunks; writes each chunk's keys and values at its positions of `layer`.
    pub(super) fn forward(
        &self,
        pool: &Pool,
        layer: usize,
        chunks: &mut [Chunk<'_>],
        scratch: &mut Scratch,
        trace: &mut Trace<'_>,
    ) {
        let rows = scratch.rows;
        let (d, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        scratch.q.resize(rows * d, 0.0);
        scratch.k.resize(rows * kv, 0.0);
        scratch.v.resize(rows * kv, 0.0);
        self.q_proj.forward(&scratch.input, rows, &mut scratch.q, pool);
        self.k_proj.forward(&scratch.input, rows, &mut scratch.k, pool);
        self.v_proj.forward(&scratch.input, rows, &mut scratch.v, pool);
        self.norm_heads(&mut scratch.q, &mut scratch.k);
        trace(Stage::QueryNormed, layer, &scratch.q);
        trace(Stage::KeyNormed, layer, &scratch.k);
        let began = Instant::now();
        self.write_cache(layer, chunks, scratch);
        self.mix(pool, layer, chunks, scratch);
        scratch.spent.attention += began.elapsed().as_secs_f64();
        self.o_proj.forward(&scratch.q, rows, &mut scratch.output, pool);
        trace(Stage::AttentionOut, layer, &scratch.output);
    }

    fn norm_heads(&self, q: &mut [f32], k: &mut [f32]) {
        for (i, head) in q.chunks_exact_mut(self.head_dim).enumerate() {
            self.q_norm.apply(i % self.heads, head);
        }
        for (i, head) in k.chunks_exact_mut(self.head_dim).enumerate() {
            self.k_norm.apply(i % self.kv_heads, head);
        }
    }

    fn write_cache(&self, layer: usize, chunks: &mut [Chunk<'_>], scratch: &mut Scratch) {
        let dim = self.head_dim;
        let mut row = 0;
        for chunk in chunks {
            for i in 0..chunk.tokens.len() {
                let position = chunk.cache.len() + i;
                for head in 0..self.kv_heads {
                    let at = (row * self.kv_heads + head) * dim;
                    let key = &mut scratch.k[at..at + dim];
                    chunk.cache.rope().rotate(key, position);
                    chunk.cache.write(layer, head, position, key, &scratch.v[at..at + dim]);
                }
                row += 1;
            }
        }
    }

    /// Replaces the queries in `scratch.q` by the mixed values, (rows, heads, head_dim).
    fn mix(&self, pool: &Pool, layer: usize, chunks: &[Chunk<'_>], scratch: &mut Scratch) {
        let (rows, dim) = (scratch.rows, self.head_dim);
        let most_keys =
            chunks.iter().map(|chunk| chunk.cache.len() + chunk.tokens.len()).max().unwrap_or(0);
        // For each head: its outputs (rows, dim), a block of queries, a block of widened keys, the scores of the block.
        let per_head = rows * dim + ROW_BLOCK * (dim + most_keys) + KEY_BLOCK * dim;
        scratch.heads.resize(self.heads * per_head, 0.0);
        let q = &scratch.q;
        pool.chunks_mut(&mut scratch.heads, per_head, |head, part| {
            let (out, rest) = part.split_at_mut(rows * dim);
            let mut row = 0;
            for chunk in chunks {
                let n = chunk.tokens.len();
                let work = HeadWork {
                    attention: self,
                    layer,
                    head,
                    cache: chunk.cache,
                    q,
                    first_row: row,
                    most_keys,
                };
                work.run(n, &mut out[row * dim..(row + n) * dim], rest);
                row += n;
            }
        });
        for head in 0..self.heads {
            let out = &scratch.heads[head * per_head..][..rows * dim];
            for (row, values) in out.chunks_exact(dim).enumerate() {
                scratch.q[(row * self.heads + head) * dim..][..dim].copy_from_slice(values);
            }
        }
    }
}

/// One head of one chunk.
struct HeadWork<'a> {
    attention: &'a Attention,
    layer: usize,
    head: usize,
    cache: &'a BranchCache,
    q: &'a [f32],
    first_row: usize,
    most_keys: usize,
}

impl HeadWork<'_> {
    /// Rows in blocks.
    fn run(&self, rows: usize, out: &mut [f32], scratch: &mut [f32]) {
        let dim = self.attention.head_dim;
        let kv_head = self.head / (self.attention.heads / self.attention.kv_heads);
        let scale = 1.0 / (dim as f32).sqrt();
        let (queries, rest) = scratch.split_at_mut(ROW_BLOCK * dim);
        let (wide, scores) = rest.split_at_mut(KEY_BLOCK * dim);
        for block in (0..rows).step_by(ROW_BLOCK) {
            let n = ROW_BLOCK.min(rows - block);
            for i in 0..n {
                let query = &mut queries[i * dim..(i + 1) * dim];
                let from = ((self.first_row + block + i) * self.attention.heads + self.head) * dim;
                query.copy_from_slice(&self.q[from..from + dim]);
                self.cache.rope().rotate(query, self.cache.len() + block + i);
                query.iter_mut().for_each(|value| *value *= scale);
            }
            let out = &mut out[block * dim..(block + n) * dim];
            out.fill(0.0);
            let part = RowBlock {
                work: self,
                kv_head,
                queries: &queries[..n * dim],
                seen: self.cache.len() + block + 1,
            };
            if n <= FEW_ROWS {
                part.each_row(scores, out);
            } else {
                part.together(scores, wide, out);
            }
        }
    }
}

/// Query rows of consecutive positions. Both ways of mixing give the same bits.
struct RowBlock<'a> {
    work: &'a HeadWork<'a>,
    kv_head: usize,
    /// (rows, head_dim), rotated and scaled.
    queries: &'a [f32],
    /// Positions that the first row sees; each further row sees one more.
    seen: usize,
}

impl RowBlock<'_> {
    /// Row after row over the cache as it is stored; adds to `out` (rows, head_dim).
    fn each_row(&self, room: &mut [f32], out: &mut [f32]) {
        let (cache, layer, dim) = (self.work.cache, self.work.layer, self.work.attention.head_dim);
        let rows = self.queries.chunks_exact(dim).zip(out.chunks_exact_mut(dim));
        for (i, (query, out)) in rows.enumerate() {
            let seen = 0..self.seen + i;
            let weights = &mut room[seen.clone()];
            scores(query, cache.keys(layer, self.kv_head, seen.clone()), weights);
            softmax_in_place(weights);
            add_mixed(weights, cache.values(layer, self.kv_head, seen), out);
        }
    }

    /// Blocks of keys against all rows, then each row's weights over its own keys alone, then blocks of values.
    fn together(&self, scores: &mut [f32], wide: &mut [f32], out: &mut [f32]) {
        let (cache, layer, dim) = (self.work.cache, self.work.layer, self.work.attention.head_dim);
        let (n, most_keys) = (self.queries.len() / dim, self.work.most_keys);
        let seen = |i: usize| self.seen + i;
        let keys = seen(n - 1);
        for first in (0..keys).step_by(KEY_BLOCK) {
            let part = first..keys.min(first + KEY_BLOCK);
            let count = part.len();
            let key_rows = cache.keys(layer, self.kv_head, part).widen(dim, wide);
            matmul_nt_serial(
                self.queries,
                key_rows,
                None,
                &mut scores[first..],
                most_keys,
                n,
                count,
                dim,
            );
        }
        for i in 0..n {
            softmax_in_place(&mut scores[i * most_keys..][..seen(i)]);
        }
        for first in (0..keys).step_by(KEY_BLOCK) {
            let part = first..keys.min(first + KEY_BLOCK);
            let value_rows = cache.values(layer, self.kv_head, part.clone()).widen(dim, wide);
            for i in 0..n {
                let weights = &scores[i * most_keys..][first..part.end.min(seen(i)).max(first)];
                // One chain of fused multiply-adds in ascending order of position, wherever the blocks are cut.
                add_weighted_rows(weights, value_rows, dim, &mut out[i * dim..][..dim]);
            }
        }
    }
}
