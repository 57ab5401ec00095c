//! Products of one to four rows, as sequential decoding has them: weights go from memory to registers and are used there.

use std::arch::x86_64::*;

use super::super::int4::{GROUP, GROUP_BYTES, Int4Matrix};
use super::x86::byte_table;
use crate::kernels::panel::{Eight, GROUP as OUTPUTS, LANES};

/// Groups whose tables are made at a time.
const CHUNK: usize = 8;

/// Lower bytes of the sixteen values of a group, then their upper bytes.
type ByteTable = [u8; 32];

/// `Matrix::narrow` for 4-bit weights.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn int4(
    w: &Int4Matrix,
    x: *const f32,
    ldx: usize,
    rows: usize,
    o: usize,
    n: usize,
    sums: *mut Eight,
) {
    let mut i = 0;
    while i < n {
        // Four to six sums in flight leave registers for the weights; more were measured to be slower.
        let outs = match rows {
            1 | 2 if n - i >= 3 => 3,
            3 if n - i >= 2 => 2,
            _ => 1,
        };
        // SAFETY: passed on; outputs [o + i, o + i + outs) exist, and their sums are within those of the block.
        unsafe {
            let to = sums.add(i);
            match (rows, outs) {
                (1, 3) => Outputs::<3>::new(w, o + i).multiply::<1>(x, ldx, to),
                (2, 3) => Outputs::<3>::new(w, o + i).multiply::<2>(x, ldx, to),
                (3, 2) => Outputs::<2>::new(w, o + i).multiply::<3>(x, ldx, to),
                (1, _) => Outputs::<1>::new(w, o + i).multiply::<1>(x, ldx, to),
                (2, _) => Outputs::<1>::new(w, o + i).multiply::<2>(x, ldx, to),
                (3, _) => Outputs::<1>::new(w, o + i).multiply::<3>(x, ldx, to),
                (_, _) => Outputs::<1>::new(w, o + i).multiply::<4>(x, ldx, to),
            }
        }
        i += outs;
    }
}

/// O neighbouring outputs.
struct Outputs<'a, const O: usize> {
    codes: &'a [u8],
    scales: &'a [u8],
    zeros: &'a [u8],
    groups: usize,
}

impl<'a, const O: usize> Outputs<'a, O> {
    fn new(w: &'a Int4Matrix, o: usize) -> Self {
        let groups = w.inputs / GROUP;
        let (first, last) = (o * groups, (o + O) * groups);
        Self {
            codes: &w.codes[first * GROUP_BYTES..last * GROUP_BYTES],
            scales: &w.scales[first * 2..last * 2],
            zeros: &w.zeros[first * 2..last * 2],
            groups,
        }
    }

    /// # Safety
    /// As `int4`, for R rows; `to` are the sums of the first output.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn multiply<const R: usize>(&self, x: *const f32, ldx: usize, to: *mut Eight) {
        let nibble = _mm256_set1_epi8(15);
        let upper_half = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
        let mut tables = [[[0; 32]; O]; CHUNK];
        let mut sums = [[_mm256_setzero_ps(); O]; R];
        for g in 0..self.groups {
            if g % CHUNK == 0 {
                let count = CHUNK.min(self.groups - g);
                // SAFETY: the groups exist.
                unsafe { self.tables(g, &mut tables[..count]) };
            }
            let tables = &tables[g % CHUNK];
            for b in 0..O {
                // The same group of the next outputs; one line each.
                let ahead = ((O + b) * self.groups + g) * GROUP_BYTES;
                _mm_prefetch::<_MM_HINT_T0>(self.codes.as_ptr().wrapping_add(ahead).cast());
            }
            for half in 0..2 {
                for b in 0..O {
                    // SAFETY: a table is two times 16 bytes; 32 of the 64 bytes of the group.
                    let (low, high, packed) = unsafe {
                        let table = tables[b].as_ptr().cast::<__m128i>();
                        let at = (b * self.groups + g) * GROUP_BYTES + half * 32;
                        (
                            _mm256_broadcastsi128_si256(_mm_loadu_si128(table)),
                            _mm256_broadcastsi128_si256(_mm_loadu_si128(table.add(1))),
                            _mm256_loadu_si256(self.codes.as_ptr().add(at).cast()),
                        )
                    };
                    for quarter in 0..2 {
                        let shifted =
                            if quarter == 0 { packed } else { _mm256_srli_epi16::<4>(packed) };
                        let codes = _mm256_and_si256(shifted, nibble);
                        let (low, high) =
                            (_mm256_shuffle_epi8(low, codes), _mm256_shuffle_epi8(high, codes));
                        let first = _mm256_unpacklo_epi8(low, high);
                        let last = _mm256_unpackhi_epi8(low, high);
                        let ws = [
                            _mm256_slli_epi32::<16>(first),
                            _mm256_and_si256(first, upper_half),
                            _mm256_slli_epi32::<16>(last),
                            _mm256_and_si256(last, upper_half),
                        ];
                        for (v, w) in ws.into_iter().enumerate() {
                            let k = g * GROUP + half * 64 + quarter * 32 + v * LANES;
                            for (a, row) in sums.iter_mut().enumerate() {
                                // SAFETY: k and the seven after it are inputs.
                                let x_a = unsafe { _mm256_loadu_ps(x.add(a * ldx + k)) };
                                row[b] = _mm256_fmadd_ps(x_a, _mm256_castsi256_ps(w), row[b]);
                            }
                        }
                    }
                }
            }
        }
        // SAFETY: the sums of the outputs are within those of the block.
        unsafe { store(&sums, to) };
    }

    /// The tables of the groups from `g0` on. Kept apart from its user, whose sums would otherwise leave their registers.
    ///
    /// # Safety
    /// The machine has AVX2; the groups exist.
    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tables(&self, g0: usize, to: &mut [[ByteTable; O]]) {
        for b in 0..O {
            for (g, tables) in to.iter_mut().enumerate() {
                let at = (b * self.groups + g0 + g) * 2;
                let (scale, zero) = (&self.scales[at..at + 2], &self.zeros[at..at + 2]);
                // SAFETY: two bytes are read of each, 32 written.
                unsafe {
                    let bytes = byte_table(read_bf16(scale.as_ptr()), read_bf16(zero.as_ptr()));
                    _mm256_storeu_si256(tables[b].as_mut_ptr().cast(), bytes);
                }
            }
        }
    }
}

/// One bf16 in all lanes.
///
/// # Safety
/// Two bytes can be read.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn read_bf16(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    let words = _mm256_set1_epi16(unsafe { at.cast::<i16>().read_unaligned() });
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
}

/// # Safety
/// `to` has OUTPUTS entries for each of the R rows, of which the first O are written.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store<const R: usize, const O: usize>(sums: &[[__m256; O]; R], to: *mut Eight) {
    for (a, row) in sums.iter().enumerate() {
        for (b, sum) in row.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(to.add(a * OUTPUTS + b).cast(), *sum) };
        }
    }
}

/// `Matrix::narrow` for bf16 weights `w` (outputs, k).
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn bf16(
    w: &[u8],
    k: usize,
    x: *const f32,
    ldx: usize,
    rows: usize,
    sums: *mut Eight,
) {
    let n = w.len() / (2 * k);
    let mut o = 0;
    while o < n {
        let outs = if n - o >= 3 { 3 } else { 1 };
        let w = &w[o * k * 2..(o + outs) * k * 2];
        // SAFETY: passed on; the slice holds the outputs of the tile.
        unsafe {
            let to = sums.add(o);
            match (rows, outs) {
                (1, 3) => bf16_tile::<1, 3>(w, k, x, ldx, to),
                (2, 3) => bf16_tile::<2, 3>(w, k, x, ldx, to),
                (3, 3) => bf16_tile::<3, 3>(w, k, x, ldx, to),
                (4, 3) => bf16_tile::<4, 3>(w, k, x, ldx, to),
                (1, _) => bf16_tile::<1, 1>(w, k, x, ldx, to),
                (2, _) => bf16_tile::<2, 1>(w, k, x, ldx, to),
                (3, _) => bf16_tile::<3, 1>(w, k, x, ldx, to),
                (_, _) => bf16_tile::<4, 1>(w, k, x, ldx, to),
            }
        }
        o += outs;
    }
}

/// # Safety
/// As `bf16`, for R rows and the O outputs of `w`.
#[target_feature(enable = "avx2,fma")]
unsafe fn bf16_tile<const R: usize, const O: usize>(
    w: &[u8],
    k: usize,
    x: *const f32,
    ldx: usize,
    to: *mut Eight,
) {
    let mut sums = [[_mm256_setzero_ps(); O]; R];
    let mut i = 0;
    while i < k {
        let mut ws = [_mm256_setzero_ps(); O];
        for (b, w_b) in ws.iter_mut().enumerate() {
            let mut tail = [0u8; 16];
            let at = if k - i >= LANES {
                w[(b * k + i) * 2..][..16].as_ptr()
            } else {
                tail[..(k - i) * 2].copy_from_slice(&w[(b * k + i) * 2..(b + 1) * k * 2]);
                tail.as_ptr()
            };
            // SAFETY: 16 bytes of the row, or of its padded end.
            let eight = unsafe { _mm_loadu_si128(at.cast()) };
            *w_b = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(eight)));
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
    // SAFETY: the sums of the tile are within those of the block.
    unsafe { store(&sums, to) };
}
