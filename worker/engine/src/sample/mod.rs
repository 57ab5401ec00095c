//! From scores to a token.
//!
//! **The law.** Guidance in f32 over the image codes, top-k with ties, division by the temperature, then the largest of score
//! plus Gumbel noise. The noise is a function of (seed, cell, code), so a (prompt, seed) has one token sequence.
//!
//! **Must never know** how many positions are evaluated at once, or which request they belong to.

pub mod grid;
pub mod logits;
pub mod rng;
