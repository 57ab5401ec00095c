//! Tensors of safetensors files, one or many. Shapes and element types are checked where they are asked for, and every error
//! names its tensor.
//!
//! Tensors that are converted are read in blocks; those used as stored are mapped. Either way little memory is needed beside the
//! result.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde::Deserialize;

use super::{Checkpoint, Dtype, Entry};
use crate::error::LoadError;
use crate::files::{failed, malformed, read_json};
use crate::quant::{Bytes, bf16};

/// Elements converted at once.
const BLOCK: usize = 1 << 20;

/// The tensors of one model, in one file or many.
#[derive(Debug)]
pub struct Tensors {
    shards: Vec<Shard>,
    /// The shard of each tensor.
    places: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    checkpoint: Checkpoint,
    map: Arc<Mmap>,
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
    /// The folder holds no weights, or a file cannot be read.
    pub fn of_model(dir: &Path) -> Result<Self, LoadError> {
        Self::open(&weight_files(dir)?)
    }

    /// Maps the given files.
    ///
    /// # Errors
    /// A file cannot be read or is not a safetensors file, or two files hold a tensor of one name.
    pub fn open(paths: &[PathBuf]) -> Result<Self, LoadError> {
        let mut tensors = Self { shards: Vec::new(), places: BTreeMap::new() };
        for path in paths {
            tensors.add(path)?;
        }
        Ok(tensors)
    }

    fn add(&mut self, path: &Path) -> Result<(), LoadError> {
        let checkpoint = Checkpoint::open_safetensors(path)?;
        for name in checkpoint.entries.keys() {
            if self.places.insert(name.clone(), self.shards.len()).is_some() {
                return Err(wrong(name, "two files hold it".to_owned()));
            }
        }
        #[expect(
            unsafe_code,
            reason = "memory maps; model files are not changed while a worker runs"
        )]
        // SAFETY: the file is only read. One that is cut short while mapped ends the process, as for any mapped file.
        let map = unsafe { Mmap::map(&checkpoint.file) };
        self.shards.push(Shard { checkpoint, map: Arc::new(map.map_err(failed(path))?) });
        Ok(())
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
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
        let mapped = self.checked(name, shape)?.1.dtype == Dtype::Bf16;
        let mut packed = Vec::new();
        self.each_block(name, shape, rows.clone(), |block| {
            if !mapped {
                packed.extend(bf16::pack(block));
            }
        })?;
        if !mapped {
            return Ok(packed.into());
        }
        let (shard, _, range) = self.row_bytes(name, shape, rows)?;
        Ok(Bytes::mapped(Arc::clone(&shard.map), range))
    }

    /// A tensor of exactly this type and shape as it is stored, mapped.
    ///
    /// # Errors
    /// It is missing or has another shape or type.
    pub fn raw(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Bytes, LoadError> {
        let (shard, entry) = self.entry(name)?;
        if entry.shape != shape || entry.dtype != dtype {
            let (found, wanted) = (entry.dtype.name(), dtype.name());
            let reason = format!("{found} {:?}, expected {wanted} {shape:?}", entry.shape);
            return Err(wrong(name, reason));
        }
        let start = entry.start as usize;
        Ok(Bytes::mapped(Arc::clone(&shard.map), start..start + entry.bytes()))
    }

    /// Calls `take` with the rows as f32, a block at a time, read from the file so that no page of the map is touched.
    fn each_block(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
        mut take: impl FnMut(&[f32]),
    ) -> Result<(), LoadError> {
        let (shard, dtype, range) = self.row_bytes(name, shape, rows)?;
        let size = dtype.bytes() as usize;
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for at in range.clone().step_by(BLOCK * size) {
            bytes.resize((range.end - at).min(BLOCK * size), 0);
            shard.checkpoint.read_exact_at(&mut bytes, at as u64)?;
            values.clear();
            dtype.append_f32(&bytes, &mut values);
            if let Some(i) = values.iter().position(|value| !value.is_finite()) {
                let element = (at - range.start) / size + i;
                return Err(wrong(name, format!("element {element} is not a finite number")));
            }
            take(&values);
        }
        Ok(())
    }

    /// The file, the element type and the bytes of some rows of a float tensor.
    fn row_bytes(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> Result<(&Shard, Dtype, Range<usize>), LoadError> {
        let (shard, entry) = self.checked(name, shape)?;
        let row = entry.bytes() / shape.first().copied().unwrap_or(1).max(1);
        let start = entry.start as usize;
        Ok((shard, entry.dtype, start + rows.start * row..start + rows.end * row))
    }

    fn checked(&self, name: &str, shape: &[usize]) -> Result<(&Shard, &Entry), LoadError> {
        let (shard, entry) = self.entry(name)?;
        if entry.shape != shape {
            return Err(wrong(
                name,
                format!("the shape is {:?}, the configuration implies {shape:?}", entry.shape),
            ));
        }
        match entry.dtype {
            Dtype::F32 | Dtype::Bf16 | Dtype::F16 => Ok((shard, entry)),
            other => Err(wrong(
                name,
                format!("the element type is {}, expected F32, BF16 or F16", other.name()),
            )),
        }
    }

    fn entry(&self, name: &str) -> Result<(&Shard, &Entry), LoadError> {
        let shard = self.places.get(name).map(|shard| &self.shards[*shard]);
        let found = shard.and_then(|shard| Some((shard, shard.checkpoint.entries.get(name)?)));
        found.ok_or_else(|| wrong(name, "it is missing".to_owned()))
    }
}

fn wrong(name: &str, reason: String) -> LoadError {
    LoadError::Tensor { name: name.to_owned(), reason }
}

/// The weight files of a model folder, sorted by name.
///
/// # Errors
/// The folder holds no weights, or the index cannot be read.
pub fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let index = dir.join("model.safetensors.index.json");
    if index.exists() {
        let parsed: Index = read_json(&index)?;
        let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
        return Ok(names.into_iter().map(|name| dir.join(name)).collect());
    }
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let entries = std::fs::read_dir(dir).map_err(failed(dir))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"))
        .filter(|path| {
            !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("movqgan"))
        })
        .collect();
    files.sort_unstable();
    if files.is_empty() {
        return Err(malformed(dir, "no `*.safetensors` file in it"));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::{Path, Tensors};

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
