//! Comparisons of the transformer fixtures.

use std::path::Path;

use super::Check;

/// Runs every comparison of a transformer fixture folder.
pub fn transformer(_dir: &Path) -> Vec<Check> {
    Vec::new()
}
