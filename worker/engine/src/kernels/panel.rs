//! The product of a few rows with a large matrix in any stored format.
//!
//! A matrix is read once for all rows of a step: a task takes a block of outputs, expands a run of their weights to f32 in a
//! small panel that stays in the first-level cache, and multiplies it with every row before it moves on. The rows are laid out
//! beforehand in the order in which tiles read them. The partial sums (eight lanes for each output, see `lanes`) wait in memory
//! between runs, so the blocking never touches the order of a sum.
#![expect(unsafe_code, reason = "tiles are read and written by vector instructions")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::round_to_bf16;

use std::ops::Range;

pub(crate) use super::lanes::LANES;
use super::lanes::dot;
use super::pool::{Pool, SharedMut, split};
use super::{Isa, current_isa};

/// Outputs of a panel; the layout of a panel is (k / 8, GROUP, 8).
pub(crate) const GROUP: usize = 6;
/// Weights of an output in a panel; a multiple of the quantisation group. A panel is 12 KiB, well below a first-level cache.
pub(crate) const RUN: usize = 512;
/// Floats of a panel.
const PANEL: usize = RUN * GROUP;
/// Up to so many rows a panel costs more than it saves.
pub(crate) const NARROW: usize = 4;
/// Rows whose partial sums are held at a time; more rows expand the weights again, while they lie in a cache.
const ROWS: usize = 64;
/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 4;

/// A matrix (out, k) in a stored format.
pub(crate) trait Matrix: Sync {
    /// Row `o` as f32 into `to`, which has k elements. The reference of the panels.
    fn row(&self, o: usize, to: &mut [f32]);

    /// Expands the weights `[k0, k0 + 8 * steps)` of the outputs `[o, o + n)`, n at most [`GROUP`], to f32 in the panel:
    /// weight k of output o + i stands at `(k / 8, i, k % 8)`. Weights beyond k are zeros; outputs beyond n may hold anything
    /// finite.
    ///
    /// # Safety
    /// The machine has AVX2 and FMA, and `isa`; the outputs exist, `k0` is a multiple of [`RUN`], `8 * steps` is at most RUN, and
    /// `panel` has room for `steps` groups.
    #[cfg(target_arch = "x86_64")]
    unsafe fn expand(&self, isa: Isa, o: usize, n: usize, k0: usize, steps: usize, panel: *mut f32);

    /// The bytes of the weights `[k0, k0 + 8 * steps)` of output `o`, for reading them ahead of their use.
    fn bytes(&self, o: usize, k0: usize, steps: usize) -> &[u8];

    /// The lane sums of at most [`NARROW`] rows with the outputs `[o, o + n)` over all of k, without a panel. Row r of `x`
    /// begins at `r * ldx` and is padded to whole groups of eight; the sums of (row, output) go to `r * GROUP + i` of `sums`.
    ///
    /// # Safety
    /// The machine has AVX2 and FMA, and `isa`; the outputs exist; `x` and `sums` have room for all rows.
    #[cfg(target_arch = "x86_64")]
    #[expect(clippy::too_many_arguments, reason = "rows, outputs and their sums")]
    unsafe fn narrow(
        &self,
        isa: Isa,
        x: *const f32,
        ldx: usize,
        rows: usize,
        o: usize,
        n: usize,
        sums: *mut Eight,
    );
}

/// `y = x w^T + bias`: x (rows, k), w (out, k), y (rows, out), row-major.
///
/// # Panics
/// When a length does not match its shape.
#[expect(clippy::too_many_arguments, reason = "three operands and their three sizes")]
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
    let isa = current_isa();
    let wide = rows > NARROW && isa != Isa::Scalar;
    let rows_of_x = if wide { Rows::packed(x, rows, k, pool) } else { Rows::padded(x, rows, k) };
    let part = Part { w, x: &rows_of_x.0, wide, bias, rows, out, k };
    let (columns, tasks) = split(out, rows * k, GROUP, pool.threads());
    let y = SharedMut::new(y);
    pool.run(tasks, |task| {
        let first = task * columns;
        // SAFETY: this task alone writes these columns of y.
        unsafe { part.compute(isa, first..(first + columns).min(out), y.at(0)) };
    });
}

/// Eight lanes at an address that no load of them crosses a cache line from.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Eight(pub(crate) [f32; LANES]);

/// All of them in a row.
fn floats(eights: &[Eight]) -> &[f32] {
    // SAFETY: eight floats each, without padding between them.
    unsafe { std::slice::from_raw_parts(eights.as_ptr().cast(), eights.len() * LANES) }
}

/// Rows as the kernels read them.
struct Rows(Vec<Eight>);

impl Rows {
    /// Row after row, each padded with zeros to whole groups of eight lanes, as the law has it.
    fn padded(x: &[f32], rows: usize, k: usize) -> Self {
        let width = k.div_ceil(LANES);
        let mut to = vec![Eight([0.0; LANES]); rows * width];
        for (to, row) in to.chunks_exact_mut(width).zip(x.chunks_exact(k)) {
            for (to, from) in to.iter_mut().zip(row.chunks(LANES)) {
                to.0[..from.len()].copy_from_slice(from);
            }
        }
        Self(to)
    }

    /// (run, block of up to four rows, step, row of the block, 8): a tile reads it from begin to end.
    fn packed(x: &[f32], rows: usize, k: usize, pool: &Pool) -> Self {
        let width = k.div_ceil(LANES);
        let mut to = vec![Eight([0.0; LANES]); rows * width];
        pool.chunks_mut(&mut to, rows * RUN / LANES, |run, to| {
            let first = run * RUN / LANES;
            let steps = first..(first + RUN / LANES).min(width);
            let mut to = to.iter_mut();
            for row in (0..rows).step_by(TILE_ROWS) {
                for step in steps.clone() {
                    let block = row..(row + TILE_ROWS).min(rows);
                    for (r, to) in block.zip(&mut to) {
                        let from = &x[r * k + step * LANES..(r + 1) * k];
                        let n = from.len().min(LANES);
                        to.0[..n].copy_from_slice(&from[..n]);
                    }
                }
            }
        });
        Self(to)
    }
}

/// One product.
struct Part<'a, M> {
    w: &'a M,
    /// As [`Rows`] has them: packed when `wide`, else padded.
    x: &'a [Eight],
    wide: bool,
    bias: Option<&'a [f32]>,
    rows: usize,
    /// Outputs; rows of y are as long.
    out: usize,
    k: usize,
}

impl<M: Matrix> Part<'_, M> {
    /// # Safety
    /// `y` is row 0 of an output with `rows` rows whose columns `outs` nobody else touches; the machine has
    /// `isa`.
    unsafe fn compute(&self, isa: Isa, outs: Range<usize>, y: *mut f32) {
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
    unsafe fn scalar(&self, outs: Range<usize>, y: *mut f32) {
        let (x, width) = (floats(self.x), self.k.next_multiple_of(LANES));
        let mut weights = vec![0.0; width];
        for o in outs {
            self.w.row(o, &mut weights[..self.k]);
            for r in 0..self.rows {
                let sum = dot(&x[r * width..][..width], &weights);
                let value = self.bias.map_or(sum, |b| sum + b[o]);
                // SAFETY: the row exists and column o is ours.
                unsafe { *y.add(r * self.out + o) = value };
            }
        }
    }

    /// # Safety
    /// As [`Self::compute`]; `isa` is not scalar.
    #[cfg(target_arch = "x86_64")]
    unsafe fn panels(&self, isa: Isa, outs: Range<usize>, y: *mut f32) {
        let mut scratch = Scratch([0.0; PANEL]);
        let mut sums = vec![Eight([0.0; LANES]); self.rows.min(ROWS) * GROUP];
        for o in outs.clone().step_by(GROUP) {
            let block = o..(o + GROUP).min(outs.end);
            // All rows meet a block before the next one: its weights come from memory once.
            for first in (0..self.rows).step_by(ROWS) {
                let rows = first..(first + ROWS).min(self.rows);
                // SAFETY: the outputs and rows exist, and `sums` has GROUP entries for each row.
                unsafe {
                    self.sums(isa, &block, &rows, &mut scratch, sums.as_mut_ptr());
                }
                for (r, sums) in rows.zip(sums.chunks_exact(GROUP)) {
                    let bias = self.bias.map(|b| &b[block.clone()]);
                    // SAFETY: these columns of the row are ours.
                    unsafe {
                        let to = y.add(r * self.out + o);
                        avx2::finish(sums, bias, std::slice::from_raw_parts_mut(to, block.len()));
                    }
                }
            }
        }
    }

    /// The lane sums of some rows with a block of outputs.
    ///
    /// # Safety
    /// As [`Self::panels`]; the outputs exist, at most GROUP, and the rows, at most ROWS; `sums` has GROUP entries for each.
    #[cfg(target_arch = "x86_64")]
    unsafe fn sums(
        &self,
        isa: Isa,
        outs: &Range<usize>,
        rows: &Range<usize>,
        scratch: &mut Scratch,
        sums: *mut Eight,
    ) {
        let width = self.k.next_multiple_of(LANES);
        if !self.wide {
            let x = self.x.as_ptr().cast();
            // SAFETY: x holds every row to its padded end.
            return unsafe {
                self.w.narrow(isa, x, width, self.rows, outs.start, outs.len(), sums)
            };
        }
        let panel = scratch.0.as_mut_ptr();
        for k0 in (0..width).step_by(RUN) {
            let steps = RUN.min(width - k0) / LANES;
            // The next block's part of this run is on its way while this one is multiplied.
            for o in outs.end..(outs.end + GROUP).min(self.out) {
                prefetch(self.w.bytes(o, k0, steps));
            }
            // SAFETY: the outputs exist, and the scratch has room for a run of them.
            unsafe { self.w.expand(isa, outs.start, outs.len(), k0, steps, panel) };
            let at = k0 / LANES * self.rows + rows.start * steps;
            let run = Run {
                x: &self.x[at..at + rows.len() * steps],
                rows: rows.len(),
                steps,
                first: k0 == 0,
            };
            // SAFETY: the panel holds `steps`; `sums` as promised.
            unsafe {
                match isa {
                    Isa::Avx512 => avx512::multiply(&run, panel, sums),
                    _ => avx2::multiply(&run, panel, sums),
                }
            }
        }
    }
}

/// Asks for the cache lines of `bytes`.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in bytes.chunks(64) {
        // SAFETY: prefetching changes nothing but caches, and the address is that of a reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// One run of k: the rows that meet the panels.
#[cfg(target_arch = "x86_64")]
struct Run<'a> {
    /// (block of up to four rows, step, row of the block, 8).
    x: &'a [Eight],
    rows: usize,
    steps: usize,
    /// Sums start at zero rather than go on.
    first: bool,
}

/// A panel, aligned for the widest register.
#[cfg(target_arch = "x86_64")]
#[repr(align(64))]
struct Scratch([f32; PANEL]);

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
    unsafe fn expand(&self, _: Isa, o: usize, n: usize, k0: usize, steps: usize, panel: *mut f32) {
        for i in 0..n {
            let row = &self.w[(o + i) * self.k + k0..(o + i + 1) * self.k];
            // SAFETY: as promised by the caller; the slice ends with the row, whose tail is padded.
            unsafe { avx2::copy_row(row, steps, panel.add(i * LANES)) };
        }
    }

    fn bytes(&self, o: usize, k0: usize, steps: usize) -> &[u8] {
        let row = &self.w[o * self.k + k0..(o + 1) * self.k];
        let part = &row[..row.len().min(steps * LANES)];
        // SAFETY: any bytes of floats are bytes.
        unsafe { std::slice::from_raw_parts(part.as_ptr().cast(), size_of_val(part)) }
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn narrow(
        &self,
        _: Isa,
        x: *const f32,
        ldx: usize,
        rows: usize,
        o: usize,
        n: usize,
        sums: *mut Eight,
    ) {
        let w = &self.w[o * self.k..(o + n) * self.k];
        // SAFETY: the caller's promises; the slice holds the n outputs.
        unsafe { avx2::narrow(w, self.k, x, ldx, rows, sums) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Notes which outputs are read, in order.
    struct Watched<'a> {
        inner: F32Matrix<'a>,
        reads: Mutex<Vec<usize>>,
    }

    impl Watched<'_> {
        fn note(&self, o: usize) {
            let mut reads = self.reads.lock().unwrap();
            if reads.last() != Some(&o) {
                reads.push(o);
            }
        }
    }

    impl Matrix for Watched<'_> {
        fn row(&self, o: usize, to: &mut [f32]) {
            self.note(o);
            self.inner.row(o, to);
        }

        #[cfg(target_arch = "x86_64")]
        unsafe fn expand(
            &self,
            isa: Isa,
            o: usize,
            n: usize,
            k0: usize,
            steps: usize,
            panel: *mut f32,
        ) {
            self.note(o);
            // SAFETY: passed on.
            unsafe { self.inner.expand(isa, o, n, k0, steps, panel) };
        }

        fn bytes(&self, o: usize, k0: usize, steps: usize) -> &[u8] {
            self.inner.bytes(o, k0, steps)
        }

        #[cfg(target_arch = "x86_64")]
        unsafe fn narrow(
            &self,
            isa: Isa,
            x: *const f32,
            ldx: usize,
            rows: usize,
            o: usize,
            n: usize,
            sums: *mut Eight,
        ) {
            self.note(o);
            // SAFETY: passed on.
            unsafe { self.inner.narrow(isa, x, ldx, rows, o, n, sums) };
        }
    }

    #[test]
    fn every_block_of_outputs_is_left_for_good_before_the_next() {
        let (out, k) = (40, 1100);
        let w: Vec<f32> = (0..out * k).map(|i| (i as f32 * 0.3).sin()).collect();
        for rows in [1, 2, 5, 64, 200] {
            let x = vec![0.5; rows * k];
            let mut y = vec![0.0; rows * out];
            let watched = Watched { inner: F32Matrix { w: &w, k }, reads: Mutex::default() };
            product(&watched, &x, None, &mut y, rows, out, k, &Pool::new(1));
            let reads = watched.reads.into_inner().unwrap();
            let mut once = reads.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(reads, once, "{rows} rows: a block was read a second time");
            assert!(reads.len() >= out.div_ceil(GROUP));
        }
    }
}
