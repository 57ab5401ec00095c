//! Products in every format against plain sums, bit by bit, and against the golden file.

use super::*;
use crate::kernels::{Isa, force_isa};

fn wave(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// By the law, written once more: eight lanes, fused, one tree, the bias last.
fn by_the_law(x: &[f32], w: &[f32], bias: f32) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for (i, (a, b)) in x.iter().zip(w).enumerate() {
        lanes[i % 8] = a.mul_add(*b, lanes[i % 8]);
    }
    crate::kernels::lanes::tree(lanes) + bias
}

fn formats(weight: &[f32], bias: &[f32], out: usize, k: usize) -> Vec<Linear> {
    let bias = || Some(bias.to_vec());
    vec![
        Linear::from_f32(weight.to_vec(), bias(), out, k),
        Linear::bf16_from_f32(weight, bias(), out, k),
        Linear::int4_from_f32(weight, bias(), out, k),
    ]
}

#[test]
fn every_format_follows_the_law_on_every_instruction_set() {
    let shapes = [
        (1, 1, 128),
        (2, 7, 256),
        (3, 13, 384),
        (4, 6, 136),
        (5, 25, 640),
        (9, 12, 130),
        (70, 31, 256),
        (66, 5, 5),
    ];
    for (rows, out, k) in shapes {
        let (x, weight, bias) = (wave(rows * k, 0.7), wave(out * k, 0.31), wave(out, 0.2));
        for linear in formats(&weight, &bias, out, k) {
            let mut expected = Vec::new();
            for r in 0..rows {
                for (o, b) in bias.iter().enumerate() {
                    expected.push(by_the_law(&x[r * k..][..k], &linear.row(o), *b).to_bits());
                }
            }
            for isa in Isa::available() {
                force_isa(Some(isa)).unwrap();
                for threads in [1, 3] {
                    let pool = Pool::new(threads);
                    let mut y = vec![0.0; rows * out];
                    linear.forward(&x, rows, &mut y, &pool);
                    assert!(
                        bits(&y) == expected,
                        "{isa:?}, {threads} threads, ({rows}, {out}, {k})"
                    );
                    let last = rows - 1;
                    let mut alone = vec![0.0; out];
                    linear.forward(&x[last * k..], 1, &mut alone, &pool);
                    assert!(
                        bits(&alone) == expected[last * out..],
                        "{isa:?} alone, ({rows}, {out}, {k})"
                    );
                }
            }
        }
    }
    force_isa(None).unwrap();
}

/// A tensor of the golden file as f32 (bf16 widened, u8 as numbers).
fn golden(name: &str) -> (Vec<usize>, Vec<f32>) {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/conformance/golden/transformer/int4.safetensors"
    );
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let data = tensor.data();
    let values = match tensor.dtype() {
        safetensors::Dtype::U8 => data.iter().map(|b| f32::from(*b)).collect(),
        safetensors::Dtype::BF16 => {
            data.chunks(2).map(|b| bf16::from_bits(bf16::at(b, 0))).collect()
        }
        safetensors::Dtype::F32 => {
            data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        }
        other => panic!("unexpected element type {other:?}"),
    };
    (tensor.shape().to_vec(), values)
}

#[test]
fn codes_scales_zeros_and_values_are_those_of_the_golden_file() {
    for case in ["a", "b", "c"] {
        let of = |name: &str| golden(&format!("{case}.{name}"));
        let (shape, weight) = of("weight_bf16");
        let (out, k) = (shape[0], shape[1]);
        let Linear::Int4 { weight: matrix, .. } = Linear::int4_from_f32(&weight, None, out, k)
        else {
            panic!("the inputs come in whole groups");
        };
        let codes: Vec<f32> = (0..out).flat_map(|o| matrix.row_codes(o)).map(f32::from).collect();
        assert!(codes == of("q").1, "codes of {case}");
        assert!(*matrix.scales == *bf16::pack(&of("scales").1), "scales of {case}");
        assert!(*matrix.zeros == *bf16::pack(&of("zeros").1), "zeros of {case}");
        let linear = Linear::from_int4(matrix, None);
        let values: Vec<f32> = (0..out).flat_map(|o| linear.row(o)).collect();
        assert!(bits(&values) == bits(&of("dequant_bf16").1), "values of {case}");
        let (_, x) = of("x_bf16");
        let mut y = vec![0.0; 5 * out];
        linear.forward(&x, 5, &mut y, &Pool::new(1));
        for name in ["y_ref_f32", "y_tinygemm_cpu_bf16"] {
            let (_, reference) = of(name);
            let largest = reference.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let worst = y.iter().zip(&reference).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst <= 0.01 * largest, "{name} of {case}: {worst} of {largest}");
        }
    }
}
