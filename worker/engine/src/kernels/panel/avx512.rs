//! Tiles with AVX-512: each register holds the eight lanes of two outputs, so that every sum keeps its order.
#![expect(unsafe_code, reason = "vector instructions on raw addresses")]

use std::arch::x86_64::*;

use super::{Eight, GROUP, Run, TILE_ROWS};
use crate::kernels::lanes::LANES;

/// Registers of a group of outputs.
const PAIRS: usize = GROUP / 2;

/// Multiplies all rows of the run with the panel and adds to `sums` (row, GROUP, 8).
///
/// # Safety
/// The machine has AVX-512 F and DQ; `panel` holds `run.steps` steps; `sums` has GROUP entries for each
/// row.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn multiply(run: &Run<'_>, panel: *const f32, sums: *mut Eight) {
    assert!(run.x.len() == run.rows * run.steps, "a run holds its rows");
    for r in (0..run.rows).step_by(TILE_ROWS) {
        // SAFETY: the rows and their sums exist.
        unsafe {
            let x = run.x.as_ptr().add(r * run.steps).cast();
            let acc = sums.add(r * GROUP);
            match run.rows - r {
                1 => tile::<1>(run, x, panel, acc),
                2 => tile::<2>(run, x, panel, acc),
                3 => tile::<3>(run, x, panel, acc),
                _ => tile::<4>(run, x, panel, acc),
            }
        }
    }
}

/// R rows by a group of outputs over one run.
///
/// # Safety
/// As `multiply`, for the block of R rows at `x` and the outputs from `w` and `acc` on.
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn tile<const R: usize>(run: &Run<'_>, x: *const f32, w: *const f32, acc: *mut Eight) {
    let mut sums = [[_mm512_setzero_ps(); PAIRS]; R];
    if !run.first {
        for (a, row) in sums.iter_mut().enumerate() {
            for (b, sum) in row.iter_mut().enumerate() {
                // SAFETY: row a has GROUP sums, of which these two are within.
                *sum = unsafe { _mm512_loadu_ps(acc.add(a * GROUP + b * 2).cast()) };
            }
        }
    }
    for step in 0..run.steps {
        // SAFETY: step is below steps, for which x and w have room.
        unsafe {
            let w = w.add(step * GROUP * LANES);
            let mut ws = [_mm512_setzero_ps(); PAIRS];
            for (b, w_b) in ws.iter_mut().enumerate() {
                *w_b = _mm512_loadu_ps(w.add(b * 2 * LANES));
            }
            for (a, row) in sums.iter_mut().enumerate() {
                let xs = _mm512_broadcast_f32x8(_mm256_loadu_ps(x.add((step * R + a) * LANES)));
                for (sum, w) in row.iter_mut().zip(ws) {
                    *sum = _mm512_fmadd_ps(xs, w, *sum);
                }
            }
        }
    }
    for (a, row) in sums.iter().enumerate() {
        for (b, sum) in row.iter().enumerate() {
            // SAFETY: as the loads above.
            unsafe { _mm512_storeu_ps(acc.add(a * GROUP + b * 2).cast(), *sum) };
        }
    }
}
