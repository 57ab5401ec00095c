//! Loading of a named matrix in the format that the options ask for.

use crate::error::LoadError;
use crate::quant::Linear;
use crate::weights::Tensors;

/// Loads `{name}.weight` of shape (out, inputs) and, when `bias`, `{name}.bias`.
///
/// # Errors
/// A tensor is missing or of a wrong shape or type.
pub(super) fn load(tensors: &Tensors, name: &str, out: usize, inputs: usize, bias: bool) -> Result<Linear, LoadError> {
    let weight = tensors.floats(&format!("{name}.weight"), &[out, inputs])?;
    let bias = if bias { Some(tensors.floats(&format!("{name}.bias"), &[out])?) } else { None };
    Ok(Linear::from_f32(weight, bias, out, inputs))
}
