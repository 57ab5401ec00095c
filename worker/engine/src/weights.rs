//! Tensors of safetensors files, one or many, read by memory map. Shapes and element types are checked where they are asked
//! for, and every error names its tensor.

use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use crate::error::LoadError;

/// The tensors of one checkpoint or one fixture file.
pub struct Tensors {
    files: MmapedSafetensors,
    paths: Vec<PathBuf>,
}

impl std::fmt::Debug for Tensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tensors").field("paths", &self.paths).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
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
        for path in &paths {
            std::fs::File::open(path).map_err(|source| LoadError::File { path: path.clone(), source })?;
        }
        #[expect(unsafe_code, reason = "memory maps; model files are not changed while a worker runs")]
        // SAFETY: the files are only read. One that is cut short while mapped ends the process, as for any mapped file.
        let files = unsafe { MmapedSafetensors::multi(&paths) };
        let files = files.map_err(|error| LoadError::Format {
            path: paths.first().cloned().unwrap_or_default(),
            reason: error.to_string(),
        })?;
        Ok(Self { files, paths })
    }

    /// The files behind it.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.files.get(name).is_ok()
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.files.tensors().into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    /// Shape of a tensor.
    ///
    /// # Errors
    /// It is missing.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, LoadError> {
        Ok(self.view(name)?.shape().to_vec())
    }

    /// A float tensor (f32, bf16 or f16) of exactly this shape, as f32, row-major.
    ///
    /// # Errors
    /// It is missing, has another shape or type, or holds a value that is not a finite number.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let rows = 0..shape.first().copied().unwrap_or(1);
        self.float_rows(name, shape, rows)
    }

    /// Rows (first dimension) of a float tensor of exactly this shape, as f32.
    ///
    /// # Errors
    /// As [`Self::floats`].
    pub fn float_rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<Vec<f32>, LoadError> {
        let view = self.checked(name, shape)?;
        let count = shape.first().copied().unwrap_or(1).max(1);
        let row_bytes = view.data().len() / count;
        let bytes = &view.data()[rows.start * row_bytes..rows.end * row_bytes];
        let dtype = DType::try_from(view.dtype()).map_err(|error| wrong(name, error.to_string()))?;
        let elements = bytes.len() / dtype.size_in_bytes();
        let values = Tensor::from_raw_buffer(bytes, dtype, &[elements], &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(DType::F32)?.to_vec1::<f32>())
            .map_err(|error| wrong(name, error.to_string()))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(wrong(name, format!("element {at} is not a finite number"))),
            None => Ok(values),
        }
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
        self.view(name)?;
        self.files.load(name, &Device::Cpu).map_err(|error| wrong(name, error.to_string()))
    }

    fn checked(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>, LoadError> {
        let view = self.view(name)?;
        if view.shape() != shape {
            return Err(wrong(name, format!("the shape is {:?}, the configuration implies {shape:?}", view.shape())));
        }
        match view.dtype() {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => Ok(view),
            other => Err(wrong(name, format!("the element type is {other:?}, expected F32, BF16 or F16"))),
        }
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>, LoadError> {
        self.files.get(name).map_err(|_| wrong(name, "it is missing".to_owned()))
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
        let text = std::fs::read(&index).map_err(|source| LoadError::File { path: index.clone(), source })?;
        let parsed: Index = serde_json::from_slice(&text)
            .map_err(|error| LoadError::Format { path: index.clone(), reason: error.to_string() })?;
        let names: std::collections::BTreeSet<String> = parsed.weight_map.into_values().collect();
        return Ok(names.into_iter().map(|name| dir.join(name)).collect());
    }
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let entries = std::fs::read_dir(dir).map_err(|source| LoadError::File { path: dir.to_owned(), source })?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"))
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("movqgan")))
        .collect();
    files.sort_unstable();
    if files.is_empty() {
        return Err(LoadError::Format { path: dir.to_owned(), reason: "no `*.safetensors` file in it".to_owned() });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
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
        let bf16: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        let f16: Vec<u8> = [0.25f32, 3.0].iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        write(&dir.path().join("a.safetensors"), "x", Dtype::BF16, &[2], &bf16);
        write(&dir.path().join("b.safetensors"), "y", Dtype::F16, &[2, 1], &f16);
        let index = r#"{"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
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
        let dtype = Tensors::of_model(dir.path()).unwrap().floats("w", &[2]).unwrap_err().to_string();
        assert!(dtype.contains("`w`") && dtype.contains("I32"), "{dtype}");
    }
}
