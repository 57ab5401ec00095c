//! Writing a checkpoint in 4 bits, one matrix at a time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::checkpoint::{Dtype, NewTensor, Tensors, header};
use crate::error::LoadError;
use crate::files::{failed, make_dir, malformed};
use crate::quant::{Int4Matrix, int4};
use crate::transformer::config::Config;
use crate::transformer::linear::{CODES, SCALES, ZEROS};

/// Rows of an unquantised tensor that are written at once.
const ROWS: usize = 1024;

/// One tensor of the source and what becomes of it.
enum Part {
    /// It stays, in bf16.
    Plain(String, Vec<usize>),
    /// Codes, scales and zeros of a matrix (out, inputs).
    Quantised(String, usize, usize),
}

/// Writes the model folder `from` to the new folder `to` with every matrix of the layers in 4 bits and everything else in
/// bf16. Configuration, tokenizer and image tokenizer are copied. Holds one matrix at a time.
///
/// # Errors
/// A tensor is missing or wrong, or a file cannot be read or written.
pub fn quantise(from: &Path, to: &Path) -> Result<(), LoadError> {
    let config = Config::read(&from.join("config.json"))?;
    let tensors = Tensors::of_model(from)?;
    if tensors.names().iter().any(|name| name.ends_with(CODES)) {
        return Err(malformed(from, "it is in 4 bits already"));
    }
    let parts = parts(&config);
    make_dir(to)?;
    let path = to.join("model.safetensors");
    let fail = failed(&path);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(&fail)?);
    let written: Vec<NewTensor> = parts.iter().flat_map(Part::tensors).collect();
    out.write_all(&header(&written)).map_err(&fail)?;
    for part in &parts {
        part.write(&tensors, &mut out, &path)?;
    }
    out.flush().map_err(fail)?;
    copy_rest(from, to)
}

fn parts(config: &Config) -> Vec<Part> {
    let (d, kv, inner) = (config.hidden_size, config.kv_dim(), config.intermediate_size);
    let mut parts = vec![
        Part::Plain("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, d]),
        Part::Plain("model.norm.weight".to_owned(), vec![d]),
    ];
    if !config.tie_word_embeddings {
        parts.push(Part::Plain("lm_head.weight".to_owned(), vec![config.vocab_size, d]));
    }
    let norm = vec![config.model_parallel_size, config.head_dim()];
    for i in 0..config.num_hidden_layers {
        let name = |rest: &str| format!("model.layers.{i}.{rest}");
        for rest in ["input_layernorm", "post_attention_layernorm"] {
            parts.push(Part::Plain(name(&format!("{rest}.weight")), vec![d]));
        }
        for rest in ["q_norm", "k_norm"] {
            parts.push(Part::Plain(name(&format!("self_attn.{rest}.weight")), norm.clone()));
            parts.push(Part::Plain(name(&format!("self_attn.{rest}.bias")), norm.clone()));
        }
        let attention = [("q", d, d), ("k", kv, d), ("v", kv, d), ("o", d, d)];
        let attention = attention.map(|(p, out, inputs)| {
            (format!("self_attn.{p}_proj"), out, inputs, config.attention_bias)
        });
        let mlp = [("gate", inner, d), ("up", inner, d), ("down", d, inner)];
        let mlp =
            mlp.map(|(p, out, inputs)| (format!("mlp.{p}_proj"), out, inputs, config.mlp_bias));
        for (rest, out, inputs, bias) in attention.into_iter().chain(mlp) {
            let weight = name(&format!("{rest}.weight"));
            parts.push(match int4::fits(inputs) {
                true => Part::Quantised(weight, out, inputs),
                false => Part::Plain(weight, vec![out, inputs]),
            });
            if bias {
                parts.push(Part::Plain(name(&format!("{rest}.bias")), vec![out]));
            }
        }
    }
    parts
}

impl Part {
    /// What it is in the new file.
    fn tensors(&self) -> Vec<NewTensor> {
        match self {
            Self::Plain(name, shape) => {
                vec![NewTensor { name: name.clone(), dtype: Dtype::Bf16, shape: shape.clone() }]
            }
            Self::Quantised(name, out, inputs) => {
                let groups = inputs / int4::GROUP;
                [
                    (CODES, Dtype::U8, groups * int4::GROUP_BYTES),
                    (SCALES, Dtype::Bf16, groups),
                    (ZEROS, Dtype::Bf16, groups),
                ]
                .map(|(part, dtype, width)| NewTensor {
                    name: format!("{name}.{part}"),
                    dtype,
                    shape: vec![*out, width],
                })
                .into()
            }
        }
    }

    fn write(&self, tensors: &Tensors, to: &mut impl Write, path: &Path) -> Result<(), LoadError> {
        let fail = failed(path);
        match self {
            Self::Plain(name, shape) => {
                for start in (0..shape[0]).step_by(ROWS) {
                    let rows = tensors.bf16_rows(name, shape, start..shape[0].min(start + ROWS))?;
                    to.write_all(&rows).map_err(&fail)?;
                }
            }
            Self::Quantised(name, out, inputs) => {
                let matrix =
                    Int4Matrix::quantise(&tensors.floats(name, &[*out, *inputs])?, *out, *inputs);
                for bytes in [&matrix.codes, &matrix.scales, &matrix.zeros] {
                    to.write_all(bytes).map_err(&fail)?;
                }
            }
        }
        Ok(())
    }
}

/// Copies everything that is not the transformer's weights.
fn copy_rest(from: &Path, to: &Path) -> Result<(), LoadError> {
    for entry in std::fs::read_dir(from).map_err(failed(from))? {
        let path = entry.map_err(failed(from))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let into = to.join(&name);
        if path.is_dir() {
            make_dir(&into)?;
            copy_rest(&path, &into)?;
        } else if from.ends_with("movqgan") || copied(&path, &name) {
            std::fs::copy(&path, &into).map_err(failed(&path))?;
        }
    }
    Ok(())
}

fn copied(path: &Path, name: &str) -> bool {
    let weights = path.extension().is_some_and(|ext| ext == "safetensors");
    let index = name.ends_with(".safetensors.index.json");
    name.starts_with("movqgan") || !(weights || index)
}
