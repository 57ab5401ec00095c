//! Random tensors, written as they are drawn.

use std::io::{BufWriter, Write};
use std::path::Path;

use half::bf16;

use crate::checkpoint::{Dtype, NewTensor, header};
use crate::error::LoadError;
use crate::files::failed;
use crate::sample::rng::philox4x32_10;

/// One tensor to draw: `mean + std * noise`, stored in bf16 or f32.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) mean: f32,
    pub(super) std: f32,
    pub(super) half: bool,
}

impl Spec {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> usize {
        self.elements() * if self.half { 2 } else { 4 }
    }
}

/// Writes a safetensors file. A tensor depends on the seed and its name alone.
pub(super) fn write_file(path: &Path, specs: &[Spec], seed: u64) -> Result<(), LoadError> {
    let mut out =
        BufWriter::with_capacity(1 << 20, std::fs::File::create(path).map_err(failed(path))?);
    write_tensors(&mut out, specs, seed).map_err(failed(path))?;
    out.flush().map_err(failed(path))
}

fn write_tensors(out: &mut impl Write, specs: &[Spec], seed: u64) -> std::io::Result<()> {
    let tensors = specs.iter().map(|spec| NewTensor {
        name: spec.name.clone(),
        dtype: if spec.half { Dtype::Bf16 } else { Dtype::F32 },
        shape: spec.shape.clone(),
    });
    out.write_all(&header(&tensors.collect::<Vec<_>>()))?;
    for spec in specs {
        write_tensor(out, spec, seed)?;
    }
    Ok(())
}

fn write_tensor(out: &mut impl Write, spec: &Spec, seed: u64) -> std::io::Result<()> {
    let [low, high] = [seed as u32, (seed >> 32) as u32];
    let name = spec
        .name
        .bytes()
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let elements = spec.elements();
    for block in 0..elements.div_ceil(4) {
        let words = philox4x32_10([block as u32, (block >> 32) as u32, name, 1], [low, high]);
        for word in words.into_iter().take(elements - block * 4) {
            let value = spec.mean + spec.std * noise(word);
            if spec.half {
                out.write_all(&bf16::from_f32(value).to_le_bytes())?;
            } else {
                out.write_all(&value.to_le_bytes())?;
            }
        }
    }
    Ok(())
}

/// About a standard normal: the sum of four bytes, centred, over its standard deviation.
fn noise(word: u32) -> f32 {
    let sum: u32 = word.to_le_bytes().into_iter().map(u32::from).sum();
    (sum as f32 - 510.0) / 147.8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_centred_and_of_unit_width() {
        let words = (0..50_000u32).flat_map(|i| philox4x32_10([i, 0, 0, 0], [1, 2]));
        let values: Vec<f64> = words.map(|word| f64::from(noise(word))).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.01, "{mean} {variance}");
    }
}
