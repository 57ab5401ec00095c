//! What the machine can do: the two ceilings every figure is held against.
#![expect(unsafe_code, reason = "the multiply-add loop is vector instructions")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use nightshift_engine::kernels::{Pool, current_isa};

/// Bytes that are read: more than any cache holds.
const BYTES: usize = 512 << 20;
/// Bytes of a task.
const TASK: usize = 1 << 20;
/// Time for each measurement.
const SECONDS: f64 = 0.4;
/// Multiply-adds of a chain in one task.
const CHAIN: usize = 50_000;

/// The ceilings, with all threads of a pool at work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// Threads of the pool.
    pub threads: usize,
    /// Instruction set in use.
    pub isa: &'static str,
    /// Reading from memory, 10^9 bytes a second.
    pub read_gb_s: f64,
    /// f32 fused multiply-add, 10^9 operations a second, an addition and a multiplication being two.
    pub fma_gflop_s: f64,
}

/// Measures both, in about a second.
pub fn measure(pool: &Pool) -> Machine {
    Machine {
        threads: pool.threads(),
        isa: current_isa().name(),
        read_gb_s: read(pool),
        fma_gflop_s: multiply_add(pool),
    }
}

fn read(pool: &Pool) -> f64 {
    let data: Vec<u64> = (0..BYTES as u64 / 8).collect();
    let words = TASK / 8;
    let seconds = median_seconds(|| {
        let sum = AtomicU64::new(0);
        pool.run(data.len() / words, |i| {
            let part = &data[i * words..(i + 1) * words];
            let part_sum = part.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word));
            sum.fetch_add(part_sum, Ordering::Relaxed);
        });
        black_box(sum.into_inner());
    });
    BYTES as f64 / seconds / 1e9
}

/// The multiply-add peak alone: it is measured again beside each product, because a shared machine changes by the second.
pub(super) fn multiply_add(pool: &Pool) -> f64 {
    let tasks = pool.threads() * 8;
    let mut operations = 0;
    let seconds = median_seconds(|| {
        let total = AtomicU64::new(0);
        pool.run(tasks, |_| {
            total.fetch_add(chains(CHAIN), Ordering::Relaxed);
        });
        operations = total.into_inner();
    });
    operations as f64 / seconds / 1e9
}

/// The middle one of the times of a task that is repeated for a while. Everything here is measured so: on a machine that
/// others share, the best of many rounds of one thing says nothing about the middle of another.
pub(super) fn median_seconds(mut task: impl FnMut()) -> f64 {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < SECONDS {
        let began = Instant::now();
        task();
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Runs independent chains of multiply-adds and returns the number of operations.
fn chains(length: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        use nightshift_engine::kernels::Isa;
        match current_isa() {
            // SAFETY: the machine has the instruction set in use.
            Isa::Avx2 => return unsafe { x86::avx2(length) },
            // SAFETY: as above.
            Isa::Avx512 => return unsafe { x86::avx512(length) },
            Isa::Scalar => {}
        }
    }
    let mut sums = [1.0_f32; 8];
    for _ in 0..length {
        for sum in &mut sums {
            *sum = sum.mul_add(black_box(0.999), 0.001);
        }
    }
    black_box(sums);
    (length * sums.len() * 2) as u64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Chains side by side: more than latency times units on any machine so far.
    const CHAINS: usize = 12;

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(length: usize) -> u64 {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums = [_mm256_set1_ps(1.0); CHAINS];
        for _ in 0..length {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        (length * CHAINS * 8 * 2) as u64
    }

    /// # Safety
    /// The machine has AVX-512.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(length: usize) -> u64 {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums = [_mm512_set1_ps(1.0); CHAINS];
        for _ in 0..length {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        (length * CHAINS * 16 * 2) as u64
    }
}
