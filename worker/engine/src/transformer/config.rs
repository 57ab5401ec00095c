//! `config.json` of the transformer: the fields that inference needs, checked once.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;

use crate::error::LoadError;
use crate::files::{malformed, read_json};

/// Image tokens of the released vocabulary, used when no token name gives their place.
const RELEASED_IMAGE_TOKENS: Range<u32> = 155_000..171_384;

/// Shape of the transformer. Defaults are those of the model class, as the reference implementation has them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; query head `j` uses number `j / (query heads / key heads)`.
    pub num_key_value_heads: usize,
    /// Activation of the feed-forward block; only `silu` exists.
    pub hidden_act: String,
    /// Positions after which dynamic scaling changes the rotary base.
    pub max_position_embeddings: usize,
    /// Added to the mean square in the RMS norms (not in the q/k norms).
    pub rms_norm_eps: f64,
    /// Rotary base.
    pub rope_theta: f64,
    /// Rotary scaling, if any.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether q, k, v and o have biases.
    pub attention_bias: bool,
    /// Whether gate, up and down have biases.
    pub mlp_bias: bool,
    /// Rows of the q/k norm parameters, each serving consecutive heads.
    pub model_parallel_size: usize,
    /// Whether a norm is applied to the output of its block and not to the input.
    pub swin_norm: bool,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Token name to id; gives the place of the image tokens.
    pub vocabulary_map: Option<BTreeMap<String, u32>>,
}

/// Rotary scaling.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RopeScaling {
    /// `linear` or `dynamic`.
    #[serde(rename = "type", alias = "rope_type")]
    pub kind: RopeKind,
    /// Scale, above 1.
    pub factor: f64,
}

/// Kind of rotary scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeKind {
    /// Positions are divided by the factor.
    Linear,
    /// The base grows with sequences longer than `max_position_embeddings`.
    Dynamic,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 65_536,
            hidden_size: 4096,
            intermediate_size: 11_008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            hidden_act: "silu".to_owned(),
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            attention_bias: false,
            mlp_bias: false,
            model_parallel_size: 1,
            swin_norm: false,
            tie_word_embeddings: false,
            vocabulary_map: None,
        }
    }
}

/// What a model folder publishes for decoding, in `generation_config.json`; other keys are for other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Generation {
    /// The window of coupled decoding where a request leaves it to the model: the one that was measured to be fastest.
    pub coupled_window: Option<u32>,
}

impl Generation {
    /// Largest window that can be asked for.
    const WINDOW_MAX: u32 = 256;

    /// Reads the file; a folder without it publishes nothing.
    ///
    /// # Errors
    /// The file cannot be read, is not a JSON object, or publishes a window that no request may have.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let read: Self = match read_json(path) {
            Err(LoadError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            read => read?,
        };
        match read.coupled_window {
            Some(n) if !(1..=Self::WINDOW_MAX).contains(&n) => {
                let most = Self::WINDOW_MAX;
                let reason = format!("`coupled_window` is {n}; it is a number from 1 to {most}");
                Err(malformed(path, reason))
            }
            _ => Ok(read),
        }
    }
}

impl Config {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// The file cannot be read, is not such a configuration, or asks for something that does not exist.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let config: Self = read_json(path)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), LoadError> {
        let fail = |reason: String| Err(LoadError::Config(reason));
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("model_parallel_size", self.model_parallel_size),
        ] {
            if value == 0 {
                return fail(format!("`{name}` is 0"));
            }
        }
        let (heads, kv_heads, mp) =
            (self.num_attention_heads, self.num_key_value_heads, self.model_parallel_size);
        if !self.hidden_size.is_multiple_of(heads) || !(self.hidden_size / heads).is_multiple_of(2)
        {
            return fail(format!(
                "hidden_size {} does not give {heads} heads of even width",
                self.hidden_size
            ));
        }
        if !heads.is_multiple_of(kv_heads) {
            return fail(format!("{heads} query heads cannot share {kv_heads} key heads"));
        }
        if !heads.is_multiple_of(mp) || !kv_heads.is_multiple_of(mp) {
            return fail(format!(
                "model_parallel_size {mp} does not divide {heads} query and {kv_heads} key heads"
            ));
        }
        if self.hidden_act != "silu" {
            return fail(format!(
                "hidden_act `{}` is unknown; only `silu` exists",
                self.hidden_act
            ));
        }
        match &self.rope_scaling {
            Some(scaling) if scaling.factor < 1.0 || !scaling.factor.is_finite() => {
                fail(format!("rope_scaling factor {} is below 1", scaling.factor))
            }
            _ => Ok(()),
        }
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Width of all keys (or values) of one position.
    pub fn kv_dim(&self) -> usize {
        self.num_key_value_heads * self.head_dim()
    }

    /// Ids of the image tokens in code order: by the names `<MOVQGAN...>` of `vocabulary_map`, else of `names`, else where the
    /// released vocabulary has them.
    ///
    /// # Errors
    /// The named ids are not contiguous, or no rule gives their place.
    pub fn image_tokens(&self, names: &[(String, u32)]) -> Result<Range<u32>, LoadError> {
        let is_code = |name: &str| name.starts_with("<MOVQGAN");
        let mapped = self
            .vocabulary_map
            .iter()
            .flatten()
            .filter(|(name, _)| is_code(name))
            .map(|(_, id)| *id);
        let mut ids: Vec<u32> = mapped.collect();
        if ids.is_empty() {
            ids = names.iter().filter(|(name, _)| is_code(name)).map(|(_, id)| *id).collect();
        }
        ids.sort_unstable();
        let released = self.vocab_size >= RELEASED_IMAGE_TOKENS.end as usize;
        match (ids.first(), ids.last()) {
            (Some(&first), Some(&last)) if (last - first) as usize + 1 == ids.len() => {
                if last as usize >= self.vocab_size {
                    return Err(LoadError::Config(format!(
                        "image token {last} is outside a vocabulary of {}",
                        self.vocab_size
                    )));
                }
                Ok(first..last + 1)
            }
            (None, _) | (_, None) if !released => Err(LoadError::Config(
                "no token is named `<MOVQGAN...>`, so the image tokens are unknown".to_owned(),
            )),
            _ if released => Ok(RELEASED_IMAGE_TOKENS),
            _ => Err(LoadError::Config(
                "the tokens named `<MOVQGAN...>` do not have consecutive ids".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_have_the_class_defaults() {
        let config: Config =
            serde_json::from_str(r#"{"rope_scaling": {"type": "dynamic", "factor": 4}}"#).unwrap();
        assert_eq!(config.head_dim(), 128);
        assert_eq!(config.rope_scaling, Some(RopeScaling { kind: RopeKind::Dynamic, factor: 4.0 }));
        assert_eq!(Config { rope_scaling: None, ..config }, Config::default());
    }

    #[test]
    fn impossible_head_counts_are_refused() {
        let config = Config { num_key_value_heads: 5, ..Config::default() };
        assert!(config.check().unwrap_err().to_string().contains("5 key heads"));
        let config = Config { model_parallel_size: 3, ..Config::default() };
        assert!(config.check().is_err());
    }

    #[test]
    fn image_tokens_come_by_name_and_must_be_consecutive() {
        let names = |ids: &[u32]| {
            Some(ids.iter().map(|id| (format!("<MOVQGAN{}>", id - 7), *id)).collect())
        };
        let small =
            Config { vocab_size: 20, vocabulary_map: names(&[7, 8, 9]), ..Config::default() };
        assert_eq!(small.image_tokens(&[]).unwrap(), 7..10);
        let gap = Config { vocabulary_map: names(&[7, 9]), ..small.clone() };
        assert!(gap.image_tokens(&[]).is_err());
        let released = Config { vocab_size: 171_385, vocabulary_map: None, ..small.clone() };
        assert_eq!(released.image_tokens(&[]).unwrap(), 155_000..171_384);
        let none = Config { vocabulary_map: None, ..small };
        assert!(none.image_tokens(&[]).is_err());
    }
}
