//! Tensors of safetensors files, one or many. Shapes and element types are checked where they are asked for, and every error
//! names its tensor.
//!
//! What is converted is read in blocks, what is used as it lies is mapped: so that memory beside the result stays small.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::error::LoadError;
use crate::quant::{Bytes, bf16};

/// Elements converted at once.
const BLOCK: usize = 1 << 20;

/// The tensors of one checkpoint or one fixture file.
#[derive(Debug)]
pub struct Tensors {
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    map: Arc<Mmap>,
}

#[derive(Debug, Clone)]
struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Of the shard's bytes.
    range: Range<usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Tensors {
    /// The weights of a model folder: the files that `model.safetensors.index.json` names, else `model.safetensors`, else
    /// every `*.safetensors` file directly in the folder.
    ///
    /// # Errors
    /// There is none, or one cannot be read.
    pub fn of_model(dir: &Path) -> Result<Self, LoadError> {
        Self::open(weight_files(dir)?)
    }

    /// Maps the given files.
    ///
    /// # Errors
    /// A file cannot be read or is no safetensors file.
    pub fn open(paths: Vec<PathBuf>) -> Result<Self, LoadError> {
        let mut tensors = Self { shards: Vec::new(), entries: BTreeMap::new() };
        for path in paths {
            tensors.add(path)?;
        }
        Ok(tensors)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), LoadError> {
        let fail = |source| LoadError::File { path: path.clone(), source };
        let file = File::open(&path).map_err(fail)?;
        #[expect(
            unsafe_code,
            reason = "memory maps; model files are not changed while a worker runs"
        )]
        // SAFETY: the file is only read. One that is cut short while mapped ends the process, as for any mapped file.
        let map = unsafe { Mmap::map(&file) }.map_err(fail)?;
        let format = |reason: String| LoadError::Format { path: path.clone(), reason };
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| format(error.to_string()))?;
        let data = header + std::mem::size_of::<u64>();
        for (name, info) in metadata.tensors() {
            let range = data + info.data_offsets.0..data + info.data_offsets.1;
            let entry = Entry {
                shard: self.shards.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                range,
            };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(wrong(&name, "it stands in two files".to_owned()));
            }
        }
        self.shards.push(Shard { path, file, map: Arc::new(map) });
        Ok(())
    }

    /// The files behind it.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Shape of a tensor.
    ///
    /// # Errors
    /// It is missing.
    pub fn shape(&self, name: &str) -> Result<&[usize], LoadError> {
        Ok(&self.entry(name)?.shape)
    }

    /// A float tensor (f32, bf16 or f16) of exactly this shape, as f32, row-major.
    ///
    /// # Errors
    /// It is missing, has another shape or type, or holds a value that is not a finite number.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        self.float_rows(name, shape, 0..shape.first().copied().unwrap_or(1))
    }

    /// Rows (first dimension) of a float tensor of exactly this shape, as f32.
    ///
    /// # Errors
    /// As [`Self::floats`].
    pub fn float_rows(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> Result<Vec<f32>, LoadError> {
        let mut values = Vec::new();
        self.each_block(name, shape, rows, |block| values.extend_from_slice(block))?;
        Ok(values)
    }

    /// Rows of a float tensor of exactly this shape, as little-endian bf16: mapped when the file holds bf16, else rounded.
    ///
    /// # Errors
    /// As [`Self::floats`].
    pub fn bf16_rows(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> Result<Bytes, LoadError> {
        let mapped = self.checked(name, shape)?.dtype == Dtype::BF16;
        let mut packed = Vec::new();
        self.each_block(name, shape, rows.clone(), |block| {
            if !mapped {
                packed.extend(bf16::pack(block));
            }
        })?;
        if !mapped {
            return Ok(packed.into());
        }
        let (entry, range) = self.row_bytes(name, shape, rows)?;
        Ok(Bytes::mapped(Arc::clone(&self.shards[entry.shard].map), range))
    }

    /// A tensor of exactly this type and shape as it lies in the file, mapped.
    ///
    /// # Errors
    /// It is missing or has another shape or type.
    pub fn raw(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Bytes, LoadError> {
        let entry = self.entry(name)?;
        if entry.shape != shape || entry.dtype != dtype {
            let reason =
                format!("{:?} {:?}, expected {dtype:?} {shape:?}", entry.dtype, entry.shape);
            return Err(wrong(name, reason));
        }
        Ok(Bytes::mapped(Arc::clone(&self.shards[entry.shard].map), entry.range.clone()))
    }

    /// Any tensor of numbers with its shape, as f32 (integers rounded), without checks: for fixtures.
    ///
    /// # Errors
    /// It is missing or not numeric.
    pub fn any_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), LoadError> {
        let tensor = self.tensor(name)?;
        let values = tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
        Ok((tensor.dims().to_vec(), values.map_err(|error| wrong(name, error.to_string()))?))
    }

    /// A tensor of integers, as i64: for fixtures.
    ///
    /// # Errors
    /// It is missing or not numeric.
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), LoadError> {
        let tensor = self.tensor(name)?;
        let values = tensor.to_dtype(DType::I64).and_then(|t| t.flatten_all()?.to_vec1::<i64>());
        Ok((tensor.dims().to_vec(), values.map_err(|error| wrong(name, error.to_string()))?))
    }

    fn tensor(&self, name: &str) -> Result<Tensor, LoadError> {
        let entry = self.entry(name)?;
        let bytes = &self.shards[entry.shard].map[entry.range.clone()];
        let dtype = DType::try_from(entry.dtype).map_err(|error| wrong(name, error.to_string()))?;
        let tensor = Tensor::from_raw_buffer(bytes, dtype, &entry.shape, &Device::Cpu);
        tensor.map_err(|error| wrong(name, error.to_string()))
    }

    /// Calls `take` with the rows as f32, a block at a time, read beside the map so that no page of it is touched.
    fn each_block(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
        mut take: impl FnMut(&[f32]),
    ) -> Result<(), LoadError> {
        let (entry, range) = self.row_bytes(name, shape, rows)?;
        let dtype = DType::try_from(entry.dtype).map_err(|error| wrong(name, error.to_string()))?;
        let shard = &self.shards[entry.shard];
        let mut bytes = Vec::new();
        let mut at = range.start;
        while at < range.end {
            bytes.resize((range.end - at).min(BLOCK * dtype.size_in_bytes()), 0);
            let fail = |source| LoadError::File { path: shard.path.clone(), source };
            shard.file.read_exact_at(&mut bytes, at as u64).map_err(fail)?;
            let elements = bytes.len() / dtype.size_in_bytes();
            let values = Tensor::from_raw_buffer(&bytes, dtype, &[elements], &Device::Cpu)
                .and_then(|tensor| tensor.to_dtype(DType::F32)?.to_vec1::<f32>())
                .map_err(|error| wrong(name, error.to_string()))?;
            if let Some(i) = values.iter().position(|value| !value.is_finite()) {
                let element = (at - range.start) / dtype.size_in_bytes() + i;
                return Err(wrong(name, format!("element {element} is not a finite number")));
            }
            take(&values);
            at += bytes.len();
        }
        Ok(())
    }

    /// The bytes of some rows of a float tensor.
    fn row_bytes(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> Result<(&Entry, Range<usize>), LoadError> {
        let entry = self.checked(name, shape)?;
        let row = entry.range.len() / shape.first().copied().unwrap_or(1).max(1);
        let start = entry.range.start;
        Ok((entry, start + rows.start * row..start + rows.end * row))
    }

    fn checked(&self, name: &str, shape: &[usize]) -> Result<&Entry, LoadError> {
        let entry = self.entry(name)?;
        if entry.shape != shape {
            return Err(wrong(
                name,
                format!("the shape is {:?}, the configuration implies {shape:?}", entry.shape),
            ));
        }
        match entry.dtype {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => Ok(entry),
            other => Err(wrong(
                name,
                format!("the element type is {other:?}, expected F32, BF16 or F16"),
            )),
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry, LoadError> {
        self.entries.get(name).ok_or_else(|| wrong(name, "it is missing".to_owned()))
    }
}

fn wrong(name: &str, reason: String) -> LoadError {
    LoadError::Tensor { name: name.to_owned(), reason }
}

/// The weight files of a model folder, sorted by name.
///
/// # Errors
/// The folder holds none, or the index cannot be read.
pub fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let index = dir.join("model.safetensors.index.json");
    if index.exists() {
        let text = std::fs::read(&index)
            .map_err(|source| LoadError::File { path: index.clone(), source })?;
        let parsed: Index = serde_json::from_slice(&text).map_err(|error| LoadError::Format {
            path: index.clone(),
            reason: error.to_string(),
        })?;
        let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
        return Ok(names.into_iter().map(|name| dir.join(name)).collect());
    }
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let entries = std::fs::read_dir(dir)
        .map_err(|source| LoadError::File { path: dir.to_owned(), source })?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"))
        .filter(|path| {
            !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("movqgan"))
        })
        .collect();
    files.sort_unstable();
    if files.is_empty() {
        return Err(LoadError::Format {
            path: dir.to_owned(),
            reason: "no `*.safetensors` file in it".to_owned(),
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn write(path: &Path, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        safetensors::serialize_to_file([(name, view)], None, path).unwrap();
    }

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn shards_are_found_by_the_index_and_half_precision_is_widened() {
        let dir = tempfile::tempdir().unwrap();
        let bf16: Vec<u8> =
            [1.5f32, -2.0].iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        let f16: Vec<u8> =
            [0.25f32, 3.0].iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        write(&dir.path().join("a.safetensors"), "x", Dtype::BF16, &[2], &bf16);
        write(&dir.path().join("b.safetensors"), "y", Dtype::F16, &[2, 1], &f16);
        let index =
            r#"{"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        let tensors = Tensors::of_model(dir.path()).unwrap();
        assert_eq!(tensors.floats("x", &[2]).unwrap(), [1.5, -2.0]);
        assert_eq!(tensors.float_rows("y", &[2, 1], 1..2).unwrap(), [3.0]);
        assert_eq!(tensors.names(), ["x", "y"]);
    }

    #[test]
    fn a_wrong_tensor_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        write(&path, "w", Dtype::F32, &[2], &f32s(&[1.0, f32::NAN]));
        let tensors = Tensors::of_model(dir.path()).unwrap();
        let missing = tensors.floats("v", &[2]).unwrap_err().to_string();
        assert!(missing.contains("`v`") && missing.contains("missing"), "{missing}");
        let shape = tensors.floats("w", &[3]).unwrap_err().to_string();
        assert!(shape.contains("`w`") && shape.contains("[2]") && shape.contains("[3]"), "{shape}");
        let nan = tensors.floats("w", &[2]).unwrap_err().to_string();
        assert!(nan.contains("`w`") && nan.contains("element 1"), "{nan}");
        write(&path, "w", Dtype::I32, &[2], &[0; 8]);
        let dtype =
            Tensors::of_model(dir.path()).unwrap().floats("w", &[2]).unwrap_err().to_string();
        assert!(dtype.contains("`w`") && dtype.contains("I32"), "{dtype}");
    }
}
