//! The 4-bit format: 128 consecutive inputs of an output share a scale and a zero, as torchao's `int4_weight_only` has them.
//!
//! Every step of [`quantise_group`] is rounded to bf16, so codes, scales and zeros are those of the reference to the bit
//! (`tests/conformance/golden/transformer/int4.safetensors`). A code stands for `(code - 8) * scale + zero`, rounded to bf16
//! after the product and after the sum.
//!
//! **Layout.** The 64 bytes of a group hold two halves of 64 weights, 32 bytes each; the low nibbles of a half are its first
//! 32 weights, the high nibbles the others. Within 32 weights the weight `8 v + d` stands in byte
//! `v / 2 * 8 + v % 2 + d / 4 * 16 + d % 4 * 2`, which is the order in which AVX2 unpacks bytes to lanes.
#![expect(unsafe_code, reason = "quantising is compiled once for each instruction set")]

use super::bf16;
use super::bytes::Bytes;
use crate::kernels::for_each_isa;

/// Weights that share a scale and a zero.
pub const GROUP: usize = 128;
/// Bytes of the codes of a group.
pub const GROUP_BYTES: usize = GROUP / 2;

/// A matrix (out, inputs) of 4-bit codes. `inputs` is a multiple of [`GROUP`].
#[derive(Debug, Clone)]
pub struct Int4Matrix {
    /// (out, inputs / 128, 64), see the layout above.
    pub(crate) codes: Bytes,
    /// bf16 (out, inputs / 128).
    pub(crate) scales: Bytes,
    /// bf16 (out, inputs / 128).
    pub(crate) zeros: Bytes,
    /// Outputs.
    pub(crate) out: usize,
    /// Inputs.
    pub(crate) inputs: usize,
}

/// Whether a matrix of so many inputs has a 4-bit form; others stay in bf16, as in the reference.
pub fn fits(inputs: usize) -> bool {
    inputs > 0 && inputs.is_multiple_of(GROUP)
}

impl Int4Matrix {
    /// Quantises weights (out, inputs), row-major; they are rounded to bf16 first.
    ///
    /// # Panics
    /// When the length does not match the shape or `inputs` is not a multiple of 128.
    pub fn quantise(weights: &[f32], out: usize, inputs: usize) -> Self {
        assert!(fits(inputs), "inputs come in groups of {GROUP}");
        assert_eq!(weights.len(), out * inputs, "weight has the shape (out, in)");
        let groups = weights.len() / GROUP;
        let (mut codes, mut scales, mut zeros) = (
            Vec::with_capacity(groups * GROUP_BYTES),
            Vec::with_capacity(groups * 2),
            Vec::with_capacity(groups * 2),
        );
        for row in weights.chunks(inputs) {
            let mut packed = vec![PackedGroup::default(); inputs / GROUP];
            quantise_groups(row, &mut packed);
            for group in packed {
                codes.extend(group.codes);
                scales.extend(group.scale.to_le_bytes());
                zeros.extend(group.zero.to_le_bytes());
            }
        }
        Self { codes: codes.into(), scales: scales.into(), zeros: zeros.into(), out, inputs }
    }

    /// A matrix from its stored parts.
    ///
    /// # Errors
    /// Names the part whose length is not the one that the shape implies.
    pub fn from_parts(
        codes: Bytes,
        scales: Bytes,
        zeros: Bytes,
        out: usize,
        inputs: usize,
    ) -> Result<Self, String> {
        if !fits(inputs) {
            return Err(format!("{inputs} inputs are not a multiple of {GROUP}"));
        }
        let groups = out * inputs / GROUP;
        for (part, bytes, expected) in [
            ("codes", &codes, groups * GROUP_BYTES),
            ("scales", &scales, groups * 2),
            ("zeros", &zeros, groups * 2),
        ] {
            if bytes.len() != expected {
                return Err(format!(
                    "the {part} have {} bytes, ({out}, {inputs}) implies {expected}",
                    bytes.len()
                ));
            }
        }
        Ok(Self { codes, scales, zeros, out, inputs })
    }

    /// Bytes read for one product.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len() + self.zeros.len()
    }

    /// The codes of row `o`, one by weight.
    pub fn row_codes(&self, o: usize) -> Vec<u8> {
        let groups = self.inputs / GROUP;
        let row = &self.codes[o * groups * GROUP_BYTES..(o + 1) * groups * GROUP_BYTES];
        row.as_chunks::<GROUP_BYTES>().0.iter().flat_map(unpack).collect()
    }

    /// Dequantises row `o` into `to` (inputs).
    ///
    /// # Panics
    /// When the row does not exist or `to` has another length.
    pub fn dequantise_row(&self, o: usize, to: &mut [f32]) {
        assert!(o < self.out && to.len() == self.inputs, "a row of the matrix");
        let first = o * self.inputs / GROUP;
        for (g, values) in to.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let bytes = &self.codes[(first + g) * GROUP_BYTES..][..GROUP_BYTES];
            let table = table(bf16::at(&self.scales, first + g), bf16::at(&self.zeros, first + g));
            for (j, value) in values.iter_mut().enumerate() {
                let (byte, shift) = place(j);
                *value = table[usize::from(bytes[byte] >> shift & 15)];
            }
        }
    }
}

/// Codes of a group with their scale and zero (bf16 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantisedGroup {
    /// 0 to 15, one by weight.
    pub codes: [u8; GROUP],
    /// bf16 bits.
    pub scale: u16,
    /// bf16 bits; the value of code 8.
    pub zero: u16,
}

/// Quantises one group by the formulas of the reference, every step rounded to bf16.
#[inline(always)]
pub fn quantise_group(weights: &[f32; GROUP]) -> QuantisedGroup {
    let weights = weights.map(bf16::round);
    let (mut low, mut high) = (weights[0], weights[0]);
    for w in weights {
        low = if w < low { w } else { low };
        high = if w > high { w } else { high };
    }
    let least = bf16::round(1e-6);
    let scale = bf16::round(bf16::round(high - low) / 15.0);
    let scale = if scale < least { least } else { scale };
    let zero = bf16::round(low + bf16::round(scale * 8.0));
    // The lowest value as it can be stored, not as it was.
    let low = bf16::round(zero - bf16::round(scale * 8.0));
    let codes = weights.map(|w| {
        let steps = bf16::round(bf16::round(w - low) / scale);
        steps.round_ties_even().clamp(0.0, 15.0) as u8
    });
    QuantisedGroup { codes, scale: bf16::to_bits(scale), zero: bf16::to_bits(zero) }
}

/// A quantised group as it is stored.
#[derive(Debug, Clone, Copy)]
struct PackedGroup {
    /// In the layout of `int4`.
    codes: [u8; GROUP_BYTES],
    /// bf16 bits.
    scale: u16,
    /// bf16 bits.
    zero: u16,
}

impl Default for PackedGroup {
    fn default() -> Self {
        Self { codes: [0; GROUP_BYTES], scale: 0, zero: 0 }
    }
}

for_each_isa! {
    /// Quantises whole groups of weights, one for each element of `to`.
    fn quantise_groups(weights: &[f32], to: &mut [PackedGroup]) {
        let (groups, rest) = weights.as_chunks::<GROUP>();
        assert!(groups.len() == to.len() && rest.is_empty(), "one packed group for each 128 weights");
        for (group, to) in groups.iter().zip(to) {
            let QuantisedGroup { codes, scale, zero } = quantise_group(group);
            *to = PackedGroup { codes: pack(&codes), scale, zero };
        }
    }
}

/// The values of the sixteen codes, all of them bf16.
#[inline(always)]
pub fn table(scale: u16, zero: u16) -> [f32; 16] {
    let (scale, zero) = (bf16::from_bits(scale), bf16::from_bits(zero));
    std::array::from_fn(|code| bf16::round(bf16::round((code as f32 - 8.0) * scale) + zero))
}

/// Byte and shift of weight `j` of a group.
#[inline(always)]
fn place(j: usize) -> (usize, usize) {
    let (half, within) = (j / 64, j % 64);
    let (v, d) = (within % 32 / 8, within % 8);
    let byte = half * 32 + v / 2 * 8 + v % 2 + d / 4 * 16 + d % 4 * 2;
    (byte, within / 32 * 4)
}

/// Codes, one by weight, to the stored layout.
#[inline(always)]
pub fn pack(codes: &[u8; GROUP]) -> [u8; GROUP_BYTES] {
    let mut bytes = [0; GROUP_BYTES];
    for (j, code) in codes.iter().enumerate() {
        let (byte, shift) = place(j);
        bytes[byte] |= code << shift;
    }
    bytes
}

/// The stored layout to codes, one by weight.
pub fn unpack(bytes: &[u8; GROUP_BYTES]) -> [u8; GROUP] {
    std::array::from_fn(|j| {
        let (byte, shift) = place(j);
        bytes[byte] >> shift & 15
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_a_bijection() {
        let codes: [u8; GROUP] = std::array::from_fn(|j| (j * 7 % 16) as u8);
        assert_eq!(unpack(&pack(&codes)), codes);
        let mut places: Vec<_> = (0..GROUP).map(place).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), GROUP);
    }

    #[test]
    fn a_constant_group_keeps_its_value_to_a_hundred_thousandth() {
        let group = quantise_group(&[0.5; GROUP]);
        assert!(group.codes.iter().all(|c| *c == 0));
        assert!((table(group.scale, group.zero)[0] - 0.5).abs() < 1e-5);
    }

    #[test]
    fn parts_of_a_wrong_length_are_named() {
        let matrix = Int4Matrix::quantise(&[0.25; 256], 2, 128);
        let Int4Matrix { codes, scales, .. } = matrix;
        let error = Int4Matrix::from_parts(codes, scales, vec![0; 3].into(), 2, 128).unwrap_err();
        assert!(error.contains("zeros") && error.contains('4'), "{error}");
    }
}
