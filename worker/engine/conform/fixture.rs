//! Recorded tensors and JSON files.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::checkpoint::Checkpoint;

/// A tensor file of the fixtures.
pub(super) struct Fixture {
    pub(super) tensors: Checkpoint,
}

/// A tensor with its shape.
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f64>,
}

impl Fixture {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        Checkpoint::open(path).map(|tensors| Self { tensors }).map_err(|error| error.to_string())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.entries().keys().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.entries().contains_key(name)
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, String> {
        let data = self.tensors.read_f64(name).map_err(|error| error.to_string())?;
        Ok(Tensor { shape: self.tensors.entries()[name].shape.clone(), data })
    }

    /// The values of a tensor.
    pub(super) fn f32(&self, name: &str) -> Result<Vec<f32>, String> {
        Ok(self.tensor(name)?.f32())
    }

    /// All names' parts before the first dot, in order, each once.
    pub(super) fn prefixes(&self) -> Vec<&str> {
        let prefixes = self.names().filter_map(|name| Some(name.split_once('.')?.0));
        let mut prefixes: Vec<&str> = prefixes.collect();
        prefixes.dedup();
        prefixes
    }
}

impl Tensor {
    pub(super) fn f32(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }

    /// Token ids, as rows of the last dimension.
    pub(super) fn id_rows(&self) -> Vec<Vec<u32>> {
        let width = self.shape.last().copied().unwrap_or(1).max(1);
        self.data.chunks(width).map(|row| row.iter().map(|id| *id as u32).collect()).collect()
    }
}

/// Reads a JSON file of the folder.
pub(super) fn json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T, String> {
    let text = std::fs::read(dir.join(name)).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))
}
