//! Times `QMatMul` with Q4K weights and f32 activations, one JSON line for each shape and number of rows.
//!
//! A product is repeated over enough copies of the weights that none of them is still in cache when its turn comes again, as in
//! a model whose layers are read one after the other. Every product is timed by itself. The figure is the fastest: what the
//! library can do, with as little of the machine's other work in it as possible. The median stands beside it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Result, Tensor};
use serde_json::json;

/// `(outputs, inputs)` of the products of the mid preset: attention, gate and up, down, and the head of 16384 codes.
const MID: [(usize, usize); 4] = [(1024, 1024), (2816, 1024), (1024, 2816), (16384, 1024)];
/// Of the released 7B shape, without the head.
const B7: [(usize, usize); 3] = [(4096, 4096), (11008, 4096), (4096, 11008)];
const ROWS: [usize; 8] = [1, 2, 3, 4, 8, 16, 32, 64];

/// Weight bytes of one pass over the copies: several times the largest last-level cache that is likely.
const PASS_BYTES: usize = 256 << 20;
/// Each figure takes at least this long, and at least this many passes.
const TIME: Duration = Duration::from_millis(600);
const PASSES: usize = 5;

fn main() -> Result<()> {
    let build = json!({
        "candle": "0.11.1",
        "compiled_for": {"avx2": cfg!(target_feature = "avx2"), "fma": cfg!(target_feature = "fma")},
        "threads": candle_core::utils::get_num_threads(),
    });
    println!("{build}");
    for (model, shapes) in [("mid", &MID[..]), ("7b", &B7[..])] {
        for &(n, k) in shapes {
            let weights = copies(n, k)?;
            for rows in ROWS {
                let (best, median) = time(&weights, rows, k)?;
                let work = (2 * rows * n * k) as f64;
                let line = json!({
                    "model": model, "rows": rows, "n": n, "k": k,
                    "ms": round(best * 1e3), "gflops": round(work / best / 1e9),
                    "median_ms": round(median * 1e3), "median_gflops": round(work / median / 1e9),
                });
                println!("{line}");
            }
        }
    }
    Ok(())
}

/// One random matrix, quantised once, in as many places in memory as make a pass.
fn copies(n: usize, k: usize) -> Result<Vec<QMatMul>> {
    let device = Device::Cpu;
    let matrix = Tensor::randn(0f32, 1.0, (n, k), &device)?;
    let first = QTensor::quantize(&matrix, GgmlDType::Q4K)?;
    let bytes = first.data()?;
    let wanted = PASS_BYTES.div_ceil(bytes.len());
    let copy = |_| {
        let storage = QStorage::from_data(Cow::Borrowed(&bytes), &device, GgmlDType::Q4K)?;
        QMatMul::from_qtensor(QTensor::new(storage, (n, k))?)
    };
    (0..wanted).map(copy).collect()
}

/// Seconds of one product: the fastest and the median.
fn time(weights: &[QMatMul], rows: usize, k: usize) -> Result<(f64, f64)> {
    let input = Tensor::randn(0f32, 1.0, (rows, k), &Device::Cpu)?;
    let (mut start, mut times) = (Instant::now(), Vec::new());
    for pass in 0.. {
        if pass == 1 {
            // The first pass repacks the weights.
            times.clear();
            start = Instant::now();
        } else if pass > PASSES && start.elapsed() > TIME {
            break;
        }
        for weight in weights {
            let begin = Instant::now();
            std::hint::black_box(weight.forward(&input)?);
            times.push(begin.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok((times[0], times[times.len() / 2]))
}

/// Four significant digits are more than the clock is worth.
fn round(value: f64) -> f64 {
    let digits = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * digits).round() / digits
}
