//! A norm with the statistics of one map, applied while rows are read.
#![expect(unsafe_code, reason = "row loops are compiled once for each instruction set")]

use super::map::Map;
use crate::kernels::{for_each_isa, silu};

/// A norm with the statistics of one map: what turns a row into a normalised row.
pub(super) struct Prepared {
    /// (c)
    pub(super) scale: Vec<f32>,
    /// (c)
    pub(super) shift: Vec<f32>,
    /// Multiplier and addend at latent resolution: the 1x1 convolutions commute with the nearest upsampling, exactly.
    pub(super) modulation: Option<(Map, Map)>,
    pub(super) h: usize,
    pub(super) w: usize,
}

impl Prepared {
    /// Row `y` of the norm's output, from row `y` of its input.
    pub(super) fn row(&self, x: &[f32], y: usize, swish: bool, out: &mut [f32]) {
        let c = self.scale.len();
        match &self.modulation {
            None => {
                for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
                    affine(x, &self.scale, &self.shift, swish, out);
                }
            }
            Some((multiplier, addend)) => {
                // Nearest: floor(dst * in / out); the ratio is 1, 2, 4 or 8 in every known model.
                let from_y = y * multiplier.h / self.h;
                let (multiplier_row, addend_row) = (multiplier.row(from_y), addend.row(from_y));
                for (at, (x, out)) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)).enumerate() {
                    let from = at * multiplier.w / self.w * c;
                    let (m, a) = (&multiplier_row[from..from + c], &addend_row[from..from + c]);
                    modulated(x, &self.scale, &self.shift, m, a, swish, out);
                }
            }
        }
    }
}

for_each_isa! {
    /// `out = x * scale + shift`, swished on request. All slices have one length.
    fn affine(x: &[f32], scale: &[f32], shift: &[f32], swish: bool, out: &mut [f32]) {
        let n = out.len();
        let (x, scale, shift) = (&x[..n], &scale[..n], &shift[..n]);
        if swish {
            for i in 0..n {
                out[i] = silu(x[i].mul_add(scale[i], shift[i]));
            }
        } else {
            for i in 0..n {
                out[i] = x[i].mul_add(scale[i], shift[i]);
            }
        }
    }
}

for_each_isa! {
    /// `out = (x * scale + shift) * multiplier + addend`, swished on request. All slices have one length.
    fn modulated(x: &[f32], scale: &[f32], shift: &[f32], multiplier: &[f32], addend: &[f32], swish: bool, out: &mut [f32]) {
        let n = out.len();
        let (x, scale, shift) = (&x[..n], &scale[..n], &shift[..n]);
        let (multiplier, addend) = (&multiplier[..n], &addend[..n]);
        if swish {
            for i in 0..n {
                out[i] = silu(x[i].mul_add(scale[i], shift[i]).mul_add(multiplier[i], addend[i]));
            }
        } else {
            for i in 0..n {
                out[i] = x[i].mul_add(scale[i], shift[i]).mul_add(multiplier[i], addend[i]);
            }
        }
    }
}
