//! Weights in their stored formats, and the one product the model needs of them.
//!
//! **Promise.** [`Linear::forward`] gives every row the same bits alone and among any others, with any number of threads and
//! on every instruction set; 4-bit codes, scales and zeros are those of the reference to the bit.
//!
//! **Main path.** A tensor becomes a [`Linear`] when it is loaded ([`Linear::from_f32`], [`Linear::bf16_from_f32`],
//! [`Linear::int4_from_f32`], or stored parts), and `forward` multiplies the rows of a step with it.
//!
//! **Must never know** which layer a matrix belongs to.

pub mod bf16;
mod bytes;
mod cpu;
mod format;
pub mod int4;
mod linear;

pub use bytes::Bytes;
pub use format::{KvCache, Weights};
pub use int4::Int4Matrix;
pub use linear::Linear;
