//! Named tensors from weights files: `.safetensors`, and PyTorch's `.ckpt`/`.pt` in its zip and its older form.
//!
//! [`Checkpoint::open`] reads the directory of a file only; [`Checkpoint::read_f32`] reads one tensor's bytes when it is asked for,
//! so a file is never held in memory as a whole. The format is found by content. [`Tensors`] are those of a model folder, of one
//! safetensors file or many. Files are hostile until proven otherwise: no code is run, no length is believed before it is compared
//! with the file's own, and what is not understood is refused by name. This module knows nothing of any model.

mod entry;
mod pickle;
mod safetensors;
mod tensors;
mod torch;
mod zip;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use entry::{Dtype, Entry};
pub(crate) use safetensors::{NewTensor, header};
pub use tensors::{Tensors, weight_files};

use crate::error::LoadError;
use crate::files::{failed, malformed};
use entry::Source;

/// A weights file and its directory of tensors.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: File,
    entries: BTreeMap<String, Entry>,
}

impl Checkpoint {
    /// Reads the directory of a weights file of any known form.
    ///
    /// # Errors
    /// [`LoadError::File`] and [`LoadError::Format`].
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        Self::read(path, directory)
    }

    /// Reads the directory of a safetensors file.
    fn open_safetensors(path: &Path) -> Result<Self, LoadError> {
        Self::read(path, safetensors::directory)
    }

    fn read(
        path: &Path,
        directory: impl FnOnce(&Source<'_>) -> Result<BTreeMap<String, Entry>, String>,
    ) -> Result<Self, LoadError> {
        let file = File::open(path).map_err(failed(path))?;
        let len = file.metadata().map_err(failed(path))?.len();
        let entries = directory(&Source { file: &file, len });
        let entries = entries.map_err(|reason| malformed(path, reason))?;
        Ok(Self { path: path.to_owned(), file, entries })
    }

    /// All tensors by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// One tensor's elements in row-major order of its shape, as f32. Integers are converted too: whether a type is
    /// acceptable is the caller's decision, see [`Entry::dtype`].
    ///
    /// # Errors
    /// [`LoadError::Tensor`] when no tensor has that name, [`LoadError::File`] when reading fails.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        let (entry, bytes) = self.bytes_of(name)?;
        if !entry.is_row_major() {
            return Ok(entry.gather(&bytes).map(|v| v as f32).collect());
        }
        let mut values = Vec::with_capacity(entry.count());
        entry.dtype.append_f32(&bytes, &mut values);
        Ok(values)
    }

    /// One tensor's elements in row-major order as f64, for integer tensors.
    ///
    /// # Errors
    /// As [`Self::read_f32`].
    pub fn read_f64(&self, name: &str) -> Result<Vec<f64>, LoadError> {
        let (entry, bytes) = self.bytes_of(name)?;
        Ok(entry.gather(&bytes).collect())
    }

    fn bytes_of(&self, name: &str) -> Result<(&Entry, Vec<u8>), LoadError> {
        let entry = self.entries.get(name).ok_or_else(|| LoadError::Tensor {
            name: name.to_owned(),
            reason: "it is missing".to_owned(),
        })?;
        let mut bytes = vec![0; entry.bytes()];
        self.read_exact_at(&mut bytes, entry.start)?;
        Ok((entry, bytes))
    }

    fn read_exact_at(&self, to: &mut [u8], start: u64) -> Result<(), LoadError> {
        self.file.read_exact_at(to, start).map_err(failed(&self.path))
    }
}

fn directory(source: &Source<'_>) -> Result<BTreeMap<String, Entry>, String> {
    let head = source.read(0, source.len.min(16))?;
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return torch::zipped(source);
    }
    if head.get(8) == Some(&b'{') {
        return safetensors::directory(source);
    }
    if head.first() == Some(&0x80) {
        return torch::legacy(source);
    }
    Err("it is neither safetensors nor a PyTorch file (zip or pickle)".to_owned())
}
