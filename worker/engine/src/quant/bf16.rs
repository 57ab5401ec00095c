//! bfloat16 by hand: the upper half of an f32, rounded to nearest, ties to even. Arithmetic "in bf16" is arithmetic in f32
//! with every result rounded, as torch does it on the CPU.

/// Rounds to bf16 and keeps the upper half. NaN stays NaN.
#[inline(always)]
pub fn to_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    let odd = bits >> 16 & 1;
    (bits.wrapping_add(0x7FFF + odd) >> 16) as u16
}

/// The f32 of a bf16.
#[inline(always)]
pub fn from_bits(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounds an f32 to the nearest bf16, as an f32.
#[inline(always)]
pub fn round(value: f32) -> f32 {
    from_bits(to_bits(value))
}

/// Packs values as little-endian bf16.
pub fn pack(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| to_bits(*v).to_le_bytes()).collect()
}

/// The element `i` of packed bf16.
#[inline(always)]
pub(crate) fn at(bytes: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_agrees_with_the_half_crate_on_every_neighbourhood() {
        for upper in 0..=u16::MAX {
            for lower in [0u32, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let value = f32::from_bits(u32::from(upper) << 16 | lower);
                let ours = to_bits(value);
                let theirs = half::bf16::from_f32(value);
                assert!(
                    ours == theirs.to_bits() || (value.is_nan() && from_bits(ours).is_nan()),
                    "{value:?}"
                );
            }
        }
    }
}
