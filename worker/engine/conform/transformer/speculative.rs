//! Speculative decoding: whole generations whose guidance is that of the sequential path.

use std::path::Path;

use serde::Deserialize;

use super::generation::Run;
use super::{Fixture, Report, json, model};
use crate::decode::coupled::{keeps, residual};
use crate::request::{Decoding, GuidanceSchedule, Window};
use crate::sample::grid::Grid;

/// f32 rounding of recorded ratios and residuals.
const RATIO: f64 = 1e-5;
const RESIDUAL: f64 = 1e-6;

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
        let recorded = Fixture::open(&path)?;
        for case in recorded.names().filter_map(|name| name.strip_suffix(".draft_probs")) {
            report.group(&format!("sjd_accept: {case}"), |report| {
                acceptance(report, &recorded, case)
            });
        }
        if recorded.names().any(|name| name.starts_with("window_processors.")) {
            report.not_covered("sjd_accept: window_processors", "the reference's own processors");
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
                ("windows of 16", Decoding::Jacobi { window: Window::Fixed(16) }),
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

/// Acceptance and residual of one recorded window, by the functions that coupled decoding uses.
fn acceptance(report: &mut Report, recorded: &Fixture, case: &str) -> Result<(), String> {
    let get = |part: &str| recorded.f32(&format!("{case}.{part}"));
    let label = |part: &str| format!("sjd_accept: {case}.{part}");
    let drafts = recorded.tensor(&format!("{case}.draft_probs"))?;
    let [_, codes] = drafts.shape[..] else {
        return Err(format!("draft_probs has the shape {:?}", drafts.shape));
    };
    let q = drafts.f32();
    let (p, tokens, uniforms) = (get("advanced_probs")?, get("draft_tokens")?, get("rs")?);
    let (mut kept, mut ratios, mut residuals) = (Vec::new(), Vec::new(), Vec::new());
    for (i, u) in uniforms.iter().enumerate() {
        // Draft i + 1 was drawn from its own row and is judged by the row before it.
        let (p, q) = (&p[i * codes..(i + 1) * codes], &q[(i + 1) * codes..(i + 2) * codes]);
        let token = tokens[i + 1] as usize;
        let (at_p, at_q) = (f64::from(p[token]), f64::from(q[token]));
        kept.push(f32::from(u8::from(keeps(f64::from(*u), at_q, at_p))));
        ratios.push(if at_p < at_q { (at_p / at_q) as f32 } else { 1.0 });
        let weights = residual(p, q);
        let total: f64 = weights.iter().sum();
        residuals.extend(weights.iter().map(|weight| (weight / total) as f32));
    }
    report.equal(&label("accept_mask"), &kept, &get("accept_mask")?);
    report.close(&label("accept_ratio"), &ratios, &get("accept_ratio")?, RATIO);
    report.close(&label("exact_residual"), &residuals, &get("exact_residual")?, RESIDUAL);
    let emitted = kept.iter().position(|kept| *kept == 0.0).unwrap_or(kept.len()) + 1;
    report.equal(&label("n_emitted"), &[emitted as f32], &get("n_emitted")?);
    report.not_covered(&label("upstream_residual"), "the reference's deviation");
    Ok(())
}
