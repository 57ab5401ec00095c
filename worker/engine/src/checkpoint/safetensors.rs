//! The head of a safetensors file: a length and a JSON object that says each tensor's type, shape and place in the data behind it.
//!
//! It is read strictly: a name or key that occurs twice, tensors that overlap, and bytes that belong to no tensor are refused, so
//! two readers cannot see two different models in one file.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::entry::{Dtype, Entry, Source};

/// What the head says about one tensor.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    /// First byte, and the byte after the last; counted from the beginning of the data.
    data_offsets: (u64, u64),
}

/// The tensors by name.
struct Head(BTreeMap<String, Info>);

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Tensors)
    }
}

struct Tensors;

impl<'de> Visitor<'de> for Tensors {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a member for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Head, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = members.next_key::<String>()? {
            if name == "__metadata__" {
                members.next_value::<IgnoredAny>()?;
            } else if tensors.insert(name.clone(), members.next_value()?).is_some() {
                return Err(A::Error::custom(format!("tensor `{name}` is described twice")));
            }
        }
        Ok(Head(tensors))
    }
}

/// All tensors of a file.
pub(super) fn directory(source: &Source<'_>) -> Result<BTreeMap<String, Entry>, String> {
    let length = source.u64_at(0)?;
    let head = source.read(8, length)?;
    let Head(infos) =
        serde_json::from_slice(&head).map_err(|error| format!("safetensors header: {error}"))?;
    let data = 8 + length;
    let mut places: Vec<_> =
        infos.iter().map(|(name, info)| (info.data_offsets, name.clone())).collect();
    let mut entries = BTreeMap::new();
    for (name, info) in infos {
        let entry =
            entry(info, data, source.len).map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        entries.insert(name, entry);
    }
    places.sort_unstable();
    let mut filled = 0;
    for ((start, end), name) in places {
        if start != filled {
            let what =
                if start < filled { "overlaps the tensor before it" } else { "leaves a gap" };
            return Err(format!(
                "tensor `{name}`: it begins at byte {start} of the data and {what}, which ends at {filled}"
            ));
        }
        filled = end;
    }
    if data + filled != source.len {
        return Err(format!("{} bytes at its end belong to no tensor", source.len - data - filled));
    }
    Ok(entries)
}

fn entry(info: Info, data: u64, file_len: u64) -> Result<Entry, String> {
    let (start, end) = info.data_offsets;
    if start > end || data.checked_add(end).is_none_or(|end| end > file_len) {
        return Err("its data lies beyond the end of the file".to_owned());
    }
    let dtype = Dtype::of_name(&info.dtype)
        .ok_or_else(|| format!("element type {} is not supported", info.dtype))?;
    Entry::packed(dtype, info.shape, data + start, end - start)
}

/// A tensor of a file that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewTensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

/// The head of a file whose tensors follow in this order without gaps.
pub(crate) fn header(tensors: &[NewTensor]) -> Vec<u8> {
    let mut json = serde_json::Map::new();
    let mut offset = 0;
    for NewTensor { name, dtype, shape } in tensors {
        let end = offset + shape.iter().product::<usize>() as u64 * dtype.bytes();
        let info = json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [offset, end]});
        json.insert(name.clone(), info);
        offset = end;
    }
    let mut text = serde_json::Value::Object(json).to_string();
    // The data begins at a multiple of eight.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
