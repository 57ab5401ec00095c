//! A matrix with an optional bias, in one of the stored formats.

use super::bf16;
use super::bytes::Bytes;
use super::cpu::Bf16Matrix;
use super::int4::Int4Matrix;
use crate::kernels::{Pool, matmul_nt, panel};

/// A matrix (out, in) with an optional bias (out), in one of the stored formats.
///
/// Weights are widened to f32 exactly as stored and multiplied with f32 rows; nothing is rounded on the way.
#[derive(Debug, Clone)]
pub enum Linear {
    /// Weights as f32.
    F32 {
        /// (out, in), row-major.
        weight: Vec<f32>,
        /// (out), when the layer has one.
        bias: Option<Vec<f32>>,
        /// Outputs.
        out: usize,
        /// Inputs.
        inputs: usize,
    },
    /// Weights as bf16.
    Bf16 {
        /// (out, in), row-major, two little-endian bytes each.
        weight: Bytes,
        /// (out), when the layer has one.
        bias: Option<Vec<f32>>,
        /// Outputs.
        out: usize,
        /// Inputs.
        inputs: usize,
    },
    /// Weights as 4-bit codes in groups of 128.
    Int4 {
        /// The codes with their scales and zeros.
        weight: Int4Matrix,
        /// (out), when the layer has one.
        bias: Option<Vec<f32>>,
    },
}

impl Linear {
    /// A matrix of f32 weights (out, in), row-major, with an optional bias (out).
    ///
    /// # Panics
    /// When a length does not match its shape; the loader has checked the shapes of tensors before.
    pub fn from_f32(weight: Vec<f32>, bias: Option<Vec<f32>>, out: usize, inputs: usize) -> Self {
        check(weight.len(), bias.as_deref(), out, inputs);
        Self::F32 { weight, bias, out, inputs }
    }

    /// As [`Self::from_f32`], held as bf16: weights are rounded to it, which changes nothing when they come from bf16.
    ///
    /// # Panics
    /// As [`Self::from_f32`].
    pub fn bf16_from_f32(
        weight: &[f32],
        bias: Option<Vec<f32>>,
        out: usize,
        inputs: usize,
    ) -> Self {
        check(weight.len(), bias.as_deref(), out, inputs);
        Self::Bf16 { weight: bf16::pack(weight).into(), bias, out, inputs }
    }

    /// As [`Self::from_f32`], quantised to 4 bits; bf16 when `inputs` is not a multiple of 128, as in the reference.
    ///
    /// # Panics
    /// As [`Self::from_f32`].
    pub fn int4_from_f32(
        weight: &[f32],
        bias: Option<Vec<f32>>,
        out: usize,
        inputs: usize,
    ) -> Self {
        if !super::int4::fits(inputs) {
            return Self::bf16_from_f32(weight, bias, out, inputs);
        }
        check(weight.len(), bias.as_deref(), out, inputs);
        Self::Int4 { weight: Int4Matrix::quantise(weight, out, inputs), bias }
    }

    /// bf16 weights (out, in) as stored in a file.
    ///
    /// # Panics
    /// As [`Self::from_f32`].
    pub fn from_bf16_bytes(
        weight: Bytes,
        bias: Option<Vec<f32>>,
        out: usize,
        inputs: usize,
    ) -> Self {
        check(weight.len() / 2, bias.as_deref(), out, inputs);
        Self::Bf16 { weight, bias, out, inputs }
    }

    /// Stored 4-bit weights.
    ///
    /// # Panics
    /// When the bias does not have one entry for each output.
    pub fn from_int4(weight: Int4Matrix, bias: Option<Vec<f32>>) -> Self {
        assert!(bias.as_ref().is_none_or(|b| b.len() == weight.out), "one bias by output");
        Self::Int4 { weight, bias }
    }

    /// Number of outputs.
    pub fn out(&self) -> usize {
        match self {
            Self::F32 { out, .. } | Self::Bf16 { out, .. } => *out,
            Self::Int4 { weight, .. } => weight.out,
        }
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        match self {
            Self::F32 { inputs, .. } | Self::Bf16 { inputs, .. } => *inputs,
            Self::Int4 { weight, .. } => weight.inputs,
        }
    }

    /// Bytes of the weights, read once by every forward of up to 64 rows.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32 { weight, .. } => weight.len() * 4,
            Self::Bf16 { weight, .. } => weight.len(),
            Self::Int4 { weight, .. } => weight.bytes(),
        }
    }

    /// `y = x weight^T + bias` for `rows` rows: x (rows, in), y (rows, out), row-major.
    ///
    /// Every row gets the same bits alone and among any others.
    ///
    /// # Panics
    /// When a length does not match its shape.
    pub fn forward(&self, x: &[f32], rows: usize, y: &mut [f32], pool: &Pool) {
        match self {
            Self::F32 { weight, bias, out, inputs } => {
                matmul_nt(x, weight, bias.as_deref(), y, rows, *out, *inputs, pool);
            }
            Self::Bf16 { weight, bias, out, inputs } => {
                let matrix = Bf16Matrix { bytes: weight, k: *inputs };
                panel::product(&matrix, x, bias.as_deref(), y, rows, *out, *inputs, pool);
            }
            Self::Int4 { weight, bias } => {
                panel::product(
                    weight,
                    x,
                    bias.as_deref(),
                    y,
                    rows,
                    weight.out,
                    weight.inputs,
                    pool,
                );
            }
        }
    }

    /// The weights of output `o` as f32, as [`Self::forward`] uses them.
    ///
    /// # Panics
    /// When there is no such output.
    pub fn row(&self, o: usize) -> Vec<f32> {
        use panel::Matrix;
        let mut row = vec![0.0; self.inputs()];
        match self {
            Self::F32 { weight, inputs, .. } => {
                row.copy_from_slice(&weight[o * inputs..][..*inputs])
            }
            Self::Bf16 { weight, inputs, .. } => {
                Bf16Matrix { bytes: weight, k: *inputs }.row(o, &mut row)
            }
            Self::Int4 { weight, .. } => weight.dequantise_row(o, &mut row),
        }
        row
    }
}

fn check(weights: usize, bias: Option<&[f32]>, out: usize, inputs: usize) {
    assert_eq!(weights, out * inputs, "weight has the shape (out, in)");
    assert!(bias.is_none_or(|b| b.len() == out), "one bias by output");
}

#[cfg(test)]
mod tests;
