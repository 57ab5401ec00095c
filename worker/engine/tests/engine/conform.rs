//! Every comparison of the golden folder, and that the comparisons can fail.

use nightshift_engine::conform::{Check, Status, movqgan, transformer};

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

fn movqgan_golden() -> std::path::PathBuf {
    golden().with_file_name("movqgan")
}

#[test]
fn the_image_tokenizer_agrees_with_the_reference() {
    let checks = movqgan(&movqgan_golden());
    let failed: Vec<_> = checks.iter().filter(|check| check.status != Status::Ok).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(checks.len() > 150, "only {} comparisons were found", checks.len());
}

#[test]
fn a_folder_without_fixtures_has_nothing_to_compare() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(movqgan(empty.path()), []);
}

#[test]
fn a_broken_fixture_is_a_failed_check() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("units.safetensors"), b"\x05\0\0\0\0\0\0\0{").unwrap();
    std::fs::copy(
        movqgan_golden().join("decode.safetensors"),
        folder.path().join("decode.safetensors"),
    )
    .unwrap();
    let checks = movqgan(folder.path());
    assert!(
        checks.len() == 2 && checks.iter().all(|check| check.status == Status::Fail),
        "{checks:#?}"
    );
}
