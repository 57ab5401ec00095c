//! Attention over rows that are kept in fewer bits: they are widened to f32 in registers, on the way to their use.
//!
//! Every result has the bits of the same sum over rows widened beforehand: [`scores`] those of `matmul_nt`, [`add_mixed`]
//! those of `add_weighted_rows`.
#![expect(unsafe_code, reason = "the same body is compiled for each instruction set")]

use super::lanes::{LANES, for_each_isa, tree};

/// Rows of one width, as they are stored.
#[derive(Debug, Clone, Copy)]
pub enum StoredRows<'a> {
    /// As they are.
    F32(&'a [f32]),
    /// Upper halves of f32.
    Bf16(&'a [u16]),
    /// Codes, and one scale for each row.
    Int8(&'a [i8], &'a [f32]),
}

impl<'a> StoredRows<'a> {
    /// Rows as f32: as they lie, or widened into `wide`, which has room for them.
    pub fn widen(self, width: usize, wide: &'a mut [f32]) -> &'a [f32] {
        match self {
            Self::F32(values) => values,
            Self::Bf16(bits) => {
                widen_bf16(bits, &mut wide[..bits.len()]);
                &wide[..bits.len()]
            }
            Self::Int8(codes, scales) => {
                widen_int8(codes, scales, width, &mut wide[..codes.len()]);
                &wide[..codes.len()]
            }
        }
    }
}

for_each_isa! {
    /// Rounds to bf16, ties to even; NaN stays NaN.
    pub fn narrow_bf16(values: &[f32], to: &mut [u16]) {
        assert_eq!(values.len(), to.len(), "same shape");
        for (to, value) in to.iter_mut().zip(values) {
            let bits = value.to_bits();
            let rounded = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16;
            let nan = (bits >> 16) as u16 | 0x40;
            *to = if bits & 0x7FFF_FFFF > 0x7F80_0000 { nan } else { rounded };
        }
    }
}

for_each_isa! {
    /// Turns the pairs (i, i + half) of a head: cosines and sines are as long as half of it.
    pub fn rotate_halves(head: &mut [f32], cos: &[f32], sin: &[f32]) {
        let (a, b) = head.split_at_mut(cos.len());
        assert!(a.len() == b.len() && sin.len() == cos.len(), "one angle by pair");
        for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            let (x, y) = (*a, *b);
            *a = x * cos - y * sin;
            *b = y * cos + x * sin;
        }
    }
}

/// `to[j] = query . rows[j]` for as many rows as `to` is long.
///
/// # Panics
/// When there are fewer rows.
pub fn scores(query: &[f32], rows: StoredRows<'_>, to: &mut [f32]) {
    match rows {
        StoredRows::F32(values) => scores_f32(query, values, to),
        StoredRows::Bf16(bits) => scores_bf16(query, bits, to),
        StoredRows::Int8(codes, scales) => scores_int8(query, codes, scales, to),
    }
}

/// `out += sum over j of weights[j] * rows[j]`, each output one chain of fused multiply-adds in ascending j.
///
/// # Panics
/// When there are fewer rows than weights.
pub fn add_mixed(weights: &[f32], rows: StoredRows<'_>, out: &mut [f32]) {
    match rows {
        StoredRows::F32(values) => super::add_weighted_rows(weights, values, out.len(), out),
        StoredRows::Bf16(bits) => mix_bf16(weights, bits, out),
        StoredRows::Int8(codes, scales) => mix_int8(weights, codes, scales, out),
    }
}

#[inline(always)]
fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The body of [`scores`]: the law of eight lanes for each row, `widen(code, row)` giving its numbers.
#[inline(always)]
fn score_rows<T: Copy>(query: &[f32], rows: &[T], to: &mut [f32], widen: impl Fn(T, usize) -> f32) {
    let width = query.len();
    assert!(rows.len() >= to.len() * width, "one row by score");
    let (groups, tail) = query.as_chunks::<LANES>();
    for (j, (score, row)) in to.iter_mut().zip(rows.chunks_exact(width)).enumerate() {
        let (row_groups, row_tail) = row.as_chunks::<LANES>();
        let mut acc = [0.0_f32; LANES];
        for (a, b) in groups.iter().zip(row_groups) {
            for l in 0..LANES {
                acc[l] = a[l].mul_add(widen(b[l], j), acc[l]);
            }
        }
        if !tail.is_empty() {
            for (l, sum) in acc.iter_mut().enumerate() {
                let a = tail.get(l).copied().unwrap_or(0.0);
                let b = row_tail.get(l).map_or(0.0, |b| widen(*b, j));
                *sum = a.mul_add(b, *sum);
            }
        }
        *score = tree(acc);
    }
}

/// The body of [`add_mixed`]: 64 outputs at a time stay in registers over the whole sum.
#[inline(always)]
fn mix_rows<T: Copy>(
    weights: &[f32],
    rows: &[T],
    out: &mut [f32],
    widen: impl Fn(T, usize) -> f32,
) {
    const BLOCK: usize = 64;
    let width = out.len();
    assert!(rows.len() >= weights.len() * width, "one row by weight");
    let (blocks, tail) = out.as_chunks_mut::<BLOCK>();
    let tail_start = blocks.len() * BLOCK;
    for (b, block) in blocks.iter_mut().enumerate() {
        let mut acc = *block;
        for (j, w) in weights.iter().enumerate() {
            let row = &rows[j * width + b * BLOCK..][..BLOCK];
            for l in 0..BLOCK {
                acc[l] = w.mul_add(widen(row[l], j), acc[l]);
            }
        }
        *block = acc;
    }
    for (j, w) in weights.iter().enumerate() {
        let row = &rows[j * width + tail_start..][..tail.len()];
        for (o, v) in tail.iter_mut().zip(row) {
            *o = w.mul_add(widen(*v, j), *o);
        }
    }
}

for_each_isa! {
    fn widen_bf16(bits: &[u16], to: &mut [f32]) {
        for (to, bits) in to.iter_mut().zip(bits) {
            *to = from_bf16(*bits);
        }
    }
}

for_each_isa! {
    fn widen_int8(codes: &[i8], scales: &[f32], width: usize, to: &mut [f32]) {
        for ((to, codes), scale) in to.chunks_exact_mut(width).zip(codes.chunks_exact(width)).zip(scales) {
            for (to, code) in to.iter_mut().zip(codes) {
                *to = f32::from(*code) * scale;
            }
        }
    }
}

for_each_isa! {
    fn scores_f32(query: &[f32], rows: &[f32], to: &mut [f32]) {
        score_rows(query, rows, to, |value, _| value);
    }
}

for_each_isa! {
    fn scores_bf16(query: &[f32], rows: &[u16], to: &mut [f32]) {
        score_rows(query, rows, to, |bits, _| from_bf16(bits));
    }
}

for_each_isa! {
    fn scores_int8(query: &[f32], rows: &[i8], scales: &[f32], to: &mut [f32]) {
        assert!(scales.len() >= to.len(), "one scale by row");
        score_rows(query, rows, to, |code, j| f32::from(code) * scales[j]);
    }
}

for_each_isa! {
    fn mix_bf16(weights: &[f32], rows: &[u16], out: &mut [f32]) {
        mix_rows(weights, rows, out, |bits, _| from_bf16(bits));
    }
}

for_each_isa! {
    fn mix_int8(weights: &[f32], rows: &[i8], scales: &[f32], out: &mut [f32]) {
        assert!(scales.len() >= weights.len(), "one scale by row");
        mix_rows(weights, rows, out, |code, j| f32::from(code) * scales[j]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Isa, add_weighted_rows, force_isa, matmul_nt_serial};
    use crate::quant::bf16;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin() * 3.0).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn narrowing_is_the_rounding_of_the_format_on_every_instruction_set() {
        let specials =
            [f32::NAN, -f32::NAN, f32::INFINITY, -f32::INFINITY, 0.0, -0.0, f32::MAX, 1e-42];
        let ties = (0..2_000u32).map(|i| f32::from_bits(0x3F80_0000 + i * 0x4000));
        let values: Vec<f32> = specials.into_iter().chain(ties).chain(wave(999, 0.7)).collect();
        let wanted: Vec<u16> = values.iter().map(|v| bf16::to_bits(*v)).collect();
        for isa in Isa::available() {
            force_isa(Some(isa)).unwrap();
            let mut got = vec![0; values.len()];
            narrow_bf16(&values, &mut got);
            assert_eq!(got, wanted, "{isa:?}");
        }
        force_isa(None).unwrap();
    }

    #[test]
    fn rotation_gives_the_same_bits_on_every_instruction_set() {
        for half in [1, 4, 13, 32] {
            let (head, cos, sin) = (wave(2 * half, 0.7), wave(half, 0.3), wave(half, 0.9));
            for isa in Isa::available() {
                force_isa(Some(isa)).unwrap();
                let mut got = head.clone();
                rotate_halves(&mut got, &cos, &sin);
                for i in 0..half {
                    let (x, y) = (head[i], head[i + half]);
                    let (a, b) = (x * cos[i] - y * sin[i], y * cos[i] + x * sin[i]);
                    assert_eq!(bits(&[got[i], got[i + half]]), bits(&[a, b]), "{isa:?} {half}");
                }
            }
        }
        force_isa(None).unwrap();
    }

    #[test]
    fn every_format_gives_the_bits_of_rows_widened_beforehand() {
        for (count, width) in [(1, 8), (5, 12), (9, 64), (67, 130), (3, 5)] {
            let values = wave(count * width, 0.37);
            let halves: Vec<u16> = values.iter().map(|v| (v.to_bits() >> 16) as u16).collect();
            let codes: Vec<i8> = values.iter().map(|v| (v * 40.0) as i8).collect();
            let (scales, query, weights) = (wave(count, 0.11), wave(width, 0.7), wave(count, 0.9));
            for rows in [
                StoredRows::F32(&values),
                StoredRows::Bf16(&halves),
                StoredRows::Int8(&codes, &scales),
            ] {
                force_isa(Some(Isa::Scalar)).unwrap();
                let mut room = vec![0.0; count * width];
                let wide = rows.widen(width, &mut room).to_vec();
                let mut wanted = (vec![0.0; count], wave(width, 0.3));
                matmul_nt_serial(&query, &wide, None, &mut wanted.0, count, 1, count, width);
                add_weighted_rows(&weights, &wide, width, &mut wanted.1);
                for isa in Isa::available() {
                    force_isa(Some(isa)).unwrap();
                    let mut got = (vec![0.0; count], wave(width, 0.3));
                    scores(&query, rows, &mut got.0);
                    add_mixed(&weights, rows, &mut got.1);
                    assert_eq!(bits(&got.0), bits(&wanted.0), "{isa:?} {count} {width}");
                    assert_eq!(bits(&got.1), bits(&wanted.1), "{isa:?} {count} {width}");
                    assert_eq!(bits(rows.widen(width, &mut room)), bits(&wide), "{isa:?}");
                }
            }
        }
        force_isa(None).unwrap();
    }
}
