//! The product of a few rows with a matrix, by format and number of rows.

use std::hint::black_box;

use serde::Serialize;

use super::machine::{median_seconds, multiply_add};
use nightshift_engine::kernels::Pool;
use nightshift_engine::quant::Linear;
use nightshift_engine::quant::Weights;

/// Rows that are measured.
const ROWS: [usize; 9] = [1, 2, 3, 4, 8, 16, 32, 64, 128];
/// f32 bytes of all matrices of a shape together: used in turn, none is found in a cache.
const ROTATED: usize = 256 << 20;

/// One measured product.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Product {
    /// Format of the matrix.
    pub weights: &'static str,
    /// Outputs.
    pub out: usize,
    /// Inputs.
    pub inputs: usize,
    /// Rows multiplied with it at once.
    pub rows: usize,
    /// Median time of a product.
    pub ms: f64,
    /// 10^9 operations a second.
    pub gflop_s: f64,
    /// Of the multiply-add peak, measured just before and after.
    pub of_fma_peak: f64,
    /// Stored bytes of the matrix, 10^9 a second.
    pub gb_s: f64,
}

/// Measures all numbers of rows with matrices (out, inputs).
pub fn measure(pool: &Pool, weights: Weights, out: usize, inputs: usize) -> Vec<Product> {
    let matrices = matrices(weights, out, inputs);
    let x: Vec<f32> = (0..ROWS[ROWS.len() - 1] * inputs).map(|i| (i as f32 * 0.37).sin()).collect();
    let entry = |rows: usize| {
        let mut y = vec![0.0; rows * out];
        let before = multiply_add(pool);
        let mut turn = matrices.iter().cycle();
        let ms = 1e3
            * median_seconds(|| {
                if let Some(matrix) = turn.next() {
                    matrix.forward(&x[..rows * inputs], rows, &mut y, pool);
                    black_box(&mut y);
                }
            });
        let peak = (before + multiply_add(pool)) / 2.0;
        let gflop_s = 2.0 * (rows * out * inputs) as f64 / ms / 1e6;
        Product {
            weights: weights.as_str(),
            out,
            inputs,
            rows,
            ms,
            gflop_s,
            of_fma_peak: gflop_s / peak,
            gb_s: matrices[0].bytes() as f64 / ms / 1e6,
        }
    };
    ROWS.into_iter().map(entry).collect()
}

fn matrices(weights: Weights, out: usize, inputs: usize) -> Vec<Linear> {
    let count = (ROTATED / (out * inputs * 4)).clamp(2, 24);
    let matrix = |n: usize| {
        let values: Vec<f32> =
            (0..out * inputs).map(|i| ((i * 7 + n * 31) as f32 * 0.73).sin() * 0.05).collect();
        match weights {
            Weights::F32 => Linear::from_f32(values, None, out, inputs),
            Weights::Bf16 => Linear::bf16_from_f32(&values, None, out, inputs),
            Weights::Int4 => Linear::int4_from_f32(&values, None, out, inputs),
        }
    };
    (0..count).map(matrix).collect()
}
