//! Named tensors from a weights file: `.safetensors`, and PyTorch's `.ckpt`/`.pt` in its zip and its older form.
//!
//! [`Checkpoint::open`] reads the directory of tensors only; [`Checkpoint::read_f32`] reads one tensor's bytes when it is asked for,
//! so a file is never held in memory as a whole. The format is found by content. Files are hostile until proven otherwise: no
//! code is run, no length is believed before it is compared with the file's own, and what is not understood is refused by name.
//! This module knows nothing of any model.

mod pickle;
mod safetensors;
pub mod tensors;
#[cfg(test)]
mod tests;
mod torch;
pub(crate) mod write;
mod zip;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a weights file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be opened or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is damaged, or of a form that is not understood.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor is missing or cannot be read.
    #[error("{path}: tensor `{name}`: {reason}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes an element.
    pub fn bytes(self) -> u64 {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// Whether it holds real numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// One element as f64; exact for every type but I64 beyond 2^53.
    fn value(self, b: &[u8]) -> f64 {
        match self {
            Dtype::F64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            Dtype::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
            Dtype::F16 => half::f16::from_le_bytes([b[0], b[1]]).into(),
            Dtype::Bf16 => half::bf16::from_le_bytes([b[0], b[1]]).into(),
            Dtype::I64 => {
                i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f64
            }
            Dtype::I32 => i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
            Dtype::I16 => i16::from_le_bytes([b[0], b[1]]).into(),
            Dtype::I8 => i8::from_le_bytes([b[0]]).into(),
            Dtype::U8 | Dtype::Bool => b[0].into(),
        }
    }
}

/// Where a tensor's elements lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Element type.
    pub dtype: Dtype,
    /// Lengths of the dimensions.
    pub shape: Vec<usize>,
    /// Distance between neighbours of each dimension, in elements.
    strides: Vec<usize>,
    /// Byte of the file at which the view's first element lies.
    start: u64,
    /// Elements from the first to the last, both included; 0 for an empty tensor.
    span: usize,
}

impl Entry {
    /// A checked view: `offset`, `strides` and `shape` in elements of a storage of `storage_bytes` at `storage_start`.
    fn view(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage_start: u64,
        storage_bytes: u64,
    ) -> Result<Self, String> {
        if shape.len() != strides.len() || shape.len() > 8 {
            return Err(format!("{} dimensions with {} strides", shape.len(), strides.len()));
        }
        let capacity = storage_bytes / dtype.bytes();
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let last = shape.iter().zip(&strides).try_fold(0u64, |last, (&d, &s)| {
            last.checked_add((d as u64).saturating_sub(1).checked_mul(s as u64)?)
        });
        let (Some(count), Some(last)) = (count, last) else {
            return Err(format!("the shape {shape:?} overflows"));
        };
        let span = if count == 0 { 0 } else { last.saturating_add(1) };
        let end = span.checked_add(offset as u64);
        // A view may name an element twice, but not more elements than the storage has: nobody stores weights expanded,
        // and a few bytes must not ask for terabytes.
        if count > capacity || end.is_none_or(|end| count > 0 && end > capacity) {
            return Err(format!(
                "the view {shape:?} with strides {strides:?} does not fit its storage of {capacity} elements"
            ));
        }
        // The offset of an empty tensor means nothing, and may be anything.
        let start =
            if count == 0 { storage_start } else { storage_start + offset as u64 * dtype.bytes() };
        Ok(Self { dtype, shape, strides, start, span: span as usize })
    }

    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A weights file and its directory of tensors.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: File,
    entries: BTreeMap<String, Entry>,
}

/// Bytes of a header, directory or pickle that are read at most.
const DIRECTORY_LIMIT_BYTES: u64 = 64 << 20;

impl Checkpoint {
    /// Reads the directory of a weights file of any known form.
    ///
    /// # Errors
    /// [`CheckpointError::File`] and [`CheckpointError::Format`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let fail = |source| CheckpointError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        let source = Source { file: &file, len };
        let format = |reason| CheckpointError::Format { path: path.to_owned(), reason };
        let entries = directory(&source).map_err(format)?;
        Ok(Self { path: path.to_owned(), file, entries })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// One tensor's elements in row-major order of its shape, as f32. Integers are converted too: whether a type is
    /// acceptable is the caller's decision, see [`Entry::dtype`].
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] when there is none of that name, [`CheckpointError::File`] when reading fails.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let (entry, bytes) = self.bytes_of(name)?;
        if entry.dtype == Dtype::F32 && entry.span == entry.count() && is_row_major(entry) {
            return Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect());
        }
        Ok(gather(entry, &bytes).map(|v| v as f32).collect())
    }

    /// One tensor's elements in row-major order as f64, for integer tensors.
    ///
    /// # Errors
    /// As [`Self::read_f32`].
    pub fn read_f64(&self, name: &str) -> Result<Vec<f64>, CheckpointError> {
        let (entry, bytes) = self.bytes_of(name)?;
        Ok(gather(entry, &bytes).collect())
    }

    fn bytes_of(&self, name: &str) -> Result<(&Entry, Vec<u8>), CheckpointError> {
        let Some(entry) = self.entries.get(name) else {
            let reason = "it is not in the file".to_owned();
            return Err(CheckpointError::Tensor {
                path: self.path.clone(),
                name: name.to_owned(),
                reason,
            });
        };
        let mut bytes = vec![0; entry.span * entry.dtype.bytes() as usize];
        let fail = |source| CheckpointError::File { path: self.path.clone(), source };
        self.file.read_exact_at(&mut bytes, entry.start).map_err(fail)?;
        Ok((entry, bytes))
    }
}

fn is_row_major(entry: &Entry) -> bool {
    let mut expected = 1;
    entry.shape.iter().zip(&entry.strides).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected *= d;
        fits
    })
}

/// The elements in row-major order of the shape.
fn gather<'a>(entry: &'a Entry, bytes: &'a [u8]) -> impl Iterator<Item = f64> + 'a {
    let size = entry.dtype.bytes() as usize;
    let mut index = vec![0; entry.shape.len()];
    (0..entry.count()).map(move |_| {
        let at: usize = index.iter().zip(&entry.strides).map(|(i, s)| i * s).sum();
        for (i, &d) in index.iter_mut().zip(&entry.shape).rev() {
            *i += 1;
            if *i < d {
                break;
            }
            *i = 0;
        }
        entry.dtype.value(&bytes[at * size..(at + 1) * size])
    })
}

/// An open file of known length.
struct Source<'a> {
    file: &'a File,
    len: u64,
}

impl Source<'_> {
    /// Bytes `[start, start + length)`; the length is compared with the file's before memory is taken.
    fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, String> {
        if start.checked_add(length).is_none_or(|end| end > self.len) {
            return Err(format!("{length} bytes at {start} lie beyond its end at {}", self.len));
        }
        if length > DIRECTORY_LIMIT_BYTES {
            return Err(format!(
                "a directory of {length} bytes is larger than the limit of {DIRECTORY_LIMIT_BYTES}"
            ));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| error.to_string())?;
        Ok(bytes)
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
