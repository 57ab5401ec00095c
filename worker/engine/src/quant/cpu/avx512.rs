//! 4-bit weights with AVX-512: a register holds eight weights of an output and the same eight of its neighbour, so that every
//! sum keeps its lanes.
//!
//! The values of two groups are 32 words of bf16, which is what one word permutation looks up.

use std::arch::x86_64::*;

use super::super::int4::{GROUP, GROUP_BYTES, Int4Matrix};
use crate::kernels::panel::{Eight, GROUP as OUTPUTS, LANES};

/// Steps of a group.
const STEPS: usize = GROUP / LANES;

/// P pairs of neighbouring outputs. After the last output of a matrix comes that output again.
struct Pairs<'a, const P: usize> {
    codes: &'a [u8],
    scales: &'a [u8],
    zeros: &'a [u8],
    /// Groups of an output.
    groups: usize,
    /// The first group of each output.
    first: [[usize; 2]; P],
}

impl<'a, const P: usize> Pairs<'a, P> {
    /// The pairs from output `o` on, the last of which may reach beyond `end`.
    fn new(w: &'a Int4Matrix, o: usize, end: usize) -> Self {
        assert!(o < end && end <= w.out, "outputs exist");
        let groups = w.inputs / GROUP;
        let first = |p: usize, i: usize| (o + 2 * p + i).min(end - 1) * groups;
        let first = std::array::from_fn(|p| [first(p, 0), first(p, 1)]);
        Self {
            codes: &w.codes[..end * groups * GROUP_BYTES],
            scales: &w.scales[..end * groups * 2],
            zeros: &w.zeros[..end * groups * 2],
            groups,
            first,
        }
    }

    /// 32 bytes of codes of each output of pair `p`: half a group.
    ///
    /// # Safety
    /// The machine has AVX-512; the group exists.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn codes(&self, p: usize, g: usize, half: usize) -> __m512i {
        let [a, b] = self.first[p];
        // SAFETY: the outputs have the group.
        unsafe {
            let codes = self.codes.as_ptr().add(g * GROUP_BYTES + half * 32);
            let low = _mm256_loadu_si256(codes.add(a * GROUP_BYTES).cast());
            let high = _mm256_loadu_si256(codes.add(b * GROUP_BYTES).cast());
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }

    /// The values of group `g` of both outputs of pair `p`: sixteen words of bf16 of the first, sixteen of the other.
    ///
    /// # Safety
    /// The machine has AVX-512; the group exists.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn table(&self, p: usize, g: usize) -> __m512i {
        let upper: [u16; 32] = std::array::from_fn(|i| 2 * i as u16 + 1);
        // SAFETY: 64 bytes; the outputs have the group.
        unsafe {
            let upper = _mm512_loadu_si512(upper.as_ptr().cast());
            let a = self.values(self.first[p][0] + g);
            let b = self.values(self.first[p][1] + g);
            _mm512_permutex2var_epi16(a, upper, b)
        }
    }

    /// The sixteen values of a group as bf16 in the upper halves; the lower halves hold rests. `int4::table` in vector form.
    ///
    /// # Safety
    /// The machine has AVX-512; the group exists.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn values(&self, group: usize) -> __m512i {
        let codes = _mm512_setr_ps(
            -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
        );
        // SAFETY: two bytes of each.
        let (scale, zero) = unsafe {
            (
                read_bf16(self.scales.as_ptr().add(group * 2)),
                read_bf16(self.zeros.as_ptr().add(group * 2)),
            )
        };
        let product = _mm512_and_si512(
            round_to_bf16(_mm512_mul_ps(codes, scale)),
            _mm512_set1_epi32(0xFFFF_0000_u32 as i32),
        );
        round_to_bf16(_mm512_add_ps(_mm512_castsi512_ps(product), zero))
    }
}

/// One bf16 in all lanes.
///
/// # Safety
/// Two bytes can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn read_bf16(at: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    let words = _mm512_set1_epi16(unsafe { at.cast::<i16>().read_unaligned() });
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
}

/// As `panel::round_to_bf16`: the result is in the upper halves; the lower ones hold the remainder. Finite values only.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn round_to_bf16(v: __m512) -> __m512i {
    let bits = _mm512_castps_si512(v);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)))
}

/// Four steps of a pair: with part 0 the first 32 weights of half a group, with part 1 the others.
///
/// A word of codes holds the steps 2h and 2h + 1 of both parts, in the order of `int4`'s layout.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn four_steps(codes: __m512i, table: __m512i, part: usize) -> [__m512; 4] {
    let (even, odd) = match part {
        0 => (codes, _mm512_srli_epi16::<8>(codes)),
        _ => (_mm512_srli_epi16::<4>(codes), _mm512_srli_epi16::<12>(codes)),
    };
    let (even, odd) = (look_up(even, table), look_up(odd, table));
    let zero = _mm512_setzero_si512();
    [
        _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, even)),
        _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, odd)),
        _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, even)),
        _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, odd)),
    ]
}

/// The values of the lowest four bits of each word, in the upper half of the register from the upper half of the table.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn look_up(codes: __m512i, table: __m512i) -> __m512i {
    let nibble = _mm512_set1_epi16(15);
    let upper = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(16));
    // (codes and nibble) or upper.
    let index = _mm512_ternarylogic_epi32::<0xEA>(codes, nibble, upper);
    _mm512_permutexvar_epi16(index, table)
}

/// `Matrix::expand`.
///
/// # Safety
/// As there; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn expand(
    w: &Int4Matrix,
    o: usize,
    n: usize,
    k0: usize,
    steps: usize,
    panel: *mut f32,
) {
    let (g0, groups) = (k0 / GROUP, steps / STEPS);
    for i in (0..n).step_by(2) {
        let pair = Pairs::<1>::new(w, o + i, o + n);
        for g in 0..groups {
            // SAFETY: the group exists; the panel has room for its steps.
            unsafe {
                let table = pair.table(0, g0 + g);
                for half in 0..2 {
                    let codes = pair.codes(0, g0 + g, half);
                    for part in 0..2 {
                        let step = g * STEPS + half * 8 + part * 4;
                        for (v, weights) in four_steps(codes, table, part).into_iter().enumerate() {
                            let to = panel.add(((step + v) * OUTPUTS + i) * LANES);
                            _mm512_storeu_ps(to, weights);
                        }
                    }
                }
            }
        }
    }
}

/// `Matrix::narrow`.
///
/// # Safety
/// As there; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn narrow(
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
        let pairs = if n - i >= 5 { 3 } else { 1 };
        // SAFETY: passed on; outputs from o + i on exist, and their sums are within those of the block.
        unsafe {
            let to = sums.add(i);
            match pairs {
                1 => Pairs::<1>::new(w, o + i, o + n).rows(x, ldx, rows, to),
                _ => Pairs::<3>::new(w, o + i, o + n).rows(x, ldx, rows, to),
            }
        }
        i += 2 * pairs;
    }
}

impl<const P: usize> Pairs<'_, P> {
    /// # Safety
    /// As `narrow`; `to` are the sums of the first output.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn rows(&self, x: *const f32, ldx: usize, rows: usize, to: *mut Eight) {
        // SAFETY: passed on.
        unsafe {
            match rows {
                1 => self.multiply::<1>(x, ldx, to),
                2 => self.multiply::<2>(x, ldx, to),
                3 => self.multiply::<3>(x, ldx, to),
                _ => self.multiply::<4>(x, ldx, to),
            }
        }
    }

    /// # Safety
    /// As `narrow`, for R rows; `to` are the sums of the first output.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn multiply<const R: usize>(&self, x: *const f32, ldx: usize, to: *mut Eight) {
        let mut sums = [[_mm512_setzero_ps(); P]; R];
        for g in 0..self.groups {
            let mut tables = [_mm512_setzero_si512(); P];
            for (p, table) in tables.iter_mut().enumerate() {
                // SAFETY: the group exists.
                *table = unsafe { self.table(p, g) };
            }
            for first in self.first.as_flattened() {
                // The same group of the next outputs; one line each.
                let ahead = (first + 2 * P * self.groups + g) * GROUP_BYTES;
                _mm_prefetch::<_MM_HINT_T0>(self.codes.as_ptr().wrapping_add(ahead).cast());
            }
            for half in 0..2 {
                for part in 0..2 {
                    let mut ws = [[_mm512_setzero_ps(); 4]; P];
                    for (p, ws) in ws.iter_mut().enumerate() {
                        // SAFETY: the group exists.
                        *ws = unsafe { four_steps(self.codes(p, g, half), tables[p], part) };
                    }
                    for v in 0..4 {
                        let k = g * GROUP + half * 64 + part * 32 + v * LANES;
                        for (r, row) in sums.iter_mut().enumerate() {
                            // SAFETY: k and the seven after it are inputs.
                            let xs = unsafe {
                                _mm512_broadcast_f32x8(_mm256_loadu_ps(x.add(r * ldx + k)))
                            };
                            for (sum, ws) in row.iter_mut().zip(&ws) {
                                *sum = _mm512_fmadd_ps(xs, ws[v], *sum);
                            }
                        }
                    }
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (p, sum) in row.iter().enumerate() {
                // SAFETY: the pair's sums are within those of the block.
                unsafe { _mm512_storeu_ps(to.add(r * OUTPUTS + 2 * p).cast(), *sum) };
            }
        }
    }
}
