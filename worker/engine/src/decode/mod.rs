//! Decoders: which positions a step evaluates, and which tokens it accepts. All of it is pure bookkeeping over token ids.
//!
//! **Promise.** A decoder sees for each evaluated cell the token that the cell's own scores choose, and keeps a token only
//! when everything before it was right. So [`jacobi`] returns exactly the tokens of [`sequential`].
//!
//! **Main path.** [`Stream`] holds the tokens; `plan` says what to feed and where scores are wanted; `accept` takes the choices.
//!
//! **Must never know.** Weights, caches, scores.

pub mod jacobi;
pub mod sequential;
mod stream;

pub use stream::Stream;

/// What one step of a request evaluates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Guessed tokens that follow the known ones, forced tokens among them in place.
    pub drafts: Vec<u32>,
    /// Indices in the image part whose scores are wanted, ascending; the first follows the known tokens.
    pub wanted: Vec<usize>,
}

impl Plan {
    /// The same plan as if only the first `n` cells had been wanted.
    pub fn first(&self, n: usize) -> Self {
        Self {
            drafts: self.drafts.clone(),
            wanted: self.wanted[..n.min(self.wanted.len())].to_vec(),
        }
    }
}
