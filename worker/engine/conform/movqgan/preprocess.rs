//! Crops, whitening and crop sizes.

use std::path::Path;

use serde_json::Value;

use super::{Outcome, Run};
use crate::conform::fixture::json;
use crate::image::{
    Limits, Mode, RawImage, RgbImage, crop_sizes, decode, pick_crop_size, var_center_crop,
};
use crate::image::{center_crop, whiten::whiten};

pub(super) fn run(run: &mut Run) {
    for (name, compare) in [
        ("preprocess/manifest.json", pictures as fn(&mut Run, &Value)),
        ("preprocess/crop_sizes.json", size_lists),
    ] {
        if run.file(name).is_some() {
            let dir = run.dir.clone();
            if let Some(recorded) = run.read(name, || json(&dir, name)) {
                compare(run, &recorded);
            }
        }
    }
}

fn open(run_dir: &Path, name: &str) -> Result<RawImage, String> {
    let bytes = std::fs::read(run_dir.join("preprocess").join(name))
        .map_err(|error| format!("{name}: {error}"))?;
    decode(&bytes, &Limits::default()).map_err(|error| format!("{name}: {error}"))
}

fn pictures(run: &mut Run, manifest: &Value) {
    let dir = run.dir.clone();
    for entry in manifest.as_array().into_iter().flatten() {
        let input = entry["input"].as_str().unwrap_or_default().to_owned();
        run.check(&format!("preprocess: {input}: mode and size"), 0.0, |_| {
            facts(entry, &open(&dir, &input)?)
        });
        if let Some(file) = entry["whitened_without_crop"].as_str() {
            run.check(&format!("preprocess: {file}"), 0.0, |_| {
                let golden = whiten(&open(&dir, file)?);
                differing(&golden, &whiten(&open(&dir, &input)?))
            });
        }
        for output in entry["outputs"].as_array().into_iter().flatten() {
            let file = output["file"].as_str().unwrap_or_default();
            let op = output["op"].as_str().unwrap_or_default();
            if !matches!(op, "center_crop" | "var_center_crop") {
                run.report.not_covered(&format!("preprocess: {file}"), "an unknown operation");
                continue;
            }
            run.check(&format!("preprocess: {file}"), 0.0, |_| {
                let golden = whiten(&open(&dir, file)?);
                differing(&golden, &whiten(&cropped(&open(&dir, &input)?, output)?))
            });
            if let Some(file) = output["raw_file"].as_str() {
                run.check(&format!("preprocess: {file}"), 0.0, |_| {
                    let (golden, got) = (open(&dir, file)?, cropped(&open(&dir, &input)?, output)?);
                    if (golden.mode, golden.width, golden.height)
                        != (got.mode, got.width, got.height)
                    {
                        return Err(format!(
                            "{:?} {}x{} was made",
                            got.mode, got.width, got.height
                        ));
                    }
                    Ok(golden.data.iter().zip(&got.data).filter(|(a, b)| a != b).count() as f64)
                });
            }
        }
    }
}

fn facts(entry: &Value, raw: &RawImage) -> Outcome {
    let mode = match raw.mode {
        Mode::Bilevel => "1",
        Mode::Gray => "L",
        Mode::GrayAlpha => "LA",
        Mode::Rgb => "RGB",
        Mode::Rgba => "RGBA",
        Mode::Palette => "P",
    };
    let size =
        side(&entry["size_wh"][0])? == raw.width && side(&entry["size_wh"][1])? == raw.height;
    match size && entry["mode"].as_str() == Some(mode) {
        true => Ok(0.0),
        false => Err(format!("it was read as {mode} {}x{}", raw.width, raw.height)),
    }
}

fn side(value: &Value) -> Result<u32, String> {
    value.as_u64().and_then(|v| u32::try_from(v).ok()).ok_or_else(|| format!("{value} is no size"))
}

fn cropped(raw: &RawImage, output: &Value) -> Result<RawImage, String> {
    if output["op"] == "center_crop" {
        return Ok(center_crop(raw, side(&output["out_wh"][0])?, side(&output["out_wh"][1])?).0);
    }
    let patch = output.get("patch_size").map_or(Ok(crate::image::PATCH), side)?;
    var_center_crop(raw, side(&output["target_size"])?, patch)
        .ok_or_else(|| "there is no crop size".to_owned())
}

fn differing(golden: &RgbImage, got: &RgbImage) -> Outcome {
    if (golden.width, golden.height) != (got.width, got.height) {
        return Err(format!(
            "{}x{} was made, not {}x{}",
            got.width, got.height, golden.width, golden.height
        ));
    }
    Ok(golden.data.iter().zip(&got.data).filter(|(a, b)| a != b).count() as f64)
}

fn size_lists(run: &mut Run, sizes: &Value) {
    let patch = sizes
        .get("patch_size")
        .map_or(Ok(crate::image::PATCH), side)
        .unwrap_or(crate::image::PATCH);
    for (target, list) in sizes["crop_size_lists"].as_object().into_iter().flatten() {
        run.check(&format!("preprocess/crop_sizes.json: list for {target}"), 0.0, |_| {
            let target: u32 = target.parse().map_err(|_| "no target size".to_owned())?;
            let expected: Result<Vec<(u32, u32)>, String> = list
                .as_array()
                .into_iter()
                .flatten()
                .map(|wh| Ok((side(&wh[0])?, side(&wh[1])?)))
                .collect();
            let (expected, got) = (expected?, crop_sizes(target, patch));
            let common = expected.iter().zip(&got).filter(|(a, b)| a == b).count();
            Ok((expected.len().max(got.len()) - common) as f64)
        });
    }
    if sizes["picks"].is_array() {
        run.check("preprocess/crop_sizes.json: picks", 0.0, |_| {
            wrong_picks(&sizes["picks"], patch)
        });
    }
}

fn wrong_picks(picks: &Value, patch: u32) -> Outcome {
    let mut wrong = 0.0;
    for pick in picks.as_array().into_iter().flatten() {
        let (w, h) = (side(&pick["wh"][0])?, side(&pick["wh"][1])?);
        for (target, crop) in pick["crop"].as_object().into_iter().flatten() {
            let target: u32 = target.parse().map_err(|_| "no target size".to_owned())?;
            let sizes = crop_sizes(target, patch);
            let got =
                if sizes.contains(&(w, h)) { Some((w, h)) } else { pick_crop_size(&sizes, w, h) };
            if got != Some((side(&crop[0])?, side(&crop[1])?)) {
                wrong += 1.0;
            }
        }
    }
    Ok(wrong)
}
