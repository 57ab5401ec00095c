//! Writing a checkpoint in 4 bits, one block of rows at a time.
//!
//! The matrices of the layers (`*_proj.weight` of two dimensions with inputs in whole groups) become three tensors each:
//! `{name}.int4_codes` U8 (out, in / 2) in the layout of [`super::int4`], `{name}.int4_scales` and `{name}.int4_zeros` BF16
//! (out, in / 128). Everything else that the model uses is written in bf16: the reference rounds it so too, before it
//! quantises. Memory beside the mapped file is one block and the scales of one matrix, whatever the size of the checkpoint.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::bf16;
use super::cpu::{PackedGroup, quantise_groups};
use super::int4::{GROUP, GROUP_BYTES, fits};
use crate::error::LoadError;
use crate::kernels::Pool;
use crate::transformer::linear::{CODES, SCALES, ZEROS};
use crate::weights::{Tensors, weight_files};

/// Weights converted at a time: 16 MiB of f32.
const BLOCK: usize = 4 << 20;
/// Groups that one task quantises.
const TASK_GROUPS: usize = 512;
const FILE: &str = "model.safetensors";

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Quantized {
    /// Matrices now in 4 bits.
    pub matrices: usize,
    /// Tensors kept, in bf16.
    pub kept: usize,
    /// Size of the weights file.
    pub bytes: u64,
}

/// One tensor of the checkpoint and what becomes of it.
struct Plan {
    name: String,
    shape: Vec<usize>,
    int4: bool,
}

/// Writes the model folder `from` to the folder `to` with its matrices in 4 bits; other files are copied as they are.
///
/// Codes are a function of the weights alone, so every run writes the same bytes.
///
/// # Errors
/// [`LoadError::Format`] when `from` is in 4 bits already or `to` holds weights; [`LoadError::Tensor`] names a tensor that is
/// not finite or not of a float type; [`LoadError::File`] names a file that cannot be read or written.
pub fn quantize_checkpoint(from: &Path, to: &Path, pool: &Pool) -> Result<Quantized, LoadError> {
    let tensors = Tensors::of_model(from)?;
    let plans = plan(&tensors, from)?;
    let target = to.join(FILE);
    if target.exists() {
        return Err(LoadError::Format { path: target, reason: "it exists; choose another folder".to_owned() });
    }
    std::fs::create_dir_all(to).map_err(file_error(to))?;
    copy_other_files(from, to, &weight_files(from)?)?;
    // A file of the final name is always whole.
    let partial = to.join("model.safetensors.partial");
    let bytes = write(&tensors, &plans, &partial, pool)?;
    std::fs::rename(&partial, &target).map_err(file_error(&target))?;
    let matrices = plans.iter().filter(|plan| plan.int4).count();
    Ok(Quantized { matrices, kept: plans.len() - matrices, bytes })
}

fn plan(tensors: &Tensors, from: &Path) -> Result<Vec<Plan>, LoadError> {
    let mut plans = Vec::new();
    for name in tensors.names() {
        if name.ends_with(CODES) {
            let reason = format!("the checkpoint is in 4 bits already (`{name}`)");
            return Err(LoadError::Format { path: from.to_owned(), reason });
        }
        // The image encoder that older checkpoints carry along is never used, nor is anything outside of these two.
        if !(name.starts_with("model.") || name.starts_with("lm_head.")) || name.starts_with("model.vqmodel.") {
            continue;
        }
        let shape = tensors.shape(&name)?.to_vec();
        let int4 = name.ends_with("_proj.weight") && shape.len() == 2 && fits(shape[1]);
        plans.push(Plan { name, shape, int4 });
    }
    Ok(plans)
}

fn write(tensors: &Tensors, plans: &[Plan], path: &Path, pool: &Pool) -> Result<u64, LoadError> {
    let io = file_error(path);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(&io)?);
    let header = header(plans);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(&io)?;
    file.write_all(&header).map_err(&io)?;
    for plan in plans {
        let width = plan.shape.iter().skip(1).product::<usize>().max(1);
        let rows = plan.shape.first().copied().unwrap_or(1);
        let step = (BLOCK / width).max(1);
        let blocks = (0..rows).step_by(step).map(|r| r..(r + step).min(rows));
        if plan.int4 {
            write_int4(tensors, plan, blocks, pool, &mut file)?;
        } else {
            for block in blocks {
                let values = tensors.float_rows(&plan.name, &plan.shape, block)?;
                file.write_all(&bf16::pack(&values)).map_err(&io)?;
            }
        }
    }
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(&io)?;
    Ok(file.metadata().map_err(&io)?.len())
}

/// Codes as they come, then the scales and zeros of the whole matrix.
fn write_int4(
    tensors: &Tensors,
    plan: &Plan,
    blocks: impl Iterator<Item = Range<usize>>,
    pool: &Pool,
    file: &mut BufWriter<File>,
) -> Result<(), LoadError> {
    let (mut scales, mut zeros) = (Vec::new(), Vec::new());
    let io = file_error(Path::new(FILE));
    for block in blocks {
        let weights = tensors.float_rows(&plan.name, &plan.shape, block)?;
        let mut groups = vec![PackedGroup::default(); weights.len() / GROUP];
        pool.chunks_mut(&mut groups, TASK_GROUPS, |i, part| {
            quantise_groups(&weights[i * TASK_GROUPS * GROUP..][..part.len() * GROUP], part);
        });
        for group in &groups {
            file.write_all(&group.codes).map_err(&io)?;
            scales.extend(group.scale.to_le_bytes());
            zeros.extend(group.zero.to_le_bytes());
        }
    }
    file.write_all(&scales).map_err(&io)?;
    file.write_all(&zeros).map_err(&io)
}

/// The header of a safetensors file for these tensors in this order, padded to a multiple of eight.
fn header(plans: &[Plan]) -> Vec<u8> {
    let mut entries = BTreeMap::new();
    let mut end = 0;
    let mut add = |name: String, dtype: &str, shape: &[usize], bytes: usize| {
        let offsets = [end, end + bytes];
        end += bytes;
        entries.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
    };
    for Plan { name, shape, int4 } in plans {
        let elements: usize = shape.iter().product();
        if *int4 {
            let groups = elements / GROUP;
            let by_group = [shape[0], shape[1] / GROUP];
            add(format!("{name}.{CODES}"), "U8", &[shape[0], shape[1] / 2], groups * GROUP_BYTES);
            add(format!("{name}.{SCALES}"), "BF16", &by_group, groups * 2);
            add(format!("{name}.{ZEROS}"), "BF16", &by_group, groups * 2);
        } else {
            add(name.clone(), "BF16", shape, elements * 2);
        }
    }
    entries.insert(
        "__metadata__".to_owned(),
        json!({ "format": "pt", "quantization": "nightshift.int4.v1", "group_size": GROUP.to_string() }),
    );
    let mut header = serde_json::to_vec(&entries).expect("strings and numbers have a JSON form");
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}

/// Everything of the folder but its weights and their index.
fn copy_other_files(from: &Path, to: &Path, weights: &[PathBuf]) -> Result<(), LoadError> {
    for entry in std::fs::read_dir(from).map_err(file_error(from))? {
        let path = entry.map_err(file_error(from))?.path();
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        let is_index = name == "model.safetensors.index.json";
        if path.is_dir() {
            std::fs::create_dir_all(&target).map_err(file_error(&target))?;
            copy_other_files(&path, &target, weights)?;
        } else if !is_index && !weights.contains(&path) {
            std::fs::copy(&path, &target).map_err(file_error(&path))?;
        }
    }
    Ok(())
}

fn file_error(path: &Path) -> impl Fn(std::io::Error) -> LoadError {
    let path = path.to_owned();
    move |source| LoadError::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView};

    use super::*;
    use crate::quant::Int4Matrix;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    fn save(dir: &Path, tensors: &[(&str, Vec<usize>, Vec<f32>)]) {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        safetensors::serialize_to_file(views, None, &dir.join(FILE)).unwrap();
    }

    #[test]
    fn matrices_become_codes_the_rest_bf16_and_other_files_come_along() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let matrix = wave(300 * 256, 0.37);
        let norm = wave(10, 0.2);
        save(from.path(), &[
            ("model.layers.0.mlp.up_proj.weight", vec![300, 256], matrix.clone()),
            ("model.layers.0.mlp.odd_proj.weight", vec![2, 100], wave(200, 0.1)),
            ("model.norm.weight", vec![10], norm.clone()),
            ("model.vqmodel.encoder.weight", vec![3], wave(3, 1.0)),
        ]);
        std::fs::write(from.path().join("config.json"), "{}").unwrap();
        let done = quantize_checkpoint(from.path(), to.path(), &Pool::new(2)).unwrap();
        assert_eq!((done.matrices, done.kept), (1, 2));
        assert_eq!(std::fs::read(to.path().join("config.json")).unwrap(), b"{}");

        let written = Tensors::of_model(to.path()).unwrap();
        let name = "model.layers.0.mlp.up_proj.weight";
        let raw = |suffix: &str, dtype, width| written.raw(&format!("{name}.{suffix}"), dtype, &[300, width]).unwrap();
        let expected = Int4Matrix::quantise(&matrix, 300, 256);
        assert!(*raw(CODES, Dtype::U8, 128) == *expected.codes);
        assert!(*raw(SCALES, Dtype::BF16, 2) == *expected.scales);
        assert!(*raw(ZEROS, Dtype::BF16, 2) == *expected.zeros);
        let rounded: Vec<f32> = norm.iter().map(|v| bf16::round(*v)).collect();
        assert_eq!(written.floats("model.norm.weight", &[10]).unwrap(), rounded);
        assert!(!written.has("model.vqmodel.encoder.weight") && !written.has(name));

        let again = quantize_checkpoint(from.path(), to.path(), &Pool::new(1)).unwrap_err();
        assert!(again.to_string().contains("exists"), "{again}");
        let twice = quantize_checkpoint(to.path(), from.path(), &Pool::new(1)).unwrap_err();
        assert!(twice.to_string().contains("already"), "{twice}");
    }

    #[test]
    fn a_weight_that_is_no_number_is_named_and_leaves_no_weights_file() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut matrix = wave(2 * 128, 0.37);
        matrix[77] = f32::NAN;
        save(from.path(), &[("model.layers.0.mlp.up_proj.weight", vec![2, 128], matrix)]);
        let error = quantize_checkpoint(from.path(), to.path(), &Pool::new(1)).unwrap_err();
        assert!(error.to_string().contains("up_proj"), "{error}");
        assert!(!to.path().join(FILE).exists());
    }
}
