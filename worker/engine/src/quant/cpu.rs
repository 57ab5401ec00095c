//! Expansion of stored weights to f32 panels, by vector instructions.
#![expect(unsafe_code, reason = "vector instructions on raw addresses")]

use super::bf16;
use super::bytes::Bytes;
use super::int4::{GROUP, GROUP_BYTES, Int4Matrix};
#[cfg(target_arch = "x86_64")]
use crate::kernels::Isa;
use crate::kernels::panel::{Eight, Matrix};

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod narrow;

/// Weights stored as bf16.
pub(super) struct Bf16Matrix<'a> {
    /// (out, k), row-major, two bytes each.
    pub(super) bytes: &'a Bytes,
    /// Inputs.
    pub(super) k: usize,
}

impl Matrix for Bf16Matrix<'_> {
    fn row(&self, o: usize, to: &mut [f32]) {
        let row = &self.bytes[o * self.k * 2..][..self.k * 2];
        for (i, value) in to.iter_mut().enumerate() {
            *value = bf16::from_bits(bf16::at(row, i));
        }
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn expand(&self, _: Isa, o: usize, n: usize, k0: usize, steps: usize, panel: *mut f32) {
        for i in 0..n {
            let row = &self.bytes[((o + i) * self.k + k0) * 2..(o + i + 1) * self.k * 2];
            // SAFETY: as promised by the caller; the slice ends with the row.
            unsafe { x86::widen(row, steps, panel.add(i * 8)) };
        }
    }

    fn bytes(&self, o: usize, k0: usize, steps: usize) -> &[u8] {
        let row = &self.bytes[(o * self.k + k0) * 2..(o + 1) * self.k * 2];
        &row[..row.len().min(steps * 16)]
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
        let w = &self.bytes[o * self.k * 2..(o + n) * self.k * 2];
        // SAFETY: the caller's promises; the slice holds the n outputs.
        unsafe { narrow::bf16(w, self.k, x, ldx, rows, sums) };
    }
}

impl Matrix for Int4Matrix {
    fn row(&self, o: usize, to: &mut [f32]) {
        self.dequantise_row(o, to);
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
        const STEPS: usize = GROUP / 8;
        if isa == Isa::Avx512 {
            // SAFETY: passed on.
            return unsafe { avx512::expand(self, o, n, k0, steps, panel) };
        }
        let groups = steps / STEPS;
        for i in 0..n {
            let first = ((o + i) * self.inputs + k0) / GROUP;
            let codes = &self.codes[first * GROUP_BYTES..(first + groups) * GROUP_BYTES];
            for (g, codes) in codes.as_chunks::<GROUP_BYTES>().0.iter().enumerate() {
                let (scale, zero) =
                    (bf16::at(&self.scales, first + g), bf16::at(&self.zeros, first + g));
                // SAFETY: as promised by the caller; runs begin at multiples of a group and end with one.
                unsafe {
                    let to = panel.add(g * STEPS * crate::kernels::panel::GROUP * 8 + i * 8);
                    x86::dequantise(codes, scale, zero, to);
                }
            }
        }
    }

    fn bytes(&self, o: usize, k0: usize, steps: usize) -> &[u8] {
        &self.codes[(o * self.inputs + k0) / 2..][..steps * 4]
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
        assert!(o + n <= self.out, "outputs exist");
        // SAFETY: the caller's promises.
        unsafe {
            match isa {
                Isa::Avx512 => avx512::narrow(self, x, ldx, rows, o, n, sums),
                _ => narrow::int4(self, x, ldx, rows, o, n, sums),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::kernels::panel::{GROUP as OUTS, round_to_bf16};
    use crate::quant::bf16;
    use crate::quant::int4::GROUP_BYTES;

    /// Floats from one step of a panel to the next.
    const STRIDE: usize = OUTS * 8;

    /// Widens `8 * steps` bf16 of a row, zeros beyond its end.
    ///
    /// # Safety
    /// The machine has AVX2; `to` has room for `steps` steps of a panel.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn widen(row: &[u8], steps: usize, to: *mut f32) {
        let whole = steps.min(row.len() / 16);
        for step in 0..whole {
            // SAFETY: 16 bytes of the row and one step of the panel.
            unsafe {
                let eight = _mm_loadu_si128(row.as_ptr().add(step * 16).cast());
                store(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(eight)), to.add(step * STRIDE));
            }
        }
        if whole < steps {
            let mut last = [0u8; 16];
            let tail = &row[whole * 16..];
            last[..tail.len()].copy_from_slice(tail);
            // SAFETY: the last step of the panel.
            unsafe {
                let eight = _mm_loadu_si128(last.as_ptr().cast());
                store(
                    _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(eight)),
                    to.add(whole * STRIDE),
                );
            }
        }
    }

    /// Dequantises a group of 128 weights to 16 steps of a panel.
    ///
    /// The sixteen values of the group are bf16, so their two bytes are looked up by two byte shuffles, 32 weights at a time.
    ///
    /// # Safety
    /// The machine has AVX2; `to` has room for 16 steps of a panel.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn dequantise(
        codes: &[u8; GROUP_BYTES],
        scale: u16,
        zero: u16,
        to: *mut f32,
    ) {
        let bytes = byte_table(
            _mm256_set1_ps(bf16::from_bits(scale)),
            _mm256_set1_ps(bf16::from_bits(zero)),
        );
        let low = _mm256_permute2x128_si256::<0x00>(bytes, bytes);
        let high = _mm256_permute2x128_si256::<0x11>(bytes, bytes);
        let nibble = _mm256_set1_epi8(15);
        for half in 0..2 {
            // SAFETY: 32 of the 64 bytes, and 8 of the 16 steps.
            unsafe {
                let packed = _mm256_loadu_si256(codes.as_ptr().add(half * 32).cast());
                let to = to.add(half * 8 * STRIDE);
                look_up(_mm256_and_si256(packed, nibble), low, high, to);
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble);
                look_up(upper, low, high, to.add(4 * STRIDE));
            }
        }
    }

    /// The lower bytes of the sixteen values, then their upper bytes; `int4::table` in vector form.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn byte_table(scale: __m256, zero: __m256) -> __m256i {
        // In this order packing, which works on halves of registers, leaves the words in order.
        let first = values(_mm256_setr_ps(-8.0, -7.0, -6.0, -5.0, 0.0, 1.0, 2.0, 3.0), scale, zero);
        let last = values(_mm256_setr_ps(-4.0, -3.0, -2.0, -1.0, 4.0, 5.0, 6.0, 7.0), scale, zero);
        let words =
            _mm256_packus_epi32(_mm256_srli_epi32::<16>(first), _mm256_srli_epi32::<16>(last));
        let lower = _mm256_and_si256(words, _mm256_set1_epi16(0xFF));
        let bytes = _mm256_packus_epi16(lower, _mm256_srli_epi16::<8>(words));
        _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes)
    }

    /// The values of eight codes (less 8) as bf16 in the upper halves; the lower halves hold rests.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn values(codes: __m256, scale: __m256, zero: __m256) -> __m256i {
        let product = _mm256_and_si256(
            round_to_bf16(_mm256_mul_ps(codes, scale)),
            _mm256_set1_epi32(0xFFFF_0000_u32 as i32),
        );
        round_to_bf16(_mm256_add_ps(_mm256_castsi256_ps(product), zero))
    }

    /// Writes the values of 32 codes to four steps of a panel.
    ///
    /// # Safety
    /// The machine has AVX2; `to` has room for four steps.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn look_up(codes: __m256i, low: __m256i, high: __m256i, to: *mut f32) {
        let (low, high) = (_mm256_shuffle_epi8(low, codes), _mm256_shuffle_epi8(high, codes));
        let upper_half = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
        let first = _mm256_unpacklo_epi8(low, high);
        let last = _mm256_unpackhi_epi8(low, high);
        // SAFETY: four steps.
        unsafe {
            store(_mm256_slli_epi32::<16>(first), to);
            store(_mm256_and_si256(first, upper_half), to.add(STRIDE));
            store(_mm256_slli_epi32::<16>(last), to.add(2 * STRIDE));
            store(_mm256_and_si256(last, upper_half), to.add(3 * STRIDE));
        }
    }

    /// # Safety
    /// `to` has room for eight floats.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store(bits: __m256i, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(to, _mm256_castsi256_ps(bits)) };
    }
}
