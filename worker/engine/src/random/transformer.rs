//! Tensors of the transformer.

use super::draw::Spec;
use crate::transformer::config::Config;

/// Spread of the scores of a flat and of a sharp model.
const FLAT: f32 = 1.5;
const SHARP: f32 = 4.0;

/// Bytes of a shard before the next one begins.
const SHARD_BYTES: usize = 4 << 30;

/// All tensors in shards: embedding and head first, then the layers.
pub(super) fn shards(config: &Config, sharp: bool) -> Vec<Vec<Spec>> {
    let (vocab, d) = (config.vocab_size, config.hidden_size);
    let ends = vec![
        matrix("model.embed_tokens.weight", vocab, d, 1.0),
        vector("model.norm.weight", &[d], 1.0, 0.25),
        matrix("lm_head.weight", vocab, d, (if sharp { SHARP } else { FLAT }) / (d as f32).sqrt()),
    ];
    let mut shards = vec![ends, Vec::new()];
    let mut filled = 0;
    for i in 0..config.num_hidden_layers {
        let layer = layer(config, &format!("model.layers.{i}"));
        let bytes: usize = layer.iter().map(Spec::bytes).sum();
        if filled > 0 && filled + bytes > SHARD_BYTES {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(last) = shards.last_mut() {
            last.extend(layer);
        }
    }
    shards
}

fn layer(config: &Config, prefix: &str) -> Vec<Spec> {
    let (d, kv, inner) = (config.hidden_size, config.kv_dim(), config.intermediate_size);
    let norm = [config.model_parallel_size, config.head_dim()];
    let spread = |inputs: usize| 1.0 / (inputs as f32).sqrt();
    let project = |name: &str, out: usize, inputs: usize| {
        matrix(&format!("{prefix}.{name}.weight"), out, inputs, spread(inputs))
    };
    let mut specs = vec![
        vector(&format!("{prefix}.input_layernorm.weight"), &[d], 1.0, 0.25),
        vector(&format!("{prefix}.post_attention_layernorm.weight"), &[d], 1.0, 0.25),
        project("self_attn.q_proj", d, d),
        project("self_attn.k_proj", kv, d),
        project("self_attn.v_proj", kv, d),
        project("self_attn.o_proj", d, d),
        project("mlp.gate_proj", inner, d),
        project("mlp.up_proj", inner, d),
        project("mlp.down_proj", d, inner),
    ];
    for name in ["q_norm", "k_norm"] {
        specs.push(vector(&format!("{prefix}.self_attn.{name}.weight"), &norm, 1.0, 0.25));
        specs.push(vector(&format!("{prefix}.self_attn.{name}.bias"), &norm, 0.0, 0.2));
    }
    specs
}

fn matrix(name: &str, out: usize, inputs: usize, std: f32) -> Spec {
    Spec { name: name.to_owned(), shape: vec![out, inputs], mean: 0.0, std, half: true }
}

fn vector(name: &str, shape: &[usize], mean: f32, std: f32) -> Spec {
    Spec { name: name.to_owned(), shape: shape.to_vec(), mean, std, half: true }
}
