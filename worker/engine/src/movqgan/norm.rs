//! GroupNorm, plain and modulated by the code vectors (`reference/movqgan.md` section 2), applied while rows are read.
//!
//! Two passes: statistics over the whole map (f64, fixed order), then scale and shift by channel wherever a row is needed. The
//! normalised map is never stored, except where a test asks for it.
#![expect(unsafe_code, reason = "row loops are compiled once for each instruction set")]

use super::conv::Conv;
use super::map::Map;
use super::prepared::Prepared;
use crate::kernels::{Pool, for_each_isa};

const GROUPS: usize = 32;
const EPS: f64 = 1e-6;

/// A norm's weights.
#[derive(Debug)]
pub(crate) struct Norm {
    /// (c)
    pub(super) weight: Vec<f32>,
    /// (c)
    pub(super) bias: Vec<f32>,
    /// `conv_y` and `conv_b` of a modulated norm.
    pub(super) modulation: Option<(Conv, Conv)>,
}

impl Norm {
    /// Takes the statistics of `x`; `zq` is the picture of code vectors at latent resolution, used by modulated norms only.
    ///
    /// # Panics
    /// When the channels differ, or a modulated norm gets no `zq`.
    pub(super) fn prepare(&self, x: &Map, zq: Option<&Map>, pool: &Pool) -> Prepared {
        assert_eq!(x.c, self.weight.len(), "the norm fits the map");
        let (sums, squares) = channel_sums(x, pool);
        let per_group = x.c / GROUPS;
        let n = (per_group * x.h * x.w) as f64;
        let (mut scale, mut shift) = (Vec::with_capacity(x.c), Vec::with_capacity(x.c));
        for group in 0..GROUPS {
            let channels = group * per_group..(group + 1) * per_group;
            let mean = sums[channels.clone()].iter().sum::<f64>() / n;
            let variance =
                (squares[channels.clone()].iter().sum::<f64>() / n - mean * mean).max(0.0);
            let inverse = 1.0 / (variance + EPS).sqrt();
            for c in channels {
                let factor = f64::from(self.weight[c]) * inverse;
                scale.push(factor as f32);
                shift.push((f64::from(self.bias[c]) - mean * factor) as f32);
            }
        }
        let modulation = self.modulation.as_ref().map(|(conv_y, conv_b)| {
            let zq = zq.expect("modulated norms get the code vectors");
            (conv_y.forward(&zq.into(), pool), conv_b.forward(&zq.into(), pool))
        });
        Prepared { scale, shift, modulation, h: x.h, w: x.w }
    }

    /// The normalised map, swished on request.
    pub(crate) fn apply(&self, x: &Map, zq: Option<&Map>, swish: bool, pool: &Pool) -> Map {
        let prepared = self.prepare(x, zq, pool);
        let mut out = Map::zeros(x.h, x.w, x.c);
        pool.chunks_mut(&mut out.data, (x.w * x.c).max(1), |y, row| {
            prepared.row(x.row(y), y, swish, row)
        });
        out
    }
}

for_each_isa! {
    /// Adds each channel's values and squares of a row of pixels.
    fn add_sums(row: &[f32], sums: &mut [f64], squares: &mut [f64]) {
        let c = sums.len();
        let squares = &mut squares[..c];
        for pixel in row.chunks_exact(c) {
            for i in 0..c {
                let v = f64::from(pixel[i]);
                sums[i] += v;
                squares[i] += v * v;
            }
        }
    }
}

/// Sum and sum of squares of each channel: by row, then over the rows in order, so threads do not matter. Squares of f32 are
/// exact in f64, and a million of them lose about 1e-13: the difference below is good unless the mean is a million deviations.
fn channel_sums(x: &Map, pool: &Pool) -> (Vec<f64>, Vec<f64>) {
    let mut rows = vec![0.0f64; x.h * 2 * x.c];
    pool.chunks_mut(&mut rows, (2 * x.c).max(1), |y, row| {
        let (sums, squares) = row.split_at_mut(x.c);
        add_sums(x.row(y), sums, squares);
    });
    let mut total = vec![0.0f64; 2 * x.c];
    for row in rows.chunks_exact((2 * x.c).max(1)) {
        for (total, value) in total.iter_mut().zip(row) {
            *total += value;
        }
    }
    let squares = total.split_off(x.c);
    (total, squares)
}
