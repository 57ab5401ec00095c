//! The product behind every convolution and attention of the image tokenizer: rows that are *windows* into a buffer times
//! packed weights. A 3x3 window over rows of (x, channel) is three contiguous runs, so nothing is unrolled into columns.
//!
//! The law of the sum: the k's of each run are cut into blocks of [`K_BLOCK`]; a block is one chain of fused multiply-adds in
//! ascending k starting at +0; blocks are added in ascending order. An output depends on its own row and column of weights only, so
//! tiles, strips and threads never change a bit, and the scalar and the vector version agree exactly.
#![expect(
    unsafe_code,
    reason = "the tile reads its six rows through pointers, by vector instructions"
)]

use crate::kernels::{Isa, current_isa};

/// Output channels of one panel of packed weights: two registers of eight lanes.
pub(super) const PANEL: usize = 16;
/// A block of weights (16 KiB) stays in the first-level cache while all rows pass by.
const K_BLOCK: usize = 256;
/// Rows of a tile: 6 x 2 accumulators, 2 weights and 1 value fill the sixteen registers.
const TILE_ROWS: usize = 6;

/// Weights (out, k) as panels: (out / 16, k, 16), the last panel filled with zeros.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) out: usize,
    pub(super) k: usize,
    data: Vec<f32>,
}

impl Packed {
    /// Packs `weight(o, k)`.
    pub(super) fn new(out: usize, k: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let panels = out.div_ceil(PANEL);
        let mut data = vec![0.0; panels * k * PANEL];
        for (panel, block) in data.chunks_exact_mut((k * PANEL).max(1)).enumerate() {
            let first = panel * PANEL;
            for (k, lanes) in block.chunks_exact_mut(PANEL).enumerate() {
                for (lane, value) in lanes.iter_mut().take(out - first).enumerate() {
                    *value = weight(first + lane, k);
                }
            }
        }
        Self { out, k, data }
    }

    /// Outputs with the filling of the last panel: the width of a row of [`multiply`]'s result.
    pub(super) fn padded_out(&self) -> usize {
        self.out.div_ceil(PANEL) * PANEL
    }
}

/// Rows as windows: row r is, for each s, `data[starts[r] + runs[s] ..][.. run_len]`, one after the other.
pub(super) struct Windows<'a> {
    pub(super) data: &'a [f32],
    pub(super) starts: &'a [usize],
    pub(super) runs: &'a [usize],
    pub(super) run_len: usize,
}

/// `y[r][o] = sum over k of row_r[k] * w[o][k]`; y is (rows, `w.padded_out()`).
///
/// # Panics
/// When a window leaves the buffer, or the shapes do not agree.
pub(super) fn multiply(x: &Windows<'_>, w: &Packed, y: &mut [f32]) {
    let width = w.padded_out();
    let reach = x.starts.iter().max().unwrap_or(&0) + x.runs.iter().max().unwrap_or(&0) + x.run_len;
    assert!(x.starts.is_empty() || reach <= x.data.len(), "windows lie inside the buffer");
    assert_eq!(x.runs.len() * x.run_len, w.k, "a row is as long as the weights are deep");
    assert_eq!(y.len(), x.starts.len() * width, "y has the shape (rows, padded out)");
    let isa = current_isa();
    for (run, &run_start) in x.runs.iter().enumerate() {
        for first in (0..x.run_len).step_by(K_BLOCK) {
            let depth = K_BLOCK.min(x.run_len - first);
            let k = run * x.run_len + first;
            for panel in 0..width / PANEL {
                let weights = &w.data[(panel * w.k + k) * PANEL..][..depth * PANEL];
                let block = Block {
                    x: x.data,
                    offset: run_start + first,
                    weights,
                    width,
                    column: panel * PANEL,
                    add: k > 0,
                };
                block.compute(isa, x.starts, y);
            }
        }
    }
}

/// One block of k's of one panel, for all rows.
struct Block<'a> {
    x: &'a [f32],
    /// Where the block's k's begin, from the start of a row.
    offset: usize,
    /// (depth, 16)
    weights: &'a [f32],
    width: usize,
    column: usize,
    /// Whether earlier blocks lie in y already.
    add: bool,
}

impl Block<'_> {
    fn compute(&self, isa: Isa, starts: &[usize], y: &mut [f32]) {
        for (tile, starts) in starts.chunks(TILE_ROWS).enumerate() {
            let rows = &mut y[tile * TILE_ROWS * self.width..][..starts.len() * self.width];
            match isa {
                Isa::Scalar => self.scalar(starts, rows),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the machine has AVX2 and FMA; `multiply` has checked every window against the buffer.
                Isa::Avx2 | Isa::Avx512 => unsafe {
                    x86::tile_of(starts.len())(self, starts, rows)
                },
                #[cfg(not(target_arch = "x86_64"))]
                _ => self.scalar(starts, rows),
            }
        }
    }

    /// The definition.
    fn scalar(&self, starts: &[usize], rows: &mut [f32]) {
        let depth = self.weights.len() / PANEL;
        for (start, row) in starts.iter().zip(rows.chunks_exact_mut(self.width)) {
            let values = &self.x[start + self.offset..][..depth];
            let mut sums = [0.0f32; PANEL];
            for (value, weights) in values.iter().zip(self.weights.as_chunks::<PANEL>().0) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = value.mul_add(*weight, *sum);
                }
            }
            for (y, sum) in row[self.column..].iter_mut().zip(sums) {
                *y = if self.add { *y + sum } else { sum };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Block, PANEL};

    type Tile = unsafe fn(&Block<'_>, &[usize], &mut [f32]);

    pub(super) fn tile_of(rows: usize) -> Tile {
        match rows {
            1 => tile::<1>,
            2 => tile::<2>,
            3 => tile::<3>,
            4 => tile::<4>,
            5 => tile::<5>,
            _ => tile::<6>,
        }
    }

    /// # Safety
    /// The machine has AVX2 and FMA; there are R starts; the windows lie inside the buffer; `rows` holds R rows of `width`.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const R: usize>(block: &Block<'_>, starts: &[usize], rows: &mut [f32]) {
        assert!(
            starts.len() == R
                && rows.len() == R * block.width
                && block.column + PANEL <= block.width,
            "tile in bounds"
        );
        let depth = block.weights.len() / PANEL;
        let mut values = [block.x.as_ptr(); R];
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for r in 0..R {
            // SAFETY: the window lies inside the buffer.
            values[r] = unsafe { block.x.as_ptr().add(starts[r] + block.offset) };
        }
        let mut weights = block.weights.as_ptr();
        for k in 0..depth {
            // SAFETY: `weights` has `depth` rows of 16, each window has `depth` values.
            unsafe {
                let low = _mm256_loadu_ps(weights);
                let high = _mm256_loadu_ps(weights.add(8));
                weights = weights.add(PANEL);
                for r in 0..R {
                    let value = _mm256_broadcast_ss(&*values[r].add(k));
                    sums[r][0] = _mm256_fmadd_ps(value, low, sums[r][0]);
                    sums[r][1] = _mm256_fmadd_ps(value, high, sums[r][1]);
                }
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            // SAFETY: asserted above.
            unsafe {
                let y = rows.as_mut_ptr().add(r * block.width + block.column);
                let [mut low, mut high] = sum;
                if block.add {
                    low = _mm256_add_ps(_mm256_loadu_ps(y), low);
                    high = _mm256_add_ps(_mm256_loadu_ps(y.add(8)), high);
                }
                _mm256_storeu_ps(y, low);
                _mm256_storeu_ps(y.add(8), high);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::force_isa;

    #[test]
    fn every_instruction_set_and_every_number_of_rows_gives_the_same_bits() {
        let (run_len, out) = (300, 37);
        let noise = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f32 / 500_001.5 - 1.0;
        let data: Vec<f32> = (0..40 * run_len).map(noise).collect();
        let w = Packed::new(out, 2 * run_len, |o, k| noise(o * 7919 + k));
        let starts: Vec<usize> = (0..13).map(|r| r * 11).collect();
        let run = |starts: &[usize]| {
            let mut y = vec![f32::NAN; starts.len() * w.padded_out()];
            multiply(&Windows { data: &data, starts, runs: &[0, 500], run_len }, &w, &mut y);
            y
        };
        let expected = run(&starts);
        for isa in Isa::available() {
            force_isa(Some(isa)).unwrap();
            for n in 1..=13 {
                assert_eq!(
                    run(&starts[13 - n..]),
                    expected[(13 - n) * w.padded_out()..],
                    "{isa:?}, {n} rows"
                );
            }
        }
        force_isa(None).unwrap();
        // Against plain f64.
        for (r, o) in [(0, 0), (12, 36), (5, 17)] {
            let x = |k: usize| {
                f64::from(data[starts[r] + if k < run_len { k } else { 500 + k - run_len }])
            };
            let exact: f64 = (0..2 * run_len).map(|k| x(k) * f64::from(noise(o * 7919 + k))).sum();
            assert!((exact - f64::from(expected[r * w.padded_out() + o])).abs() < 1e-4);
        }
    }
}
