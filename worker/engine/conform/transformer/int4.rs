//! 4-bit weights: codes, scales, zeros and dequantised values to the bit, products, and the tiny model in 4 bits.

use std::path::Path;

use super::{Fixture, Report, transformer_of};
use crate::kernels::Pool;
use crate::quant::{Int4Matrix, Linear, bf16};
use crate::quant::{KvCache, Weights};
use crate::transformer::{Chunk, Scratch};

/// Against f32 maths on dequantised weights, and against bf16 maths: stated by the fixtures.
const EXACT_MATHS: f64 = 1e-3;
const BF16_MATHS: f64 = 0.4;
const F32: f64 = 1e-4;
/// Share of the largest result that a product may be off.
const PRODUCT: f64 = 0.01;

/// `int4.safetensors`.
pub(super) fn run(report: &mut Report, dir: &Path) -> Result<(), String> {
    let recorded = Fixture::open(&dir.join("int4.safetensors"))?;
    for name in recorded.names().filter_map(|name| name.strip_suffix(".weight_bf16")) {
        report
            .group(&format!("int4.safetensors: {name}"), |report| matrix(report, &recorded, name));
    }
    if recorded.has("model.input_ids") {
        report.group("int4.safetensors: model", |report| model(report, &recorded, dir));
    }
    Ok(())
}

fn matrix(report: &mut Report, recorded: &Fixture, name: &str) -> Result<(), String> {
    let get = |part: &str| recorded.tensor(&format!("{name}.{part}"));
    let label = |part: &str| format!("int4.safetensors: {name}.{part}");
    let weights = get("weight_bf16")?;
    let [out, inputs] = weights.shape[..] else {
        return Err(format!("a matrix of the shape {:?}", weights.shape));
    };
    let quantised = Int4Matrix::quantise(&weights.f32(), out, inputs);
    let codes: Vec<f32> = (0..out).flat_map(|o| quantised.row_codes(o)).map(f32::from).collect();
    report.equal(&label("q"), &codes, &get("q")?.f32());
    let wide = |bytes: &[u8]| {
        (0..bytes.len() / 2).map(|i| bf16::from_bits(bf16::at(bytes, i))).collect::<Vec<f32>>()
    };
    report.equal(&label("scales"), &wide(&quantised.scales), &get("scales")?.f32());
    report.equal(&label("zeros"), &wide(&quantised.zeros), &get("zeros")?.f32());
    let linear = Linear::from_int4(quantised, None);
    let rows: Vec<f32> = (0..out).flat_map(|o| linear.row(o)).collect();
    report.equal(&label("dequant_bf16"), &rows, &get("dequant_bf16")?.f32());
    let fused = "the fused form; weights here are rounded twice, as the reference's";
    report.not_covered(&label("dequant_one_rounding_bf16"), fused);
    let x = get("x_bf16")?;
    let mut y = vec![0.0; x.shape[0] * out];
    linear.forward(&x.f32(), x.shape[0], &mut y, &Pool::new(2));
    for part in ["y_ref_f32", "y_tinygemm_cpu_bf16"] {
        let want = get(part)?.f32();
        let largest = want.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        report.close(&label(part), &y, &want, PRODUCT * f64::from(largest));
    }
    Ok(())
}

fn model(report: &mut Report, recorded: &Fixture, dir: &Path) -> Result<(), String> {
    let quantised = logits(recorded, dir, Weights::Int4)?;
    let plain = logits(recorded, dir, Weights::F32)?;
    for (part, got, tolerance) in [
        ("logits_dequant_weights_fp32math", &quantised, EXACT_MATHS),
        ("logits_dequant_weights_bf16", &quantised, BF16_MATHS),
        ("logits_int4_kernel", &quantised, BF16_MATHS),
        ("logits_unquantised_fp32", &plain, F32),
    ] {
        let name = format!("model.{part}");
        if recorded.has(&name) {
            let want = recorded.f32(&name)?;
            report.close(&format!("int4.safetensors: {name}"), got, &want, tolerance);
        }
    }
    Ok(())
}

/// Scores of every position of every recorded sequence.
fn logits(recorded: &Fixture, dir: &Path, format: Weights) -> Result<Vec<f32>, String> {
    let transformer = transformer_of(&dir.join("tiny"), format)?;
    let (pool, mut scratch, mut all) = (Pool::new(2), Scratch::default(), Vec::new());
    for tokens in &recorded.tensor("model.input_ids")?.id_rows() {
        let mut cache = transformer.cache(tokens.len(), KvCache::F32);
        let mut chunks = [Chunk { cache: &mut cache, tokens }];
        transformer.forward(&pool, &mut chunks, &mut scratch, &mut |_, _, _| {});
        let rows: Vec<usize> = (0..tokens.len()).collect();
        let mut logits = Vec::new();
        transformer.logits(&pool, &mut scratch, &rows, &mut logits, &mut |_, _, _| {});
        all.extend(logits);
    }
    Ok(all)
}
