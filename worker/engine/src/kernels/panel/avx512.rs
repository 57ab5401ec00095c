//! Tiles with AVX-512: each register holds the eight lanes of two outputs, so that every sum keeps its order.
#![expect(unsafe_code, reason = "vector instructions on raw addresses")]

use std::arch::x86_64::*;

use super::{BLOCK, GROUP, GROUPS, PANEL, Run};
use crate::kernels::lanes::LANES;

/// Registers of a group of outputs.
const PAIRS: usize = GROUP / 2;

/// Multiplies all rows of the run with the panels and adds to `sums` (row, BLOCK, 8).
///
/// # Safety
/// The machine has AVX-512 F and DQ; `panels` holds `groups` panels of `run.steps` steps; `sums` has BLOCK entries for each
/// row.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn multiply(
    run: &Run<'_>,
    panels: *const f32,
    groups: usize,
    sums: *mut [f32; LANES],
) {
    assert!(
        groups <= GROUPS && run.x.len() >= (run.rows - 1) * run.ldx + run.steps * LANES,
        "run within its rows"
    );
    let mut r = 0;
    while r < run.rows {
        let rows = (run.rows - r).min(8);
        for g in 0..groups {
            // SAFETY: the rows and their sums exist, and the panel holds the group.
            unsafe {
                let x = run.x.as_ptr().add(r * run.ldx);
                let w = panels.add(g * PANEL);
                let acc = sums.add(r * BLOCK + g * GROUP);
                match rows {
                    1 => tile::<1>(run, x, w, acc),
                    2 => tile::<2>(run, x, w, acc),
                    3 => tile::<3>(run, x, w, acc),
                    4 => tile::<4>(run, x, w, acc),
                    5 => tile::<5>(run, x, w, acc),
                    6 => tile::<6>(run, x, w, acc),
                    7 => tile::<7>(run, x, w, acc),
                    _ => tile::<8>(run, x, w, acc),
                }
            }
        }
        r += rows;
    }
}

/// R rows by a group of outputs over one run.
///
/// # Safety
/// As `multiply`, for the rows from `x` and the outputs from `w` and `acc` on.
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn tile<const R: usize>(
    run: &Run<'_>,
    x: *const f32,
    w: *const f32,
    acc: *mut [f32; LANES],
) {
    let mut sums = [[_mm512_setzero_ps(); PAIRS]; R];
    if !run.first {
        for (a, row) in sums.iter_mut().enumerate() {
            for (b, sum) in row.iter_mut().enumerate() {
                // SAFETY: row a has BLOCK sums, of which these two are within.
                *sum = unsafe { _mm512_loadu_ps(acc.add(a * BLOCK + b * 2).cast()) };
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
                let xs = _mm512_broadcast_f32x8(_mm256_loadu_ps(x.add(a * run.ldx + step * LANES)));
                for (sum, w) in row.iter_mut().zip(ws) {
                    *sum = _mm512_fmadd_ps(xs, w, *sum);
                }
            }
        }
    }
    for (a, row) in sums.iter().enumerate() {
        for (b, sum) in row.iter().enumerate() {
            // SAFETY: as the loads above.
            unsafe { _mm512_storeu_ps(acc.add(a * BLOCK + b * 2).cast(), *sum) };
        }
    }
}
