//! The safetensors directory: a length, a JSON header, then the data. Read here because the crate's reader wants the whole
//! file in memory.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Dtype, Entry, Source};

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

pub(super) fn directory(source: &Source<'_>) -> Result<BTreeMap<String, Entry>, String> {
    let length = source.read(0, 8)?.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
    let header = source.read(8, length)?;
    let header: BTreeMap<String, Value> =
        serde_json::from_slice(&header).map_err(|error| format!("safetensors header: {error}"))?;
    let data = 8 + length;
    let mut entries = BTreeMap::new();
    for (name, info) in header {
        if name == "__metadata__" {
            continue;
        }
        let entry =
            entry(info, data, source.len).map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        entries.insert(name, entry);
    }
    Ok(entries)
}

fn entry(info: Value, data: u64, file_len: u64) -> Result<Entry, String> {
    let info: Info = serde_json::from_value(info).map_err(|error| error.to_string())?;
    let (start, end) = info.data_offsets;
    if start > end || data.checked_add(end).is_none_or(|end| end > file_len) {
        return Err("its data lies beyond the end of the file".to_owned());
    }
    let dtype = dtype(&info.dtype)
        .ok_or_else(|| format!("element type {} is not supported", info.dtype))?;
    let strides = row_major(&info.shape);
    let entry = Entry::view(dtype, info.shape, strides, 0, data + start, end - start)?;
    // `view` has checked that the elements fit; here they must fill their place as well.
    if entry.count() as u64 * dtype.bytes() != end - start {
        return Err(format!("{} bytes do not make the shape {:?}", end - start, entry.shape));
    }
    Ok(entry)
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i]);
    }
    strides
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "F64" => Dtype::F64,
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "I64" => Dtype::I64,
        "I32" => Dtype::I32,
        "I16" => Dtype::I16,
        "I8" => Dtype::I8,
        "U8" => Dtype::U8,
        "BOOL" => Dtype::Bool,
        _ => return None,
    })
}
