use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::codebook::Codebook;
use super::{MoVqGan, MovqError};
use crate::error::LoadError;
use crate::image::RgbImage;
use crate::kernels::{Isa, Pool, force_isa};

/// The fixtures of the reference implementation.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/golden/movqgan")
}

fn picture(width: u32, height: u32) -> RgbImage {
    let data =
        (0..width * height * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    RgbImage { width, height, data }
}

#[test]
fn threads_and_instruction_sets_change_no_bit() {
    let model = MoVqGan::open(&golden().join("movq_tiny.safetensors")).unwrap();
    let image = picture(72, 40);
    let codes = model.encode(&image, &Pool::new(1)).unwrap();
    assert_eq!(codes.len(), 9 * 5);
    let decoded = model.decode(&codes, 5, 9, &Pool::new(1)).unwrap();
    assert_eq!((decoded.width, decoded.height), (72, 40));
    for isa in Isa::available() {
        force_isa(Some(isa)).unwrap();
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(
                model.encode(&image, &pool).unwrap(),
                codes,
                "{isa:?} with {threads} threads"
            );
            assert_eq!(
                model.decode(&codes, 5, 9, &pool).unwrap(),
                decoded,
                "{isa:?} with {threads} threads"
            );
        }
    }
    force_isa(None).unwrap();
}

#[test]
fn odd_sizes_are_floored_and_small_ones_refused() {
    let model = MoVqGan::open(&golden().join("movq_tiny.safetensors")).unwrap();
    let pool = Pool::new(2);
    assert_eq!(model.encode(&picture(47, 9), &pool).unwrap().len(), 5);
    assert!(matches!(
        model.encode(&picture(47, 7), &pool),
        Err(MovqError::TooSmall { width: 47, height: 7, factor: 8 })
    ));
    for (codes, h, w) in [(&[0, 1][..], 1, 3), (&[][..], 0, 0), (&[512][..], 1, 1)] {
        assert!(matches!(model.decode(codes, h, w, &pool), Err(MovqError::Codes(_))));
    }
}

/// The tiny model's file with a changed header, opened.
fn altered(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Result<MoVqGan, LoadError> {
    let bytes = std::fs::read(golden().join("movq_tiny.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(&mut header);
    // Every tensor gets a place of its own, in the order of the header.
    let mut data = Vec::new();
    for (_, info) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        let place = |i: usize| info["data_offsets"][i].as_u64().unwrap() as usize;
        let (from, to) = (8 + length + place(0), 8 + length + place(1));
        info["data_offsets"] = json!([data.len(), data.len() + to - from]);
        data.extend(&bytes[from..to]);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let whole = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    std::fs::write(file.path(), whole).unwrap();
    MoVqGan::open(file.path())
}

/// What loading says about a tensor.
fn complaint(name: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
    match altered(change) {
        Err(LoadError::Tensor { name: found, reason }) if found == name => reason,
        other => panic!("a complaint about {name} is expected, not {:?}", other.map(|m| m.config)),
    }
}

#[test]
fn every_wrong_tensor_is_named() {
    let reshape = |header: &mut serde_json::Map<String, Value>, name: &str, shape: Value| {
        header[name]["shape"] = shape
    };
    let missing = "decoder.up.2.block.1.norm2.conv_b.bias";
    assert_eq!(complaint(missing, |h| drop(h.remove(missing))), "it is missing");
    let shaped = "encoder.mid.attn_1.q.weight";
    assert_eq!(
        complaint(shaped, |h| reshape(h, shaped, json!([32, 32]))),
        "its shape is [32, 32], not [32, 32, 1, 1]"
    );
    let typed = "quant_conv.bias";
    let reason = complaint(typed, |h| h[typed]["dtype"] = json!("I32"));
    assert_eq!(reason, "its elements are I32, not floats");
    let extra = "encoder.down.0.block.0.temb_proj.weight";
    let copy = |h: &mut serde_json::Map<String, Value>| {
        drop(h.insert(extra.to_owned(), h["quant_conv.bias"].clone()))
    };
    assert_eq!(complaint(extra, copy), "it has no place in the model");
    let stray = "loss.discriminator.weight";
    altered(|h| drop(h.insert(stray.to_owned(), h["quant_conv.bias"].clone()))).unwrap();
}

#[test]
fn a_value_that_is_not_a_number_is_named() {
    let bytes = std::fs::read(golden().join("movq_tiny.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, Value> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    let file = tempfile::NamedTempFile::new().unwrap();
    for (name, entry) in tensors.step_by(29) {
        let range = &entry["data_offsets"];
        let last = 8 + length + range[1].as_u64().unwrap() as usize - 4;
        let element = (range[1].as_u64().unwrap() - range[0].as_u64().unwrap()) / 4 - 1;
        let mut spoilt = bytes.clone();
        spoilt[last..last + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(file.path(), spoilt).unwrap();
        match MoVqGan::open(file.path()) {
            Err(LoadError::Tensor { name: found, reason }) => {
                assert_eq!(found, *name);
                assert_eq!(reason, format!("element {element} is not a finite number"));
            }
            other => panic!("{name}: {:?}", other.map(|model| model.config)),
        }
    }
}

#[test]
fn pixels_that_are_not_numbers_are_an_error() {
    let mut model = MoVqGan::open(&golden().join("movq_tiny.safetensors")).unwrap();
    let (n, dim) = (model.codebook.n, model.codebook.dim);
    model.codebook = Codebook::new(n, dim, vec![f32::MAX; n * dim]);
    let decoded = model.decode(&[0, 1, 2, 3], 2, 2, &Pool::new(1));
    assert!(matches!(decoded, Err(MovqError::NotANumber)), "{decoded:?}");
}

#[test]
fn every_tensor_is_needed() {
    let bytes = std::fs::read(golden().join("movq_tiny.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, Value> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let shape = |info: &Value| {
        info["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let shapes: std::collections::BTreeMap<String, Vec<usize>> = header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, info)| (name.clone(), shape(info)))
        .collect();
    let config = super::structure(&shapes).unwrap();
    assert_eq!(config.encoder_channels, [32, 64, 32, 32]);
    assert_eq!(config.attention_levels, [3]);
    for name in shapes.keys() {
        let mut rest = shapes.clone();
        rest.remove(name);
        // Without any part of its first attention a level would be a level without attention, and the others left over.
        let error = super::structure(&rest).expect_err(name).to_string();
        assert!(error.contains("missing") || error.contains("no place"), "{name}: {error}");
    }
}
