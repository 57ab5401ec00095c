//! Panels and tiles with AVX2 and FMA: twelve accumulators of eight lanes.
#![expect(unsafe_code, reason = "vector instructions on raw addresses")]

use std::arch::x86_64::*;

use super::{Eight, GROUP, Run, TILE_ROWS};
use crate::kernels::lanes::LANES;

/// Multiplies all rows of the run with the panel and adds to `sums` (row, GROUP, 8).
///
/// # Safety
/// The machine has AVX2 and FMA; `panel` holds `run.steps` steps; `sums` has GROUP entries for each row.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply(run: &Run<'_>, panel: *const f32, sums: *mut Eight) {
    assert!(run.x.len() == run.rows * run.steps, "a run holds its rows");
    for r in (0..run.rows).step_by(TILE_ROWS) {
        // SAFETY: the rows and their sums exist.
        unsafe {
            let x = run.x.as_ptr().add(r * run.steps).cast();
            let acc = sums.add(r * GROUP);
            match run.rows - r {
                1 => tile::<1, 6>(run, x, panel, acc),
                2 => tile::<2, 6>(run, x, panel, acc),
                3 => {
                    tile::<3, 3>(run, x, panel, acc);
                    tile::<3, 3>(run, x, panel.add(3 * LANES), acc.add(3));
                }
                _ => {
                    tile::<4, 3>(run, x, panel, acc);
                    tile::<4, 3>(run, x, panel.add(3 * LANES), acc.add(3));
                }
            }
        }
    }
}

/// R rows by O outputs over one run.
///
/// # Safety
/// As `multiply`, for the block of R rows at `x` and the outputs from `w` and `acc` on.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize, const O: usize>(
    run: &Run<'_>,
    x: *const f32,
    w: *const f32,
    acc: *mut Eight,
) {
    let mut sums = [[_mm256_setzero_ps(); O]; R];
    if !run.first {
        for (a, row) in sums.iter_mut().enumerate() {
            for (b, sum) in row.iter_mut().enumerate() {
                // SAFETY: row a has GROUP sums, of which these are within.
                *sum = unsafe { _mm256_loadu_ps(acc.add(a * GROUP + b).cast()) };
            }
        }
    }
    for step in 0..run.steps {
        // SAFETY: step is below steps, for which x and w have room.
        unsafe {
            let w = w.add(step * GROUP * LANES);
            let x = x.add(step * R * LANES);
            if R < O {
                // The smaller side stays in registers: twelve sums leave room for four more.
                let mut xs = [_mm256_setzero_ps(); R];
                for (a, x_a) in xs.iter_mut().enumerate() {
                    *x_a = _mm256_loadu_ps(x.add(a * LANES));
                }
                for b in 0..O {
                    let w_b = _mm256_loadu_ps(w.add(b * LANES));
                    for (row, x_a) in sums.iter_mut().zip(xs) {
                        row[b] = _mm256_fmadd_ps(x_a, w_b, row[b]);
                    }
                }
            } else {
                let mut ws = [_mm256_setzero_ps(); O];
                for (b, w_b) in ws.iter_mut().enumerate() {
                    *w_b = _mm256_loadu_ps(w.add(b * LANES));
                }
                for (a, row) in sums.iter_mut().enumerate() {
                    let x_a = _mm256_loadu_ps(x.add(a * LANES));
                    for (sum, w_b) in row.iter_mut().zip(ws) {
                        *sum = _mm256_fmadd_ps(x_a, w_b, *sum);
                    }
                }
            }
        }
    }
    for (a, row) in sums.iter().enumerate() {
        for (b, sum) in row.iter().enumerate() {
            // SAFETY: as the loads above.
            unsafe { _mm256_storeu_ps(acc.add(a * GROUP + b).cast(), *sum) };
        }
    }
}

/// [`Matrix::narrow`](super::Matrix::narrow) for f32 weights `w` (outputs, k), read where they lie.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn narrow(
    w: &[f32],
    k: usize,
    x: *const f32,
    ldx: usize,
    rows: usize,
    sums: *mut Eight,
) {
    let n = w.len() / k;
    let mut o = 0;
    while o < n {
        let outs = (n - o).min(3);
        let w = &w[o * k..(o + outs) * k];
        // SAFETY: passed on; the slice holds exactly the outputs of the tile.
        unsafe {
            let sums = sums.add(o);
            match (rows, outs) {
                (1, 3) => direct::<1, 3>(w, k, x, ldx, sums),
                (2, 3) => direct::<2, 3>(w, k, x, ldx, sums),
                (3, 3) => direct::<3, 3>(w, k, x, ldx, sums),
                (4, 3) => direct::<4, 3>(w, k, x, ldx, sums),
                _ => {
                    for b in 0..outs {
                        for r in 0..rows {
                            direct::<1, 1>(
                                &w[b * k..][..k],
                                k,
                                x.add(r * ldx),
                                ldx,
                                sums.add(r * GROUP + b),
                            );
                        }
                    }
                }
            }
        }
        o += outs;
    }
}

/// R rows by O outputs of plain weights over all of k.
///
/// # Safety
/// As `narrow`; `w` holds O outputs.
#[target_feature(enable = "avx2,fma")]
unsafe fn direct<const R: usize, const O: usize>(
    w: &[f32],
    k: usize,
    x: *const f32,
    ldx: usize,
    to: *mut Eight,
) {
    let mut sums = [[_mm256_setzero_ps(); O]; R];
    let whole = k / LANES * LANES;
    let mask = _mm256_cmpgt_epi32(
        _mm256_set1_epi32((k - whole) as i32),
        _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
    );
    let mut i = 0;
    while i < k {
        let mut ws = [_mm256_setzero_ps(); O];
        for (b, w_b) in ws.iter_mut().enumerate() {
            // SAFETY: the last, partial group is read under its mask, the others lie within the row.
            *w_b = unsafe {
                let at = w.as_ptr().add(b * k + i);
                if i < whole { _mm256_loadu_ps(at) } else { _mm256_maskload_ps(at, mask) }
            };
        }
        for (a, row) in sums.iter_mut().enumerate() {
            // SAFETY: rows are padded to whole groups.
            let x_a = unsafe { _mm256_loadu_ps(x.add(a * ldx + i)) };
            for (sum, w_b) in row.iter_mut().zip(ws) {
                *sum = _mm256_fmadd_ps(x_a, w_b, *sum);
            }
        }
        i += LANES;
    }
    for (a, row) in sums.iter().enumerate() {
        for (b, sum) in row.iter().enumerate() {
            // SAFETY: the sums of the tile are within those of the block.
            unsafe { _mm256_storeu_ps(to.add(a * GROUP + b).cast(), *sum) };
        }
    }
}

/// Adds the lanes of each output by the tree, then the bias, and writes `to`.
///
/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn finish(sums: &[Eight], bias: Option<&[f32]>, to: &mut [f32]) {
    let sums: &[Eight; GROUP] = sums.try_into().expect("sums of a whole group");
    // SAFETY: each entry is eight floats.
    let v = sums.each_ref().map(|lanes| unsafe { _mm256_load_ps(lanes.0.as_ptr()) });
    let zero = _mm256_setzero_ps();
    let (mut low, mut high) = (tree4([v[0], v[1], v[2], v[3]]), tree4([v[4], v[5], zero, zero]));
    if to.len() == GROUP {
        // SAFETY: four and two floats of the six of each slice.
        unsafe {
            if let Some(bias) = bias {
                assert!(bias.len() == GROUP, "one bias by output");
                low = _mm_add_ps(low, _mm_loadu_ps(bias.as_ptr()));
                high = _mm_add_ps(high, _mm_castpd_ps(_mm_load_sd(bias.as_ptr().add(4).cast())));
            }
            _mm_storeu_ps(to.as_mut_ptr(), low);
            _mm_store_sd(to.as_mut_ptr().add(4).cast(), _mm_castps_pd(high));
        }
        return;
    }
    let mut values = [0.0_f32; 8];
    // SAFETY: two times four floats.
    unsafe {
        _mm_storeu_ps(values.as_mut_ptr(), low);
        _mm_storeu_ps(values.as_mut_ptr().add(4), high);
    }
    for (i, (to, value)) in to.iter_mut().zip(values).enumerate() {
        *to = bias.map_or(value, |bias| value + bias[i]);
    }
}

/// `lanes::tree` of four registers: halves, then pairs two apart, then neighbours.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tree4(v: [__m256; 4]) -> __m128 {
    let [a, b, c, d] = [halves(v[0]), halves(v[1]), halves(v[2]), halves(v[3])];
    let (ab_low, ab_high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    let (cd_low, cd_high) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    let even = _mm_add_ps(_mm_movelh_ps(ab_low, cd_low), _mm_movelh_ps(ab_high, cd_high));
    let odd = _mm_add_ps(_mm_movehl_ps(cd_low, ab_low), _mm_movehl_ps(cd_high, ab_high));
    _mm_add_ps(even, odd)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn halves(v: __m256) -> __m128 {
    _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v))
}

/// Copies `8 * steps` floats of a row (zeros beyond its end) to every GROUP-th group of eight.
///
/// # Safety
/// The machine has AVX2; `to` has room for `steps` groups.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn copy_row(row: &[f32], steps: usize, to: *mut f32) {
    let whole = steps.min(row.len() / LANES);
    for step in 0..whole {
        // SAFETY: the step is within the row and the panel.
        unsafe {
            _mm256_storeu_ps(
                to.add(step * GROUP * LANES),
                _mm256_loadu_ps(row.as_ptr().add(step * LANES)),
            )
        };
    }
    if whole < steps {
        let mut last = [0.0; LANES];
        let tail = &row[whole * LANES..];
        last[..tail.len()].copy_from_slice(tail);
        // SAFETY: the last step is within the panel.
        unsafe { _mm256_storeu_ps(to.add(whole * GROUP * LANES), _mm256_loadu_ps(last.as_ptr())) };
    }
}

/// Rounds to bf16, ties to even: the result is in the upper halves; the lower ones hold the remainder. Finite values only.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn round_to_bf16(v: __m256) -> __m256i {
    let bits = _mm256_castps_si256(v);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)))
}
