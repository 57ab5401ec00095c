use std::path::Path;

use crate::conform::{Status, movqgan};

/// The fixtures of the reference implementation.
fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/golden/movqgan")
}

#[test]
fn every_comparison_of_the_fixtures_holds() {
    let checks = movqgan(&golden());
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check.status != Status::Ok)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(
        checks.len() > 200,
        "only {} comparisons were found",
        checks.len()
    );
}
