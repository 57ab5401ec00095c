//! Random checkpoints in the released file layout, so that everything can be run and measured without released weights.
//!
//! A checkpoint is a function of its options alone. Tensors are drawn while they are written, so that memory does not grow with
//! the model.

mod draw;
mod movqgan;
mod tokenizer;
mod transformer;

use std::path::Path;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::error::LoadError;
use crate::files::{failed, make_dir};
use crate::transformer::config::Config;
use draw::Spec;

/// Size of a random checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Hidden width 128, 3 layers, 256 codes: a small picture in well under two seconds.
    Tiny,
    /// Hidden width 1024, 16 layers, the released vocabulary.
    Mid,
    /// Hidden width 2048, 24 layers, the released vocabulary: about two billion weights.
    B2,
    /// The released 7B shape.
    B7,
}

/// Which image tokenizer is written beside the transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageTokenizerSize {
    /// 32 to 64 channels.
    Small,
    /// The shape of the published 270M model.
    M270,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Size of the transformer.
    pub preset: Preset,
    /// All randomness of it.
    pub seed: u64,
    /// Scale the head so that laws have a mean entropy of about one nat, as trained models have; otherwise they are flatter.
    pub sharp: bool,
    /// Image tokenizer.
    pub image_tokenizer: ImageTokenizerSize,
}

impl FromStr for ImageTokenizerSize {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "small" => Ok(Self::Small),
            "270m" => Ok(Self::M270),
            _ => Err(format!("unknown image tokenizer `{name}`; the sizes are small and 270m")),
        }
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "tiny" => Ok(Self::Tiny),
            "mid" => Ok(Self::Mid),
            "2b" => Ok(Self::B2),
            "7b" => Ok(Self::B7),
            _ => Err(format!("unknown preset `{name}`; the presets are tiny, mid, 2b and 7b")),
        }
    }
}

impl Preset {
    /// Shape of the transformer.
    pub fn config(self) -> Config {
        let shape = |hidden, layers, heads, intermediate| Config {
            vocab_size: self.ids().vocab_size(),
            hidden_size: hidden,
            intermediate_size: intermediate,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            max_position_embeddings: 10_240,
            ..Config::default()
        };
        match self {
            Self::Tiny => shape(128, 3, 8, 256),
            Self::Mid => shape(1024, 16, 16, 2816),
            Self::B2 => shape(2048, 24, 16, 5504),
            Self::B7 => shape(4096, 32, 32, 11_008),
        }
    }

    /// Image tokens.
    pub fn codes(self) -> usize {
        self.ids().codes()
    }

    fn ids(self) -> tokenizer::Ids {
        match self {
            Self::Tiny => tokenizer::Ids::small(256),
            Self::Mid | Self::B2 | Self::B7 => tokenizer::Ids::released(),
        }
    }
}

/// The image tokenizer that [`write_with`] writes beside the transformer.
///
/// # Panics
/// Never: a random image tokenizer is consistent, which a test shows.
pub fn image_tokenizer(options: &Options) -> crate::movqgan::Config {
    let specs = movqgan::specs(options.image_tokenizer, options.preset.codes());
    let shapes = specs.into_iter().map(|spec| (spec.name, spec.shape));
    crate::movqgan::structure(&shapes.collect()).expect("a random image tokenizer is consistent")
}

/// Writes a checkpoint of random weights to an existing or new folder, with a small image tokenizer.
///
/// # Errors
/// A file cannot be written.
pub fn write(dir: &Path, preset: Preset, seed: u64) -> Result<(), LoadError> {
    write_with(
        dir,
        &Options { preset, seed, sharp: false, image_tokenizer: ImageTokenizerSize::Small },
    )
}

/// [`write()`] with every choice.
///
/// # Errors
/// A file cannot be written.
pub fn write_with(dir: &Path, options: &Options) -> Result<(), LoadError> {
    let (config, ids) = (options.preset.config(), options.preset.ids());
    make_dir(dir)?;
    write_json(&dir.join("config.json"), &config_json(&config, &ids))?;
    write_json(
        &dir.join("generation_config.json"),
        &json!({"bos_token_id": 1, "eos_token_id": 2}),
    )?;
    write_json(&dir.join("tokenizer.json"), &ids.tokenizer())?;
    write_json(&dir.join("tokenizer_config.json"), &ids.tokenizer_config())?;
    let shards = transformer::shards(&config, options.sharp);
    write_shards(dir, &shards, options.seed)?;
    let folder = dir.join("movqgan");
    make_dir(&folder)?;
    let tensors = movqgan::specs(options.image_tokenizer, ids.codes());
    let name = match options.image_tokenizer {
        ImageTokenizerSize::Small => "movqgan_small.safetensors",
        ImageTokenizerSize::M270 => "movqgan_270M.safetensors",
    };
    draw::write_file(&folder.join(name), &tensors, options.seed)
}

fn write_shards(dir: &Path, shards: &[Vec<Spec>], seed: u64) -> Result<(), LoadError> {
    let mut weight_map = serde_json::Map::new();
    let mut total = 0;
    for (i, specs) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        draw::write_file(&dir.join(&name), specs, seed)?;
        for spec in specs {
            weight_map.insert(spec.name.clone(), Value::String(name.clone()));
            total += spec.bytes();
        }
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    write_json(&dir.join("model.safetensors.index.json"), &index)
}

fn config_json(config: &Config, ids: &tokenizer::Ids) -> Value {
    json!({
        "architectures": ["ChameleonForConditionalGeneration"],
        "attention_bias": config.attention_bias,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": config.hidden_act,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "mask_image_logits": false,
        "max_position_embeddings": config.max_position_embeddings,
        "mlp_bias": config.mlp_bias,
        "model_parallel_size": config.model_parallel_size,
        "model_type": "chameleon",
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": null,
        "rope_theta": config.rope_theta,
        "swin_norm": config.swin_norm,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "vocab_size": config.vocab_size,
        "vocabulary_map": ids.vocabulary_map(),
    })
}

fn write_json(path: &Path, value: &Value) -> Result<(), LoadError> {
    std::fs::write(path, value.to_string()).map_err(failed(path))
}
