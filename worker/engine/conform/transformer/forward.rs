//! One forward pass, and the same through the cache in pieces.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Fixture, Report, transformer_of};
use crate::kernels::Pool;
use crate::quant::{KvCache, Weights};
use crate::transformer::{BranchCache, Chunk, Scratch, Stage, Transformer};

/// f32, stated by the fixtures.
const TOLERANCE: f64 = 1e-4;
/// bf16, largest and mean, stated by the fixtures.
const BF16_WORST: f64 = 0.3;
const BF16_MEAN: f64 = 0.04;

struct Case {
    transformer: Transformer,
    pool: Pool,
    /// Token ids of each sequence.
    sequences: Vec<Vec<u32>>,
}

/// Compares every recorded tensor of `file` with the model in `model`.
pub(super) fn run(
    report: &mut Report,
    name: &str,
    model: &Path,
    file: &Path,
) -> Result<(), String> {
    let recorded = Fixture::open(file)?;
    let case = Case::load(model, &recorded, Weights::F32)?;
    let computed = case.full();
    for tensor in recorded.names() {
        let label = format!("{name}: {tensor}");
        match tensor {
            "input_ids" | "chunks" => {}
            "logits_bf16" => {
                let case = Case::load(model, &recorded, Weights::Bf16)?;
                let got = case.full().remove("logits").unwrap_or_default();
                let want = recorded.f32(tensor)?;
                report.close(
                    &format!("{label} (bf16 weights, f32 activations)"),
                    &got,
                    &want,
                    BF16_WORST,
                );
                report.close_on_average(&format!("{label}, mean"), &got, &want, BF16_MEAN);
            }
            "logits_incremental" => report.group(&label.clone(), |report| {
                let chunks = recorded.tensor("chunks")?.data;
                let want = recorded.f32(tensor)?;
                report.close(&label, &case.incremental(&chunks), &want, TOLERANCE);
                Ok(())
            }),
            _ => match computed.get(tensor) {
                Some(got) => report.close(&label, got, &recorded.f32(tensor)?, TOLERANCE),
                None => report.not_covered(&label, "no such point of the forward pass is known"),
            },
        }
    }
    Ok(())
}

impl Case {
    fn load(model: &Path, recorded: &Fixture, format: Weights) -> Result<Self, String> {
        let transformer = transformer_of(model, format)?;
        let sequences = recorded.tensor("input_ids")?.id_rows();
        Ok(Self { transformer, pool: Pool::new(2), sequences })
    }

    fn length(&self) -> usize {
        self.sequences.first().map_or(0, Vec::len)
    }

    fn caches(&self) -> Vec<BranchCache> {
        self.sequences.iter().map(|_| self.transformer.cache(self.length(), KvCache::F32)).collect()
    }

    /// Every point of one pass over the whole sequences, by its recorded name.
    fn full(&self) -> BTreeMap<String, Vec<f32>> {
        let mut points = BTreeMap::new();
        let mut caches = self.caches();
        let mut scratch = Scratch::default();
        let mut trace = |stage: Stage, layer: usize, values: &[f32]| {
            let name = match stage {
                Stage::Embedding => "hidden_embed".to_owned(),
                Stage::LayerOut => format!("hidden_layer_{layer}"),
                Stage::QueryNormed => format!("layer{layer}_q_normed"),
                Stage::KeyNormed => format!("layer{layer}_k_normed"),
                Stage::AttentionOut => format!("layer{layer}_attn_out"),
                Stage::MlpOut => format!("layer{layer}_mlp_out"),
                Stage::FinalNorm => "hidden_final_norm".to_owned(),
            };
            points.insert(name, values.to_vec());
        };
        let chunks =
            caches.iter_mut().zip(&self.sequences).map(|(cache, tokens)| Chunk { cache, tokens });
        self.transformer.forward(
            &self.pool,
            &mut chunks.collect::<Vec<_>>(),
            &mut scratch,
            &mut trace,
        );
        let rows: Vec<usize> = (0..self.sequences.len() * self.length()).collect();
        let mut logits = Vec::new();
        self.transformer.logits(&self.pool, &mut scratch, &rows, &mut logits, &mut trace);
        points.insert("logits".to_owned(), logits);
        let config = self.transformer.config();
        for layer in 0..config.num_hidden_layers {
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for cache in &caches {
                for head in 0..config.num_key_value_heads {
                    // f32 is read as it lies, so nothing is widened.
                    keys.extend_from_slice(
                        cache.keys(layer, head, 0..self.length()).widen(config.head_dim(), &mut []),
                    );
                    values.extend_from_slice(
                        cache
                            .values(layer, head, 0..self.length())
                            .widen(config.head_dim(), &mut []),
                    );
                }
            }
            points.insert(format!("layer{layer}_k_cache"), keys);
            points.insert(format!("layer{layer}_v_cache"), values);
        }
        points
    }

    /// Scores of every position, the sequences being fed in pieces of the given lengths.
    fn incremental(&self, chunks: &[f64]) -> Vec<f32> {
        let vocab = self.transformer.config().vocab_size;
        let mut result = vec![0.0; self.sequences.len() * self.length() * vocab];
        let (mut caches, mut scratch, mut logits) = (self.caches(), Scratch::default(), Vec::new());
        let mut start = 0;
        for chunk in chunks {
            let n = *chunk as usize;
            let parts = caches.iter_mut().zip(&self.sequences);
            let mut parts: Vec<Chunk<'_>> = parts
                .map(|(cache, tokens)| Chunk { cache, tokens: &tokens[start..start + n] })
                .collect();
            self.transformer.forward(&self.pool, &mut parts, &mut scratch, &mut |_, _, _| {});
            let rows: Vec<usize> = (0..self.sequences.len() * n).collect();
            self.transformer.logits(
                &self.pool,
                &mut scratch,
                &rows,
                &mut logits,
                &mut |_, _, _| {},
            );
            for (b, values) in logits.chunks(n * vocab).enumerate() {
                let at = (b * self.length() + start) * vocab;
                result[at..at + values.len()].copy_from_slice(values);
            }
            start += n;
        }
        result
    }
}
