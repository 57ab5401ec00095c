//! Everything that computes on the CPU, bit-reproducible by construction.
//!
//! **Promise.** Every function here gives the same bits for the same operands on every instruction set, with every number of
//! threads, and for every batch: a row of a product depends on that row and the weights alone. Sums follow one law: eight
//! lanes, fused multiply-add, one tree (see `lanes`); `exp` and `ln` are our own.
//!
//! **Main path.** A [`Pool`] made once, [`matmul_nt`] for products, [`softmax_in_place`], [`rms_norm`],
//! [`layer_norm_in_place`], [`silu_mul_in_place`] for what lies between, [`top_k_threshold`] and [`argmax`] for the draw.
//! Inside pool tasks, attention: [`scores`] and [`add_mixed`] for a row or two, [`matmul_nt_serial`] and [`add_weighted_rows`] on
//! [`StoredRows`] widened once for more.
//!
//! **Must never know.** Models, caches, requests. Shapes come in as numbers.

mod isa;
pub(crate) mod lanes;
mod math;
mod matmul;
mod norm;
pub(crate) mod panel;
mod pool;
mod select;
mod stored;

pub use isa::{Isa, UnsupportedIsa, current_isa, force_isa};
pub(crate) use lanes::for_each_isa;
pub use math::{ln, silu, silu_mul_in_place};
pub use matmul::{matmul_nt, matmul_nt_serial};
pub use norm::{add_in_place, add_weighted_rows, layer_norm_in_place, rms_norm, softmax_in_place};
pub use pool::Pool;
pub use select::{argmax, top_k_threshold};
pub use stored::{StoredRows, add_mixed, narrow_bf16, rotate_halves, scores};
