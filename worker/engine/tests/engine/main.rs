//! The engine from outside: recorded results of the reference, and the promise that a request's result is its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod checkpoint;
mod conform;
mod image;
mod invariance;
mod matrix;
mod quantise;
mod random;

use std::path::PathBuf;

/// The recorded results of the transformer.
fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/golden/transformer")
}
