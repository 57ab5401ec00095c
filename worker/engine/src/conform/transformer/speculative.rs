//! Speculative decoding: whole generations whose guidance is that of the sequential path.

use std::path::Path;

use serde::Deserialize;

use super::generation::Run;
use super::{Report, json, model};
use crate::request::{Decoding, GuidanceSchedule, Window};
use crate::sample::grid::Grid;
use crate::weights::Tensors;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    end_to_end_greedy: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    h_grids: usize,
    w_grids: usize,
    cfg: f32,
    prompt_ids: Vec<u32>,
    #[serde(default)]
    prefix_forced_as_first_tokens: Vec<u32>,
    same_guidance_uncond_from_image_start_tokens: Option<Vec<u32>>,
}

/// `sjd_accept.json` and `sjd_accept.safetensors`.
pub(super) fn run(report: &mut Report, dir: &Path) -> Result<(), String> {
    let path = dir.join("sjd_accept.safetensors");
    if path.exists() {
        let recorded = Tensors::open(vec![path]).map_err(|error| error.to_string())?;
        for tensor in ["accept_mask", "exact_residual"] {
            let n = recorded
                .names()
                .iter()
                .filter(|name| name.ends_with(tensor))
                .count();
            report.not_covered(
                &format!("sjd_accept: {tensor}"),
                &format!("{n} cases; coupled decoding is not built"),
            );
        }
    }
    if !dir.join("sjd_accept.json").exists() {
        return Ok(());
    }
    let file: File = json(dir, "sjd_accept.json")?;
    if file.end_to_end_greedy.is_empty() {
        return Ok(());
    }
    let model = model(dir)?;
    for (i, case) in file.end_to_end_greedy.iter().enumerate() {
        let name = format!("sjd_accept.json: end_to_end_greedy {i} ({})", case.kind);
        report.not_covered(
            &format!("{name}: upstream_sjd_tokens"),
            "the reference's own unconditional branch",
        );
        let Some(want) = &case.same_guidance_uncond_from_image_start_tokens else {
            continue;
        };
        report.group(&name, |report| {
            let want = &want[case.prefix_forced_as_first_tokens.len()..];
            for (label, decoding) in [
                ("sequential", Decoding::Sequential),
                (
                    "windows of 16",
                    Decoding::Jacobi {
                        window: Window::Fixed(16),
                    },
                ),
            ] {
                let run = Run {
                    grid: Grid::of_grids(case.h_grids, case.w_grids),
                    prompt_ids: &case.prompt_ids,
                    cfg: case.cfg,
                    guidance: GuidanceSchedule::Constant,
                    decoding,
                };
                let label =
                    format!("{name}: same_guidance_uncond_from_image_start_tokens, {label}");
                report.equal(&label, &run.make(&model)?.generated, want);
            }
            Ok(())
        });
    }
    Ok(())
}
