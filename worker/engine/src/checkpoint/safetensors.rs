//! The safetensors directory.

use std::collections::BTreeMap;

use ::safetensors::{Dtype as Stored, SafeTensors};

use super::{Dtype, Entry, Source};

pub(super) fn directory(source: &Source<'_>) -> Result<BTreeMap<String, Entry>, String> {
    let head = source.read(0, 8)?;
    let length = u64::from_le_bytes(
        head.try_into()
            .map_err(|_| "the file is too short".to_owned())?,
    );
    let header = source.read(
        0,
        length
            .checked_add(8)
            .ok_or("the header's length overflows")?,
    )?;
    let (_, metadata) = SafeTensors::read_metadata(&header)
        .map_err(|error| format!("safetensors header: {error}"))?;
    let data = length + 8;
    let mut entries = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let fail = |reason: String| format!("tensor `{name}`: {reason}");
        let (start, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        if data.checked_add(end).is_none_or(|end| end > source.len) || start > end {
            return Err(fail("its data lies beyond the end of the file".to_owned()));
        }
        let dtype = dtype(info.dtype)
            .ok_or_else(|| fail(format!("element type {:?} is not supported", info.dtype)))?;
        let strides = row_major(&info.shape);
        let entry = Entry::view(
            dtype,
            info.shape.clone(),
            strides,
            0,
            data + start,
            end - start,
        )
        .map_err(fail)?;
        entries.insert(name.clone(), entry);
    }
    Ok(entries)
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i]);
    }
    strides
}

fn dtype(stored: Stored) -> Option<Dtype> {
    Some(match stored {
        Stored::F64 => Dtype::F64,
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::I64 => Dtype::I64,
        Stored::I32 => Dtype::I32,
        Stored::I16 => Dtype::I16,
        Stored::I8 => Dtype::I8,
        Stored::U8 => Dtype::U8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}
