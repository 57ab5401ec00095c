//! `y = x w^T + bias` for row-major operands that are both contiguous along the summed dimension.
//!
//! Work is split over outputs alone, each output is one sum by the law of eight lanes (see `lanes`), and the bias is added
//! after the tree: so an output depends on its row of `x` and its row of `w`, on nothing else.
#![expect(
    unsafe_code,
    reason = "tiles of the output are written by several tasks, by vector instructions"
)]

use super::lanes::dot;
use super::panel::{F32Matrix, product};
use super::pool::{Pool, SharedMut, split};
use super::{Isa, current_isa};

/// Up to so many rows weights are read where they lie; for more, copying them to a panel pays.
const DIRECT_ROWS: usize = 4;

/// `y[r][o] = sum over k of x[r][k] * w[o][k] + bias[o]`, for x (rows, k), w (out, k), y (rows, out), all row-major.
///
/// # Panics
/// When a length does not match its shape.
#[expect(clippy::too_many_arguments, reason = "three operands and their three sizes")]
pub fn matmul_nt(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    out: usize,
    k: usize,
    pool: &Pool,
) {
    assert_eq!(x.len(), rows * k, "x has the shape (rows, k)");
    assert_eq!(w.len(), out * k, "w has the shape (out, k)");
    assert_eq!(y.len(), rows * out, "y has the shape (rows, out)");
    assert!(bias.is_none_or(|b| b.len() == out), "one bias by output");
    if rows > DIRECT_ROWS {
        return product(&F32Matrix { w, k }, x, bias, y, rows, out, k, pool);
    }
    let (columns, tasks) = split(out, rows * k, 8, pool.threads());
    let isa = current_isa();
    let y = SharedMut::new(y);
    pool.run(tasks, |task| {
        let first = task * columns;
        let n = columns.min(out - first);
        let part = Part {
            x,
            w: &w[first * k..(first + n) * k],
            bias: bias.map(|b| &b[first..first + n]),
            rows,
            n,
            k,
            ldy: out,
        };
        // SAFETY: this task alone writes columns [first, first + n) of y.
        unsafe { part.compute(isa, y.at(first)) };
    });
}

/// [`matmul_nt`] on the caller's thread, for use inside tasks (attention scores: x the queries, w the cached keys).
///
/// `w` may hold more than `out` rows and `y` may be wider than `out`: rows of `y` start `ldy` apart.
///
/// # Panics
/// When a slice is too short for its shape.
#[expect(clippy::too_many_arguments, reason = "three operands and their sizes")]
pub fn matmul_nt_serial(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    ldy: usize,
    rows: usize,
    out: usize,
    k: usize,
) {
    if rows == 0 || out == 0 {
        return;
    }
    assert!(x.len() >= rows * k && w.len() >= out * k, "operands are as long as their shapes say");
    assert!(ldy >= out && y.len() >= (rows - 1) * ldy + out, "y holds all rows");
    assert!(bias.is_none_or(|b| b.len() == out), "one bias by output");
    let part = Part { x, w, bias, rows, n: out, k, ldy };
    // SAFETY: y is borrowed mutably and holds every row of the part.
    unsafe { part.compute(current_isa(), y.as_mut_ptr()) };
}

/// A run of output columns.
struct Part<'a> {
    x: &'a [f32],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    rows: usize,
    n: usize,
    k: usize,
    ldy: usize,
}

impl Part<'_> {
    /// Writes all rows of this part; `y` is the address of its element (0, 0).
    ///
    /// # Safety
    /// `y` must be valid for `rows` rows of `n` floats, `ldy` apart, that nobody else touches; the machine has `isa`.
    unsafe fn compute(&self, isa: Isa, y: *mut f32) {
        match isa {
            // SAFETY: passed on.
            Isa::Scalar => unsafe { self.scalar(y) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: passed on; AVX-512 machines have AVX2 too.
            Isa::Avx2 | Isa::Avx512 => unsafe { x86::part(self, y) },
            #[cfg(not(target_arch = "x86_64"))]
            // SAFETY: passed on.
            _ => unsafe { self.scalar(y) },
        }
    }

    /// The reference: one output after the other.
    ///
    /// # Safety
    /// As [`Self::compute`].
    unsafe fn scalar(&self, y: *mut f32) {
        for r in 0..self.rows {
            let row = &self.x[r * self.k..][..self.k];
            for o in 0..self.n {
                let sum = dot(row, &self.w[o * self.k..][..self.k]);
                let value = self.bias.map_or(sum, |b| sum + b[o]);
                // SAFETY: r < rows and o < n.
                unsafe { *y.add(r * self.ldy + o) = value };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Part;
    use std::arch::x86_64::*;

    /// Rows and outputs of a tile: 12 accumulators, and 7 loads feed 12 multiply-adds.
    const ROWS: usize = 4;
    const OUTS: usize = 3;

    /// # Safety
    /// As `Part::compute`; the machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn part(p: &Part<'_>, y: *mut f32) {
        let mut o = 0;
        while o < p.n {
            let outs = OUTS.min(p.n - o);
            let mut r = 0;
            while r < p.rows {
                let rows = ROWS.min(p.rows - r);
                // SAFETY: the tile lies within the part.
                unsafe { tile_of(rows, outs)(p, y, r, o) };
                r += rows;
            }
            o += outs;
        }
    }

    type Tile = unsafe fn(&Part<'_>, *mut f32, usize, usize);

    fn tile_of(rows: usize, outs: usize) -> Tile {
        match (rows, outs) {
            (1, 1) => tile::<1, 1>,
            (1, 2) => tile::<1, 2>,
            (1, _) => tile::<1, 3>,
            (2, 1) => tile::<2, 1>,
            (2, 2) => tile::<2, 2>,
            (2, _) => tile::<2, 3>,
            (3, 1) => tile::<3, 1>,
            (3, 2) => tile::<3, 2>,
            (3, _) => tile::<3, 3>,
            (_, 1) => tile::<4, 1>,
            (_, 2) => tile::<4, 2>,
            (_, _) => tile::<4, 3>,
        }
    }

    /// # Safety
    /// Rows [r, r + R) and outputs [o, o + O) exist; the machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const R: usize, const O: usize>(p: &Part<'_>, y: *mut f32, r: usize, o: usize) {
        let k = p.k;
        let x = p.x[r * k..(r + R) * k].as_ptr();
        let w = p.w[o * k..(o + O) * k].as_ptr();
        let mut acc = [[_mm256_setzero_ps(); O]; R];
        let whole = k / 8 * 8;
        let mut i = 0;
        while i < whole {
            // SAFETY: i + 8 <= k, and both slices hold R and O rows of k.
            unsafe {
                let mut ws = [_mm256_setzero_ps(); O];
                for (b, w_b) in ws.iter_mut().enumerate() {
                    *w_b = _mm256_loadu_ps(w.add(b * k + i));
                }
                for (a, row) in acc.iter_mut().enumerate() {
                    let xs = _mm256_loadu_ps(x.add(a * k + i));
                    for (sum, w) in row.iter_mut().zip(ws) {
                        *sum = _mm256_fmadd_ps(xs, w, *sum);
                    }
                }
            }
            i += 8;
        }
        if whole < k {
            let mask = tail_mask(k - whole);
            // SAFETY: the mask covers the elements below k only; masked-out ones are not read and count as zeros.
            unsafe {
                let ws: [__m256; O] =
                    std::array::from_fn(|b| _mm256_maskload_ps(w.add(b * k + whole), mask));
                for (a, row) in acc.iter_mut().enumerate() {
                    let xs = _mm256_maskload_ps(x.add(a * k + whole), mask);
                    for (sum, w) in row.iter_mut().zip(ws) {
                        *sum = _mm256_fmadd_ps(xs, w, *sum);
                    }
                }
            }
        }
        for (a, row) in acc.iter().enumerate() {
            for (b, sum) in row.iter().enumerate() {
                let sum = tree(*sum);
                let value = p.bias.map_or(sum, |bias| sum + bias[o + b]);
                // SAFETY: the element (r + a, o + b) is inside the part.
                unsafe { *y.add((r + a) * p.ldy + o + b) = value };
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn tail_mask(elements: usize) -> __m256i {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(elements as i32), lane)
    }

    /// `lanes::tree` on a register: halves, then pairs two apart, then neighbours.
    #[target_feature(enable = "avx2,fma")]
    fn tree(v: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<0b01>(two, two)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::force_isa;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn agrees_with_f64_and_adds_the_bias() {
        let (rows, out, k) = (5, 7, 131);
        let (x, w, b) = (wave(rows * k, 0.7), wave(out * k, 0.3), wave(out, 0.2));
        let mut y = vec![0.0; rows * out];
        matmul_nt(&x, &w, Some(&b), &mut y, rows, out, k, &Pool::new(1));
        for r in 0..rows {
            for o in 0..out {
                let exact: f64 =
                    (0..k).map(|i| f64::from(x[r * k + i]) * f64::from(w[o * k + i])).sum();
                assert!((f64::from(y[r * out + o]) - exact - f64::from(b[o])).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn bits_depend_on_nothing_but_the_operands() {
        for (rows, out, k) in [
            (1, 1, 1),
            (2, 3, 8),
            (3, 5, 7),
            (4, 16, 128),
            (5, 33, 130),
            (9, 50, 513),
            (16, 200, 64),
        ] {
            let (x, w) = (wave(rows * k, 0.7), wave(out * k, 0.3));
            let mut reference = vec![0.0; rows * out];
            for r in 0..rows {
                for o in 0..out {
                    reference[r * out + o] = dot(&x[r * k..][..k], &w[o * k..][..k]);
                }
            }
            for isa in Isa::available() {
                force_isa(Some(isa)).unwrap();
                for threads in [1, 2, 5] {
                    let pool = Pool::new(threads);
                    let mut y = vec![0.0; rows * out];
                    matmul_nt(&x, &w, None, &mut y, rows, out, k, &pool);
                    assert_eq!(bits(&y), bits(&reference), "{isa:?} {threads} {rows} {out} {k}");
                    for r in 0..rows {
                        let mut alone = vec![0.0; out];
                        matmul_nt(&x[r * k..][..k], &w, None, &mut alone, 1, out, k, &pool);
                        assert_eq!(bits(&alone), bits(&reference[r * out..][..out]));
                    }
                }
                let mut wide = vec![9.0; rows * (out + 3)];
                matmul_nt_serial(&x, &w, None, &mut wide, out + 3, rows, out, k);
                for r in 0..rows {
                    assert_eq!(
                        bits(&wide[r * (out + 3)..][..out]),
                        bits(&reference[r * out..][..out])
                    );
                    assert_eq!(wide[r * (out + 3) + out], 9.0);
                }
            }
            force_isa(None).unwrap();
        }
    }
}
