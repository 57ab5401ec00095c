//! Every comparison of the golden folder, and that the comparisons can fail.

use nightshift_engine::conform::{Check, Status, transformer};

use crate::golden;

fn failures(checks: &[Check]) -> Vec<String> {
    let failed = checks.iter().filter(|check| check.status == Status::Fail);
    failed
        .map(|check| {
            format!("{}: {} > {}: {}", check.name, check.worst, check.tolerance, check.note)
        })
        .collect()
}

#[test]
fn the_transformer_agrees_with_the_reference() {
    let checks = transformer(&golden());
    assert_eq!(failures(&checks), Vec::<String>::new());
    let passed = checks.iter().filter(|check| check.status == Status::Ok).count();
    assert!(passed > 150, "{passed} checks ran");
}

#[test]
fn a_changed_weight_or_a_broken_file_fails_and_the_rest_still_runs() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tiny", "variants/gqa_mp2"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
        for entry in std::fs::read_dir(golden().join(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(name).join(path.file_name().unwrap())).unwrap();
        }
    }
    std::fs::copy(golden().join("forward.safetensors"), dir.path().join("forward.safetensors"))
        .unwrap();
    std::fs::write(dir.path().join("greedy.json"), "{ not json").unwrap();
    let weights = dir.path().join("tiny/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    // The last tensor of the file is the final norm; one exponent bit of it changes every score.
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    std::fs::write(&weights, bytes).unwrap();

    let checks = transformer(dir.path());
    let failed = failures(&checks).join("\n");
    assert!(failed.contains("forward: logits:"), "{failed}");
    assert!(failed.contains("greedy.json:"), "{failed}");
    assert!(checks.iter().any(|c| c.name == "forward: hidden_layer_0" && c.status == Status::Ok));
    assert!(checks.iter().any(|c| c.name == "variants/gqa_mp2: logits" && c.status == Status::Ok));
}
