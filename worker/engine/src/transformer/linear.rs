//! Loading of a named matrix in the format that the options ask for, and names of stored 4-bit parts.

use crate::checkpoint::{Dtype, Tensors};
use crate::error::LoadError;
use crate::quant::Weights;
use crate::quant::int4::{GROUP, GROUP_BYTES, fits};
use crate::quant::{Bytes, Int4Matrix, Linear, bf16};

/// Suffixes of the three tensors that stand for a quantised `{name}.weight`.
pub(crate) const CODES: &str = "int4_codes";
/// bf16 scale of each group of a row.
pub(crate) const SCALES: &str = "int4_scales";
/// bf16 zero of each group of a row.
pub(crate) const ZEROS: &str = "int4_zeros";

/// Loads `{name}.weight` of shape (out, inputs) and, when `bias`, `{name}.bias`.
///
/// # Errors
/// A tensor is missing or of a wrong shape or type, or the file holds 4 bits and more are asked for.
pub(super) fn load(
    tensors: &Tensors,
    name: &str,
    (out, inputs): (usize, usize),
    bias: bool,
    format: Weights,
) -> Result<Linear, LoadError> {
    let weight = format!("{name}.weight");
    let bias =
        if bias { Some(vector(tensors, &format!("{name}.bias"), &[out], format)?) } else { None };
    if tensors.has(&format!("{weight}.{CODES}")) {
        if format != Weights::Int4 {
            let reason = format!(
                "it is stored in 4 bits and cannot be read as {}; choose int4",
                format.as_str()
            );
            return Err(LoadError::Tensor { name: weight, reason });
        }
        return stored(tensors, &weight, out, inputs).map(|matrix| Linear::from_int4(matrix, bias));
    }
    let shape = [out, inputs];
    Ok(match format {
        Weights::F32 => Linear::from_f32(tensors.floats(&weight, &shape)?, bias, out, inputs),
        Weights::Int4 if fits(inputs) => {
            Linear::int4_from_f32(&tensors.floats(&weight, &shape)?, bias, out, inputs)
        }
        Weights::Bf16 | Weights::Int4 => {
            Linear::from_bf16_bytes(tensors.bf16_rows(&weight, &shape, 0..out)?, bias, out, inputs)
        }
    })
}

/// Loads a small tensor that is held as f32: exactly, or rounded to bf16 where the model's weights are bf16.
pub(super) fn vector(
    tensors: &Tensors,
    name: &str,
    shape: &[usize],
    format: Weights,
) -> Result<Vec<f32>, LoadError> {
    let mut values = tensors.floats(name, shape)?;
    if format != Weights::F32 {
        values.iter_mut().for_each(|value| *value = bf16::round(*value));
    }
    Ok(values)
}

fn stored(
    tensors: &Tensors,
    weight: &str,
    out: usize,
    inputs: usize,
) -> Result<Int4Matrix, LoadError> {
    let groups = inputs / GROUP;
    let part = |suffix: &str, dtype: Dtype, width: usize| -> Result<Bytes, LoadError> {
        tensors.raw(&format!("{weight}.{suffix}"), dtype, &[out, width])
    };
    let codes = part(CODES, Dtype::U8, groups * GROUP_BYTES)?;
    let (scales, zeros) = (part(SCALES, Dtype::Bf16, groups)?, part(ZEROS, Dtype::Bf16, groups)?);
    Int4Matrix::from_parts(codes, scales, zeros, out, inputs)
        .map_err(|reason| LoadError::Tensor { name: weight.to_owned(), reason })
}

/// Rows of tokens, looked up by id.
#[derive(Debug)]
pub(super) enum Embedding {
    /// (vocabulary, hidden)
    F32(Vec<f32>),
    /// (vocabulary, hidden), little-endian.
    Bf16(Bytes),
}

impl Embedding {
    pub(super) fn load(
        tensors: &Tensors,
        name: &str,
        shape: [usize; 2],
        format: Weights,
    ) -> Result<Self, LoadError> {
        Ok(match format {
            Weights::F32 => Self::F32(tensors.floats(name, &shape)?),
            Weights::Bf16 | Weights::Int4 => {
                Self::Bf16(tensors.bf16_rows(name, &shape, 0..shape[0])?)
            }
        })
    }

    /// Appends the row of a token.
    pub(super) fn append(&self, token: u32, width: usize, to: &mut Vec<f32>) {
        let at = token as usize * width;
        match self {
            Self::F32(values) => to.extend_from_slice(&values[at..at + width]),
            Self::Bf16(bytes) => {
                let (pairs, _) = bytes[2 * at..2 * (at + width)].as_chunks::<2>();
                to.extend(pairs.iter().map(|pair| bf16::from_bits(u16::from_le_bytes(*pair))));
            }
        }
    }
}
