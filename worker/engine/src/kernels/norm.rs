//! Row-wise sums: softmax and the two norms, all by the law of eight lanes.
#![expect(unsafe_code, reason = "the same body is compiled for each instruction set")]

use super::lanes::{dot, for_each_isa, sum_of};
use super::math::exp;

/// Largest element, or negative infinity of an empty row; NaN elements are passed over.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; 8];
    let (groups, tail) = row.as_chunks::<8>();
    for group in groups {
        for l in 0..8 {
            best[l] = if group[l] > best[l] { group[l] } else { best[l] };
        }
    }
    let pick = |a: f32, b: f32| if b > a { b } else { a };
    tail.iter().copied().chain(best).fold(f32::NEG_INFINITY, pick)
}

for_each_isa! {
    /// Softmax over the whole slice: `exp(x - max)`, sum by the law, one division by element.
    ///
    /// Elements of negative infinity become 0. A row of negative infinities alone, or with a NaN, becomes NaN.
    pub fn softmax_in_place(row: &mut [f32]) {
        let max = largest(row);
        for v in row.iter_mut() {
            *v = exp(*v - max);
        }
        let sum = sum_of(row, |v| v);
        for v in row {
            *v /= sum;
        }
    }
}

for_each_isa! {
    /// RMS norm of each row of `x` (rows, width) into `out`: `x / sqrt(mean(x^2) + eps) * weight`, weight (width).
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        assert_eq!(x.len(), out.len(), "input and output have the same shape");
        assert!(width > 0 && x.len().is_multiple_of(width), "rows are as wide as the weight");
        for (row, to) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let mean = dot(row, row) / width as f32;
            let scale = 1.0 / (mean + eps).sqrt();
            for ((o, v), w) in to.iter_mut().zip(row).zip(weight) {
                *o = v * scale * w;
            }
        }
    }
}

for_each_isa! {
    /// Layer norm of one row in place: `(x - mean) / sqrt(var + eps) * weight + bias`, the variance biased and taken of the
    /// centred values. All three slices have the same length.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn layer_norm_in_place(row: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        assert!(row.len() == weight.len() && row.len() == bias.len(), "one weight and bias by element");
        let n = row.len() as f32;
        let mean = sum_of(row, |v| v) / n;
        for v in row.iter_mut() {
            *v -= mean;
        }
        let scale = 1.0 / (dot(row, row) / n + eps).sqrt();
        for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *v = (*v * scale).mul_add(*w, *b);
        }
    }
}

for_each_isa! {
    /// `y[i] += x[i]`.
    pub fn add_in_place(y: &mut [f32], x: &[f32]) {
        assert_eq!(y.len(), x.len(), "same shape");
        for (a, b) in y.iter_mut().zip(x) {
            *a += b;
        }
    }
}

for_each_isa! {
    /// Weighted sum of rows, the second half of attention: `out += sum over j of weights[j] * values[j * stride ..][.. width]`,
    /// width being `out.len()`. Each output is one chain of fused multiply-adds in ascending j that starts at what stands in
    /// `out`, so a sum may be cut anywhere.
    ///
    /// # Panics
    /// When `values` is too short.
    pub fn add_weighted_rows(weights: &[f32], values: &[f32], stride: usize, out: &mut [f32]) {
        let width = out.len();
        assert!(stride >= width, "rows do not overlap");
        assert!(weights.is_empty() || values.len() >= (weights.len() - 1) * stride + width, "one row by weight");
        // 64 outputs at a time stay in registers over the whole sum.
        let (blocks, tail) = out.as_chunks_mut::<64>();
        let tail_start = blocks.len() * 64;
        for (b, block) in blocks.iter_mut().enumerate() {
            let mut acc = *block;
            for (j, w) in weights.iter().enumerate() {
                let row = &values[j * stride + b * 64..][..64];
                for l in 0..64 {
                    acc[l] = w.mul_add(row[l], acc[l]);
                }
            }
            *block = acc;
        }
        for (j, w) in weights.iter().enumerate() {
            let row = &values[j * stride + tail_start..][..tail.len()];
            for (o, v) in tail.iter_mut().zip(row) {
                *o = w.mul_add(*v, *o);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Isa, force_isa};

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin() * 3.0).collect()
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_masked_elements_at_zero() {
        let mut row = wave(1_003, 0.37);
        row[5] = f32::NEG_INFINITY;
        let exact: Vec<f64> = row.iter().map(|v| f64::from(*v).exp()).collect();
        let total: f64 = exact.iter().sum();
        softmax_in_place(&mut row);
        assert_eq!(row[5], 0.0);
        for (v, e) in row.iter().zip(&exact) {
            assert!((f64::from(*v) - e / total).abs() < 1e-8);
        }
    }

    #[test]
    fn norms_agree_with_f64() {
        let (x, w, b) = (wave(3 * 37, 0.71), wave(37, 0.11), wave(37, 0.23));
        let mut out = vec![0.0; x.len()];
        rms_norm(&x, &w, 1e-5, &mut out);
        for (r, row) in x.chunks(37).enumerate() {
            let mean: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 37.0;
            for (i, v) in row.iter().enumerate() {
                let exact = f64::from(*v) / (mean + 1e-5).sqrt() * f64::from(w[i]);
                assert!((f64::from(out[r * 37 + i]) - exact).abs() < 2e-6);
            }
        }
        let mut row = x[..37].to_vec();
        layer_norm_in_place(&mut row, &w, &b, 1e-5);
        let mean: f64 = x[..37].iter().map(|v| f64::from(*v)).sum::<f64>() / 37.0;
        let var: f64 = x[..37].iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 37.0;
        for i in 0..37 {
            let exact =
                (f64::from(x[i]) - mean) / (var + 1e-5).sqrt() * f64::from(w[i]) + f64::from(b[i]);
            assert!((f64::from(row[i]) - exact).abs() < 5e-6);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let run = || {
            let mut bits = Vec::new();
            for n in [1, 7, 8, 9, 64, 67, 130, 1_000] {
                let (x, w, b) = (wave(n, 0.71), wave(n, 0.13), wave(n, 0.29));
                let mut row = x.clone();
                softmax_in_place(&mut row);
                bits.extend(row.iter().map(|v| v.to_bits()));
                rms_norm(&x, &w, 1e-5, &mut row);
                bits.extend(row.iter().map(|v| v.to_bits()));
                layer_norm_in_place(&mut row, &w, &b, 1e-5);
                bits.extend(row.iter().map(|v| v.to_bits()));
                let values = wave(11 * n, 0.017);
                add_weighted_rows(&wave(11, 0.9), &values, n, &mut row);
                bits.extend(row.iter().map(|v| v.to_bits()));
            }
            bits
        };
        force_isa(Some(Isa::Scalar)).unwrap();
        let reference = run();
        for isa in Isa::available() {
            force_isa(Some(isa)).unwrap();
            assert!(run() == reference, "{isa:?}");
        }
        force_isa(None).unwrap();
    }
}
