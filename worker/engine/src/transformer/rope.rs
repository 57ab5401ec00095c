//! Rotary position embedding, half-split: element `i` is paired with `i + D/2`.
//!
//! Cosines and sines are our own: library versions differ in the last bit, and a token depends on every bit.

use crate::kernels::{ln, rotate_halves};
use crate::transformer::config::{Config, RopeKind};

/// Cosines and sines of every position up to a capacity.
#[derive(Debug)]
pub struct RopeTable {
    half: usize,
    /// (position, half) cosines, then as many sines.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// The table of a sequence that will have at most `positions` tokens. Only dynamic scaling depends on that length.
    pub fn new(config: &Config, positions: usize) -> Self {
        let dim = config.head_dim();
        let half = dim / 2;
        let (base, divisor) = base_and_divisor(config, positions);
        let inverse: Vec<f32> = (0..half).map(|i| inverse_frequency(base, i, dim)).collect();
        let mut table = Self {
            half,
            cos: Vec::with_capacity(positions * half),
            sin: Vec::with_capacity(positions * half),
        };
        for position in 0..positions {
            for frequency in &inverse {
                let angle = position as f32 / divisor * frequency;
                let (sin, cos) = sin_cos(f64::from(angle));
                table.cos.push(cos as f32);
                table.sin.push(sin as f32);
            }
        }
        table
    }

    /// Rotates one head of `D` values in place.
    pub fn rotate(&self, head: &mut [f32], position: usize) {
        let range = position * self.half..(position + 1) * self.half;
        rotate_halves(head, &self.cos[range.clone()], &self.sin[range]);
    }

    /// Positions it covers.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half
    }
}

/// Whether tables of sequences of different lengths differ.
fn depends_on_length(config: &Config, positions: usize) -> bool {
    let dynamic =
        config.rope_scaling.as_ref().is_some_and(|scaling| scaling.kind == RopeKind::Dynamic);
    dynamic && positions > config.max_position_embeddings
}

fn base_and_divisor(config: &Config, positions: usize) -> (f64, f32) {
    let theta = config.rope_theta;
    match &config.rope_scaling {
        Some(scaling) if scaling.kind == RopeKind::Linear => (theta, scaling.factor as f32),
        Some(scaling) if depends_on_length(config, positions) => {
            let dim = config.head_dim() as f64;
            let ratio = positions as f64 / config.max_position_embeddings as f64;
            let stretch = scaling.factor * ratio - (scaling.factor - 1.0);
            (theta * power(stretch, dim / (dim - 2.0)), 1.0)
        }
        _ => (theta, 1.0),
    }
}

fn inverse_frequency(base: f64, i: usize, dim: usize) -> f32 {
    let exponent = (2 * i) as f32 / dim as f32;
    1.0 / power(base, f64::from(exponent)) as f32
}

/// `base^exponent` for positive `base`, to about 1e-15 relative.
fn power(base: f64, exponent: f64) -> f64 {
    exp(exponent * ln(base))
}

/// `e^x` in f64 for moderate `x`: `x = n ln 2 + r`, a Taylor sum for `e^r`.
fn exp(x: f64) -> f64 {
    const LN2_HI: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
    const LN2_LO: f64 = f64::from_bits(0x3DEA_39EF_3579_3C76);
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
    let mut sum = 1.0;
    for k in (1..=18).rev() {
        sum = (sum * r / f64::from(k)) + 1.0;
    }
    sum * f64::from_bits(((1023 + n as i64) as u64) << 52)
}

/// Sine and cosine of an angle up to some 10^6: reduced by multiples of pi/2 in two parts, then Taylor sums.
fn sin_cos(angle: f64) -> (f64, f64) {
    const PI_2_HI: f64 = f64::from_bits(0x3FF9_21FB_5440_0000);
    const PI_2_LO: f64 = 6.077_100_506_506_192e-11;
    let n = (angle * std::f64::consts::FRAC_2_PI).round();
    let r = n.mul_add(-PI_2_LO, n.mul_add(-PI_2_HI, angle));
    let square = r * r;
    let (mut sin, mut cos) = (1.0, 1.0);
    for k in (1..=9).rev() {
        let even = f64::from(2 * k);
        sin = 1.0 - sin * square / (even * (even + 1.0));
        cos = 1.0 - cos * square / ((even - 1.0) * even);
    }
    sin *= r;
    match (n as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::config::RopeScaling;

    #[test]
    fn our_functions_agree_with_the_platform() {
        for i in 0..200_000 {
            let angle = f64::from(i) * 0.051_7;
            let (sin, cos) = sin_cos(angle);
            assert!(
                (sin - angle.sin()).abs() < 1e-12 && (cos - angle.cos()).abs() < 1e-12,
                "{angle}"
            );
        }
        for i in 0..64 {
            let e = f64::from(i) / 64.0;
            assert!((power(10_000.0, e) / 10_000f64.powf(e) - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn dynamic_scaling_changes_long_sequences_only() {
        let scaling = Some(RopeScaling { kind: RopeKind::Dynamic, factor: 2.0 });
        let config =
            Config { max_position_embeddings: 8, rope_scaling: scaling, ..Config::default() };
        let plain = Config { rope_scaling: None, ..config.clone() };
        assert_eq!(RopeTable::new(&config, 8).cos, RopeTable::new(&plain, 8).cos);
        assert_ne!(RopeTable::new(&config, 9).cos, RopeTable::new(&plain, 9).cos);
    }
}
