//! `exp` and `ln` of our own: library versions differ between platforms and back ends, and a token depends on every bit.
#![expect(unsafe_code, reason = "the same body is compiled for each instruction set")]

use super::lanes::for_each_isa;

/// `exp(x)` in f32, less than 1 unit in the last place from the exact value (1.1 where the result is subnormal; measured by the
/// test against f64).
///
/// `exp(-inf)` and anything below about -103.97 is 0, above about 88.72 is infinite; NaN stays NaN.
/// Method: `x = n ln 2 + r` with `|r| <= ln 2 / 2` (ln 2 in two parts), a degree 7 polynomial for `e^r`, scaling in two steps
/// so that subnormal results are rounded once.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HI: f32 = 0.693_145_75;
    const LN2_LO: f32 = 1.428_606_8e-6;
    // Comparisons in this form keep NaN.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
    let mut p = 1.0 / 5040.0_f32;
    p = p.mul_add(r, 1.0 / 720.0);
    p = p.mul_add(r, 1.0 / 120.0);
    p = p.mul_add(r, 1.0 / 24.0);
    p = p.mul_add(r, 1.0 / 6.0);
    p = p.mul_add(r, 0.5);
    p = p.mul_add(r, 1.0);
    p = p.mul_add(r, 1.0);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// Natural logarithm in f64 for positive, normal, finite `x`, below 1 unit in the last place. Other inputs give no meaning.
///
/// This is the one `ln` of the Gumbel noise; a back end that repeats these operations (the fused ones fused, the others not)
/// gets the same bits. Method: `x = 2^k (1 + f)` with `1 + f` in `[sqrt(1/2), sqrt(2))`, `s = f / (2 + f)`,
/// `ln(1 + f) = f - f^2/2 + s (f^2/2 + R)`, `R = 2 (s^2/3 + s^4/5 + ...)`.
#[inline(always)]
pub fn ln(x: f64) -> f64 {
    const LN2_HI: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
    const LN2_LO: f64 = f64::from_bits(0x3DEA_39EF_3579_3C76);
    /// Bits of 1.0 less the bits of sqrt(1/2), upper halves alone.
    const OFFSET: u64 = 0x3FF0_0000_0000_0000 - 0x3FE6_A09E_0000_0000;
    let bits = x.to_bits().wrapping_add(OFFSET);
    let k = (bits >> 52) as i32 - 1023;
    let m = (bits & 0x000F_FFFF_FFFF_FFFF).wrapping_add(0x3FE6_A09E_0000_0000);
    let f = f64::from_bits(m) - 1.0;
    let k = f64::from(k);
    let s = f / (2.0 + f);
    let z = s * s;
    let half_square = 0.5 * f * f;
    let mut r = 2.0 / 25.0;
    r = z.mul_add(r, 2.0 / 23.0);
    r = z.mul_add(r, 2.0 / 21.0);
    r = z.mul_add(r, 2.0 / 19.0);
    r = z.mul_add(r, 2.0 / 17.0);
    r = z.mul_add(r, 2.0 / 15.0);
    r = z.mul_add(r, 2.0 / 13.0);
    r = z.mul_add(r, 2.0 / 11.0);
    r = z.mul_add(r, 2.0 / 9.0);
    r = z.mul_add(r, 2.0 / 7.0);
    r = z.mul_add(r, 2.0 / 5.0);
    r = z.mul_add(r, 2.0 / 3.0);
    let r = z * r;
    k * LN2_HI - ((half_square - (s * (half_square + r) + k * LN2_LO)) - f)
}

/// `x / (1 + exp(-x))`, by our own `exp`.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

for_each_isa! {
    /// `gate[i] = silu(gate[i]) * up[i]`, the middle of the transformer's feed-forward block.
    pub fn silu_mul_in_place(gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "gate and up have the same shape");
        for (g, u) in gate.iter_mut().zip(up) {
            *g = silu(*g) * u;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Isa, force_isa};

    /// Distance in units of the last place of the exact value's f32 neighbourhood.
    fn ulps(got: f32, exact: f64) -> f64 {
        let near = exact as f32;
        let step = f64::from(f32::from_bits(near.abs().to_bits() + 1)) - f64::from(near.abs());
        (f64::from(got) - exact).abs() / step
    }

    #[test]
    fn exp_is_within_one_unit_over_its_whole_range() {
        let (mut normal, mut subnormal) = (0.0_f64, 0.0_f64);
        // Every 97th f32 of both signs up to the limits: about 22 million points.
        for sign in [0u32, 0x8000_0000] {
            let mut bits = 0u32;
            while f32::from_bits(bits) < if sign == 0 { 88.72 } else { 103.9 } {
                let x = f32::from_bits(bits | sign);
                let (got, exact) = (exp(x), f64::from(x).exp());
                let worst = if got.is_normal() { &mut normal } else { &mut subnormal };
                *worst = worst.max(ulps(got, exact));
                bits += 97;
            }
        }
        assert!(normal < 1.0 && subnormal < 1.1, "worst errors {normal} and {subnormal} ulp");
    }

    #[test]
    fn exp_at_the_edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(-104.0), 0.0);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(
            silu(f32::NEG_INFINITY).to_bits() & 0x7FFF_FFFF,
            f32::NAN.to_bits() & 0x7FFF_FFFF
        );
        assert_eq!(silu(-200.0), -0.0);
    }

    #[test]
    fn ln_is_within_one_unit() {
        let mut worst = 0.0_f64;
        let mut check = |x: f64| {
            let (got, exact) = (ln(x), x.ln());
            let step = f64::from_bits(exact.abs().to_bits() + 1) - exact.abs();
            if exact != 0.0 {
                worst = worst.max((got - exact).abs() / step);
            }
        };
        for i in 0..2_000_000u64 {
            let word = (i * 2_147) as u32;
            let u = (f64::from(word) + 0.5) / 4_294_967_296.0;
            check(u);
            check(-u.ln());
        }
        assert_eq!(ln(1.0), 0.0);
        // The platform's own ln is itself up to half a unit off.
        assert!(worst <= 1.0, "worst error {worst} ulp");
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let values: Vec<f32> = (0..5_003).map(|i| (i as f32 - 2_500.0) * 0.037).collect();
        let reference: Vec<u32> = values.iter().map(|v| silu(*v).to_bits()).collect();
        for isa in Isa::available() {
            force_isa(Some(isa)).unwrap();
            let mut gate = values.clone();
            silu_mul_in_place(&mut gate, &vec![1.0; values.len()]);
            assert!(gate.iter().map(|v| v.to_bits()).eq(reference.iter().copied()), "{isa:?}");
        }
        force_isa(None).unwrap();
    }
}
