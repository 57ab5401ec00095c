//! What this build can run. A valid spec that names anything else is accepted, and said to be so; nothing is run by half.
//!
//! Turning a feature on is one line here, once the worker or the scheduler has it.

use crate::spec::{Decoding, KvCache, Weights};

/// The features that differ between builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Forms of weights that workers of this build load.
    pub weights: &'static [Weights],
    /// Forms of the cache that workers of this build have.
    pub kv_cache: &'static [KvCache],
    /// Decoders of this build.
    pub decoding: &'static [Decoding],
}

/// The features of this build.
pub const THIS_BUILD: Features = Features {
    weights: &[Weights::Int4, Weights::Bf16, Weights::F32],
    kv_cache: &[KvCache::Bf16, KvCache::F32, KvCache::Int8],
    decoding: &[Decoding::Jacobi, Decoding::Coupled, Decoding::Sequential],
};
