//! Weights in their stored formats, and the one product the model needs of them.
//!
//! **Promise.** [`Linear::forward`] gives every row the same bits alone and among any others, with any number of threads and
//! on every instruction set. **Must never know** which layer a matrix belongs to.

use crate::kernels::{Pool, matmul_nt};

/// A matrix (out, in) with an optional bias (out), in one of the stored formats.
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
}

impl Linear {
    /// A matrix of f32 weights (out, in), row-major, with an optional bias (out).
    ///
    /// # Panics
    /// When a length does not match its shape; the loader has checked the shapes of tensors before.
    pub fn from_f32(weight: Vec<f32>, bias: Option<Vec<f32>>, out: usize, inputs: usize) -> Self {
        assert_eq!(weight.len(), out * inputs, "weight has the shape (out, in)");
        assert!(
            bias.as_ref().is_none_or(|b| b.len() == out),
            "one bias by output"
        );
        Self::F32 {
            weight,
            bias,
            out,
            inputs,
        }
    }

    /// Number of outputs.
    pub fn out(&self) -> usize {
        match self {
            Self::F32 { out, .. } => *out,
        }
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        match self {
            Self::F32 { inputs, .. } => *inputs,
        }
    }

    /// Bytes of the weights as held in memory, read once by every forward.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32 { weight, .. } => weight.len() * 4,
        }
    }

    /// `y = x weight^T + bias` for `rows` rows: x (rows, in), y (rows, out), row-major.
    ///
    /// # Panics
    /// When a length does not match its shape.
    pub fn forward(&self, x: &[f32], rows: usize, y: &mut [f32], pool: &Pool) {
        match self {
            Self::F32 {
                weight,
                bias,
                out,
                inputs,
            } => {
                matmul_nt(x, weight, bias.as_deref(), y, rows, *out, *inputs, pool);
            }
        }
    }
}
