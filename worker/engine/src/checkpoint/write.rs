//! The head of a safetensors file that is written as a stream.

use serde_json::json;

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
}

impl Entry {
    /// A tensor of an element type by its name in the format.
    pub(crate) fn new(name: &str, dtype: &'static str, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), dtype, shape: shape.to_vec() }
    }

    fn bytes(&self) -> usize {
        let element = match self.dtype {
            "U8" => 1,
            "BF16" => 2,
            _ => 4,
        };
        self.shape.iter().product::<usize>() * element
    }
}

/// Length and JSON of tensors that follow in this order without gaps.
pub(crate) fn header(entries: &[Entry]) -> Vec<u8> {
    let mut json = serde_json::Map::new();
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.bytes();
        let info =
            json!({"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [offset, end]});
        json.insert(entry.name.clone(), info);
        offset = end;
    }
    let mut text = serde_json::Value::Object(json).to_string();
    // The data begins at a multiple of eight.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
