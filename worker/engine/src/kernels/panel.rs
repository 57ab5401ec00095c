//! The product of a few rows with a large matrix in any stored format.
//!
//! A matrix is read once for all rows of a step: a task takes a block of outputs, expands a run of their weights to f32 in a
//! small panel that stays in the first-level cache, and multiplies it with every row before it moves on. The partial sums
//! (eight lanes for each output, see `lanes`) wait in memory between runs, so the blocking never touches the order of a sum.
#![expect(
    unsafe_code,
    reason = "tiles are read and written by vector instructions"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::round_to_bf16;

pub(crate) use super::lanes::LANES;
use super::lanes::dot;
use super::matmul::split;
use super::pool::{Pool, SharedMut};
use super::{Isa, current_isa};

/// Outputs of a panel; the layout of a panel is (k / 8, GROUP, 8).
pub(crate) const GROUP: usize = 6;
/// Panels held at a time: 12 outputs of 256 weights are 12 KiB, half of a first-level cache that two threads share.
const GROUPS: usize = 2;
/// Outputs whose sums are held at a time.
pub(crate) const BLOCK: usize = GROUP * GROUPS;
/// Weights of an output in a panel; a multiple of the quantisation group.
pub(crate) const RUN: usize = 256;
/// Floats of a panel.
pub(crate) const PANEL: usize = RUN * GROUP;
/// Up to so many rows a panel costs more than it saves.
pub(crate) const NARROW: usize = 4;
/// Rows whose partial sums are held at a time; more rows expand the weights again.
const ROWS: usize = 64;

/// A matrix (out, k) in a stored format.
pub(crate) trait Matrix: Sync {
    /// Row `o` as f32 into `to`, which has k elements. The reference of the panels.
    fn row(&self, o: usize, to: &mut [f32]);

    /// Expands the weights `[k0, k0 + 8 * steps)` of the outputs `[o, o + n)`, n at most [`GROUP`], to f32 in the panel:
    /// weight k of output o + i stands at `(k / 8, i, k % 8)`. Weights beyond k are zeros; outputs beyond n may hold anything
    /// finite.
    ///
    /// # Safety
    /// The machine has AVX2 and FMA; the outputs exist, `k0` is a multiple of [`RUN`], `8 * steps` is at most RUN, and `panel`
    /// has room for `steps` groups.
    #[cfg(target_arch = "x86_64")]
    unsafe fn expand(&self, o: usize, n: usize, k0: usize, steps: usize, panel: *mut f32);

    /// The lane sums of at most [`NARROW`] rows with the outputs `[o, o + n)` over all of k, without a panel. Row r of `x`
    /// begins at `r * ldx` and is padded to whole groups of eight; the sums of (row, output) go to `r * BLOCK + i` of `sums`.
    ///
    /// # Safety
    /// The machine has AVX2 and FMA; the outputs exist; `x` and `sums` have room for all rows.
    #[cfg(target_arch = "x86_64")]
    unsafe fn narrow(
        &self,
        x: *const f32,
        ldx: usize,
        rows: usize,
        o: usize,
        n: usize,
        sums: *mut [f32; LANES],
    );
}

/// `y = x w^T + bias`: x (rows, k), w (out, k), y (rows, out), row-major.
///
/// # Panics
/// When a length does not match its shape.
#[expect(
    clippy::too_many_arguments,
    reason = "three operands and their three sizes"
)]
pub(crate) fn product<M: Matrix>(
    w: &M,
    x: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    out: usize,
    k: usize,
    pool: &Pool,
) {
    assert_eq!(x.len(), rows * k, "x has the shape (rows, k)");
    assert_eq!(y.len(), rows * out, "y has the shape (rows, out)");
    assert!(bias.is_none_or(|b| b.len() == out), "one bias by output");
    // Rows padded to whole groups of eight lanes, as the law has it.
    let padded = pad(x, rows, k);
    let x = padded.as_deref().unwrap_or(x);
    let (columns, tasks) = split(out, rows * k, BLOCK, pool.threads());
    let isa = current_isa();
    let y = SharedMut::new(y);
    pool.run(tasks, |task| {
        let first = task * columns;
        let outs = first..(first + columns).min(out);
        for r in (0..rows).step_by(ROWS) {
            let part = Part {
                w,
                x: &x[r * k.next_multiple_of(LANES)..],
                bias,
                rows: ROWS.min(rows - r),
                k,
                ldy: out,
            };
            // SAFETY: this task alone writes these columns of y, and rows [r, r + part.rows) exist.
            unsafe { part.compute(isa, outs.clone(), y.at(r * out)) };
        }
    });
}

fn pad(x: &[f32], rows: usize, k: usize) -> Option<Vec<f32>> {
    let width = k.next_multiple_of(LANES);
    if width == k {
        return None;
    }
    let mut padded = vec![0.0; rows * width];
    for (to, row) in padded.chunks_exact_mut(width).zip(x.chunks_exact(k)) {
        to[..k].copy_from_slice(row);
    }
    Some(padded)
}

/// At most [`ROWS`] rows, padded to whole groups of eight.
struct Part<'a, M> {
    w: &'a M,
    x: &'a [f32],
    bias: Option<&'a [f32]>,
    rows: usize,
    k: usize,
    ldy: usize,
}

impl<M: Matrix> Part<'_, M> {
    /// # Safety
    /// `y` is row 0 of an output with `rows` rows, `ldy` apart, whose columns `outs` nobody else touches; the machine has
    /// `isa`.
    unsafe fn compute(&self, isa: Isa, outs: std::ops::Range<usize>, y: *mut f32) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: passed on.
            Isa::Avx2 | Isa::Avx512 => unsafe { self.panels(isa, outs, y) },
            // SAFETY: passed on.
            _ => unsafe { self.scalar(outs, y) },
        }
    }

    /// The reference: one output after the other.
    ///
    /// # Safety
    /// As [`Self::compute`].
    unsafe fn scalar(&self, outs: std::ops::Range<usize>, y: *mut f32) {
        let width = self.k.next_multiple_of(LANES);
        let mut weights = vec![0.0; width];
        for o in outs {
            self.w.row(o, &mut weights[..self.k]);
            for r in 0..self.rows {
                let sum = dot(&self.x[r * width..][..width], &weights);
                let value = self.bias.map_or(sum, |b| sum + b[o]);
                // SAFETY: the row exists and column o is ours.
                unsafe { *y.add(r * self.ldy + o) = value };
            }
        }
    }

    /// # Safety
    /// As [`Self::compute`]; `isa` is not scalar.
    #[cfg(target_arch = "x86_64")]
    unsafe fn panels(&self, isa: Isa, outs: std::ops::Range<usize>, y: *mut f32) {
        let width = self.k.next_multiple_of(LANES);
        let mut scratch = Scratch([0.0; PANEL * GROUPS]);
        let panels = scratch.0.as_mut_ptr();
        let mut sums = vec![[0.0_f32; LANES]; self.rows * BLOCK];
        for o in outs.clone().step_by(BLOCK) {
            let n = BLOCK.min(outs.end - o);
            // SAFETY: the outputs exist, `sums` has BLOCK entries for each row, and x holds every row to its padded end.
            unsafe {
                if self.rows <= NARROW {
                    self.w
                        .narrow(self.x.as_ptr(), width, self.rows, o, n, sums.as_mut_ptr());
                } else {
                    self.block(isa, o, n, panels, sums.as_mut_ptr());
                }
            }
            for r in 0..self.rows {
                let bias = self.bias.map(|b| &b[o..o + n]);
                // SAFETY: columns [o, o + n) of the row are ours.
                unsafe {
                    let to = std::slice::from_raw_parts_mut(y.add(r * self.ldy + o), n);
                    avx2::finish(&sums[r * BLOCK..][..BLOCK], bias, to);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl<M: Matrix> Part<'_, M> {
    /// The lane sums of all rows with the outputs `[o, o + n)`, run by run.
    ///
    /// # Safety
    /// `isa` is not scalar and the machine has it; the outputs exist, at most BLOCK; `panels` is a [`Scratch`], `sums` has
    /// BLOCK entries for each row.
    unsafe fn block(
        &self,
        isa: Isa,
        o: usize,
        n: usize,
        panels: *mut f32,
        sums: *mut [f32; LANES],
    ) {
        let width = self.k.next_multiple_of(LANES);
        let groups = n.div_ceil(GROUP);
        for k0 in (0..width).step_by(RUN) {
            let steps = RUN.min(width - k0) / LANES;
            for g in 0..groups {
                // SAFETY: the outputs exist, and each group has its own part of the scratch.
                unsafe {
                    let count = GROUP.min(n - g * GROUP);
                    self.w
                        .expand(o + g * GROUP, count, k0, steps, panels.add(g * PANEL));
                }
            }
            let run = Run {
                x: &self.x[k0..],
                ldx: width,
                rows: self.rows,
                steps,
                first: k0 == 0,
            };
            // SAFETY: the panels hold `groups` groups of `steps`; `sums` as promised.
            unsafe {
                match isa {
                    Isa::Avx512 => avx512::multiply(&run, panels, groups, sums),
                    _ => avx2::multiply(&run, panels, groups, sums),
                }
            }
        }
    }
}

/// One run of k: the rows that meet the panels.
#[cfg(target_arch = "x86_64")]
struct Run<'a> {
    /// Row r begins at `r * ldx` and has `8 * steps` elements of this run.
    x: &'a [f32],
    ldx: usize,
    rows: usize,
    steps: usize,
    /// Sums start at zero rather than go on.
    first: bool,
}

/// Panels, aligned for the widest register.
#[cfg(target_arch = "x86_64")]
#[repr(align(64))]
struct Scratch([f32; PANEL * GROUPS]);

/// Plain f32 weights.
pub(crate) struct F32Matrix<'a> {
    /// (out, k), row-major.
    pub(crate) w: &'a [f32],
    /// Inputs.
    pub(crate) k: usize,
}

impl Matrix for F32Matrix<'_> {
    fn row(&self, o: usize, to: &mut [f32]) {
        to.copy_from_slice(&self.w[o * self.k..][..self.k]);
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn expand(&self, o: usize, n: usize, k0: usize, steps: usize, panel: *mut f32) {
        for i in 0..n {
            let row = &self.w[(o + i) * self.k + k0..(o + i + 1) * self.k];
            // SAFETY: as promised by the caller; the slice ends with the row, whose tail is padded.
            unsafe { avx2::copy_row(row, steps, panel.add(i * LANES)) };
        }
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn narrow(
        &self,
        x: *const f32,
        ldx: usize,
        rows: usize,
        o: usize,
        n: usize,
        sums: *mut [f32; LANES],
    ) {
        let w = &self.w[o * self.k..(o + n) * self.k];
        // SAFETY: the caller's promises; the slice holds the n outputs.
        unsafe { avx2::narrow(w, self.k, x, ldx, rows, sums) };
    }
}
