//! The counter-based noise behind every draw: philox4x32-10 keyed by the seed of the request.
//!
//! A draw is a function of (seed, cell, code, draw) alone, so it is the same in any batch, window or retry, and needs no
//! storage. Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the tests carry
//! the known answers of its Random123 library.
#![expect(unsafe_code, reason = "the same body is compiled for each instruction set")]

use crate::kernels::{for_each_isa, ln};

/// The draw number of the Gumbel noise that defines the sequential token sequence.
pub const GUMBEL_DRAW: u32 = 0;

/// One block of philox4x32-10: four words from a counter and a key.
#[inline(always)]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    const W0: u32 = 0x9E37_79B9;
    const W1: u32 = 0xBB67_AE85;
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = M0 * u64::from(c0);
        let p1 = M1 * u64::from(c2);
        (c0, c1, c2, c3) =
            ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    [c0, c1, c2, c3]
}

/// The random word of (seed, cell, code, draw): key (low, high half of the seed), counter (cell, code / 4, draw, 0), output
/// word `code mod 4`. `cell` is the raster index of the code cell over the whole picture, a given panel included.
pub fn word(seed: u64, cell: u32, code: u32, draw: u32) -> u32 {
    philox4x32_10([cell, code / 4, draw, 0], key(seed))[(code % 4) as usize]
}

/// The uniform number of (seed, cell, code, draw): `(word + 1/2) / 2^32`, exact in f64 and never 0 or 1.
pub fn uniform(seed: u64, cell: u32, code: u32, draw: u32) -> f64 {
    to_uniform(word(seed, cell, code, draw))
}

for_each_isa! {
    /// Gumbel noise `-ln(-ln u)` of the codes `0 .. out.len()` of one cell, taken in f64 by our own `ln` and rounded to f32.
    pub fn gumbel_of_cell(seed: u64, cell: u32, draw: u32, out: &mut [f32]) {
        // Words first, logarithms after: both loops then fill vector registers.
        const BLOCK: usize = 64;
        let key = key(seed);
        for (b, part) in out.chunks_mut(BLOCK).enumerate() {
            let mut words = [0u32; BLOCK];
            for (i, four) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *four = philox4x32_10([cell, (b * BLOCK / 4 + i) as u32, draw, 0], key);
            }
            let mut noise = [0.0_f32; BLOCK];
            for (g, word) in noise.iter_mut().zip(words) {
                *g = to_gumbel(word);
            }
            part.copy_from_slice(&noise[..part.len()]);
        }
    }
}

#[inline(always)]
fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

#[inline(always)]
fn to_uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

#[inline(always)]
fn to_gumbel(word: u32) -> f32 {
    -ln(-ln(to_uniform(word))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Isa, force_isa};

    /// From kat_vectors of Random123 1.14: "philox4x32 10".
    #[test]
    fn philox_gives_the_published_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(philox4x32_10(counter, key), answer);
        }
    }

    #[test]
    fn the_counter_is_cell_code_draw() {
        let seed = 0x299f_31d0_a409_3822;
        let block = philox4x32_10([7, 3, 2, 0], [0xa409_3822, 0x299f_31d0]);
        for i in 0..4 {
            assert_eq!(word(seed, 7, 12 + i, 2), block[i as usize]);
        }
    }

    fn gumbel(seed: u64, cell: u32, code: u32, draw: u32) -> f32 {
        to_gumbel(word(seed, cell, code, draw))
    }

    /// Pinned: a change of any bit here changes every picture.
    #[test]
    fn the_noise_is_pinned() {
        assert_eq!(word(0, 0, 0, 0), 0x6627_e8d5);
        assert_eq!(to_uniform(0), 0.5 / 4_294_967_296.0);
        assert!(
            (f64::from(gumbel(0, 0, 0, 0))
                + (-(f64::from(0x6627_e8d5_u32) + 0.5).ln() + 32.0 * std::f64::consts::LN_2).ln())
            .abs()
                < 1e-7
        );
        assert!(to_gumbel(0).is_finite() && to_gumbel(u32::MAX).is_finite());
    }

    #[test]
    fn a_whole_cell_equals_its_single_draws_on_every_instruction_set() {
        let single: Vec<u32> = (0..1_003).map(|c| gumbel(99, 5, c, 1).to_bits()).collect();
        for isa in Isa::available() {
            force_isa(Some(isa)).unwrap();
            let mut all = vec![0.0; 1_003];
            gumbel_of_cell(99, 5, 1, &mut all);
            assert!(all.iter().map(|g| g.to_bits()).eq(single.iter().copied()), "{isa:?}");
        }
        force_isa(None).unwrap();
    }

    #[test]
    fn the_noise_has_the_moments_of_a_gumbel_law() {
        let mut all = vec![0.0; 1 << 20];
        gumbel_of_cell(1, 0, 0, &mut all);
        let n = all.len() as f64;
        let mean = all.iter().map(|g| f64::from(*g)).sum::<f64>() / n;
        let var = all.iter().map(|g| (f64::from(*g) - mean).powi(2)).sum::<f64>() / n;
        assert!((mean - 0.577_215_66).abs() < 0.006, "{mean}");
        assert!((var - 1.644_934).abs() < 0.02, "{var}");
    }
}
