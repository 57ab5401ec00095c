//! Products of one to four rows, as sequential decoding has them: weights go from memory to registers and are used there.

use std::arch::x86_64::*;

use super::super::int4::{GROUP, GROUP_BYTES, Int4Matrix};
use super::x86::byte_table;
use crate::kernels::panel::{BLOCK, LANES};

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
    sums: *mut [f32; LANES],
) {
    let mut i = 0;
    while i < n {
        // Eight or nine sums in flight hide the latency of the multiply-add.
        let outs = match rows {
            1 | 2 if n - i >= 4 => 4,
            3 if n - i >= 3 => 3,
            4 if n - i >= 2 => 2,
            _ => 1,
        };
        // SAFETY: passed on; outputs [o + i, o + i + outs) exist.
        unsafe {
            let to = sums.add(i);
            match (rows, outs) {
                (1, 4) => int4_tile::<1, 4>(w, x, ldx, o + i, to),
                (2, 4) => int4_tile::<2, 4>(w, x, ldx, o + i, to),
                (3, 3) => int4_tile::<3, 3>(w, x, ldx, o + i, to),
                (4, 2) => int4_tile::<4, 2>(w, x, ldx, o + i, to),
                (1, _) => int4_tile::<1, 1>(w, x, ldx, o + i, to),
                (2, _) => int4_tile::<2, 1>(w, x, ldx, o + i, to),
                (3, _) => int4_tile::<3, 1>(w, x, ldx, o + i, to),
                (_, _) => int4_tile::<4, 1>(w, x, ldx, o + i, to),
            }
        }
        i += outs;
    }
}

/// # Safety
/// As `int4`, for R rows and the outputs `[o, o + O)`.
#[target_feature(enable = "avx2,fma")]
unsafe fn int4_tile<const R: usize, const O: usize>(
    w: &Int4Matrix,
    x: *const f32,
    ldx: usize,
    o: usize,
    to: *mut [f32; LANES],
) {
    let groups = w.inputs / GROUP;
    let codes = w.codes[o * groups * GROUP_BYTES..(o + O) * groups * GROUP_BYTES].as_ptr();
    let scales = w.scales[o * groups * 2..(o + O) * groups * 2].as_ptr();
    let zeros = w.zeros[o * groups * 2..(o + O) * groups * 2].as_ptr();
    let nibble = _mm256_set1_epi8(15);
    let upper_half = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
    let mut sums = [[_mm256_setzero_ps(); O]; R];
    for g in 0..groups {
        // Lower bytes of an output's sixteen values, then their upper bytes; read back broadcast to both halves.
        let mut tables = [[_mm_setzero_si128(); 2]; O];
        for (b, table) in tables.iter_mut().enumerate() {
            // SAFETY: group g of output b.
            unsafe {
                let at = (b * groups + g) * 2;
                let bytes = byte_table(read_bf16(scales.add(at)), read_bf16(zeros.add(at)));
                _mm256_storeu_si256(table.as_mut_ptr().cast(), bytes);
            }
        }
        for half in 0..2 {
            for b in 0..O {
                // SAFETY: 32 of the 64 bytes of the group.
                let packed = unsafe {
                    let at = codes.add((b * groups + g) * GROUP_BYTES + half * 32);
                    _mm256_loadu_si256(at.cast())
                };
                let low = _mm256_broadcastsi128_si256(tables[b][0]);
                let high = _mm256_broadcastsi128_si256(tables[b][1]);
                for quarter in 0..2 {
                    let shifted = if quarter == 0 { packed } else { _mm256_srli_epi16::<4>(packed) };
                    let codes = _mm256_and_si256(shifted, nibble);
                    let (low, high) = (_mm256_shuffle_epi8(low, codes), _mm256_shuffle_epi8(high, codes));
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
    // SAFETY: the sums of the tile are within those of the block.
    unsafe { store(&sums, to) };
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
/// `to` has BLOCK entries for each of the R rows, of which the first O are written.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store<const R: usize, const O: usize>(sums: &[[__m256; O]; R], to: *mut [f32; LANES]) {
    for (a, row) in sums.iter().enumerate() {
        for (b, sum) in row.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(to.add(a * BLOCK + b).cast(), *sum) };
        }
    }
}

/// `Matrix::narrow` for bf16 weights `w` (outputs, k).
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn bf16(w: &[u8], k: usize, x: *const f32, ldx: usize, rows: usize, sums: *mut [f32; LANES]) {
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
    to: *mut [f32; LANES],
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
