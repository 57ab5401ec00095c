//! What this build can run. A valid spec that names anything else is accepted, and said to be so; nothing is run by half.

use std::fmt::Write as _;

use super::{Form, KEYS, Key, Runs};
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

/// What this build does with every key, a line each. Checked in as `jobs/specs/KEYS.txt`.
pub fn fates() -> String {
    let mut text = "# What this build does with every key of a spec. `run`: it does what it says. `refused`: a spec with it is valid, and is told\n\
        # that this build cannot run it. Anything else is a mistake. Made from jobs/src/keys.rs.\n"
        .to_owned();
    for key in KEYS {
        let _ = writeln!(text, "{} {}", key.path, fate(key));
    }
    text
}

fn fate(key: &Key) -> String {
    let refused = |runs: Runs| matches!(runs, Runs::No(_) | Runs::Partly("", _));
    // A block that is refused takes its keys with it.
    let above = KEYS.iter().filter(|above| {
        key.path.strip_prefix(above.path).is_some_and(|rest| rest.starts_with('.'))
    });
    if refused(key.runs) || above.map(|above| above.runs).any(refused) {
        return "refused".to_owned();
    }
    match (key.runs, key.form) {
        (Runs::Partly(runs, refused), _) => format!("run: {runs}; refused: {refused}"),
        (Runs::But(refused), Form::Words(words) | Form::List(&Form::Words(words), ..)) => {
            let runs: Vec<&str> =
                words.iter().copied().filter(|word| !refused.contains(word)).collect();
            match runs.is_empty() {
                true => "refused".to_owned(),
                false => format!("run: {}; refused: {}", runs.join(", "), refused.join(", ")),
            }
        }
        _ => "run".to_owned(),
    }
}
