//! Full self-attention over all positions of a latent map (`reference/movqgan.md` section 2), in chunks of queries.

use super::conv::{Conv, Input};
use super::gemm::{Packed, Windows, multiply};
use super::map::Map;
use super::norm::Norm;
use super::trace::Trace;
use crate::kernels::{Pool, softmax_in_place};

/// Queries that share one pass over keys and values; one row of scores is as long as the map has pixels.
const QUERIES: usize = 48;

/// One attention block.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(super) name: String,
    pub(super) norm: Norm,
    pub(super) q: Conv,
    pub(super) k: Conv,
    pub(super) v: Conv,
    pub(super) proj_out: Conv,
}

impl Attention {
    /// `x + proj_out(attention(norm(x)))`.
    pub(crate) fn forward(
        &self,
        mut x: Map,
        zq: Option<&Map>,
        pool: &Pool,
        trace: &mut Trace<'_>,
    ) -> Map {
        let norm = self.norm.prepare(&x, zq, pool);
        let normed = Input::normed(&x, &norm, false);
        let q = self.q.forward(&normed, pool);
        let k = self.k.forward(&normed, pool);
        let v = self.v.forward(&normed, pool);
        trace.emit(&self.name, "norm", || self.norm.apply(&x, zq, false, pool));
        trace.show(&self.name, "q", &q);
        trace.show(&self.name, "k", &k);
        trace.show(&self.name, "v", &v);
        let mixed = attend(&q, &k, &v, pool);
        trace.emit(&self.name, "proj_out", || self.proj_out.forward(&(&mixed).into(), pool));
        self.proj_out.add_to(&(&mixed).into(), &mut x, pool);
        trace.show(&self.name, "", &x);
        x
    }
}

/// `softmax(q k^T / sqrt(c)) v`, softmax over the keys.
fn attend(q: &Map, k: &Map, v: &Map, pool: &Pool) -> Map {
    let (n, c) = (q.h * q.w, q.c);
    let keys = Packed::new(n, c, |o, channel| k.data[o * c + channel]);
    let values = Packed::new(c, n, |channel, position| v.data[position * c + channel]);
    let scale = 1.0 / (c as f32).sqrt();
    let width = keys.padded_out();
    let mut out = Map::zeros(q.h, q.w, c);
    pool.chunks_mut(&mut out.data, QUERIES * c, |chunk, part| {
        let rows = part.len() / c;
        let first = chunk * QUERIES;
        let starts: Vec<usize> = (0..rows).map(|r| (first + r) * c).collect();
        let mut scores = vec![0.0; rows * width];
        multiply(
            &Windows { data: &q.data, starts: &starts, runs: &[0], run_len: c },
            &keys,
            &mut scores,
        );
        for row in scores.chunks_exact_mut(width) {
            let row = &mut row[..n];
            row.iter_mut().for_each(|score| *score *= scale);
            softmax_in_place(row);
        }
        let starts: Vec<usize> = (0..rows).map(|r| r * width).collect();
        let mut mixed = vec![0.0; rows * values.padded_out()];
        multiply(
            &Windows { data: &scores, starts: &starts, runs: &[0], run_len: n },
            &values,
            &mut mixed,
        );
        for (mixed, part) in mixed.chunks_exact(values.padded_out()).zip(part.chunks_exact_mut(c)) {
            part.copy_from_slice(&mixed[..c]);
        }
    });
    out
}
