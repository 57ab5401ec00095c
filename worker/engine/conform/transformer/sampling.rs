//! Recorded sampling steps: scores of both branches, guidance, constraint, top-k, temperature, probabilities.

use std::path::Path;

use serde::Deserialize;

use super::{Fixture, Report, json, token_ids, transformer_of};
use crate::kernels::{Pool, softmax_in_place};
use crate::prompt::tokenizer::TokenIds;
use crate::quant::{KvCache, Weights};
use crate::request::GuidanceSchedule;
use crate::sample::grid::{Grid, Place};
use crate::sample::logits::{cool, guidance_table, guide, keep_top_k};
use crate::transformer::{Chunk, Scratch, Transformer};

const LOGITS: f64 = 1e-4;
const GUIDED: f64 = 1e-3;
const PROBABILITIES: f64 = 1e-4;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    runs: Vec<Run>,
    text_step: Option<Step>,
    after_image_start_step: Option<Step>,
    topk_ties: Option<Ties>,
}

#[derive(Deserialize)]
struct Run {
    h_grids: usize,
    w_grids: usize,
    cfg: f32,
    image_top_k: usize,
    temperature: f32,
    prompt_ids: Vec<u32>,
    image_start_index: usize,
    sampled: Vec<u32>,
    guidance_used: Vec<f64>,
}

#[derive(Deserialize)]
struct Step {
    prompt_ids: Vec<u32>,
    #[serde(alias = "text_top_k", alias = "image_top_k")]
    top_k: usize,
}

#[derive(Deserialize)]
struct Ties {
    scores: Vec<f32>,
    k: usize,
    kept: Vec<bool>,
}

struct Context {
    transformer: Transformer,
    pool: Pool,
    ids: TokenIds,
    recorded: Fixture,
}

/// `cfg_decode.json` and `cfg_decode.safetensors`.
pub(super) fn run(report: &mut Report, dir: &Path) -> Result<(), String> {
    let file: File = json(dir, "cfg_decode.json")?;
    if let Some(ties) = &file.topk_ties {
        let mut scores = ties.scores.clone();
        keep_top_k(&mut scores, ties.k);
        let kept: Vec<bool> = scores.iter().map(|score| score.is_finite()).collect();
        report.equal("cfg_decode: topk_ties", &kept, &ties.kept);
    }
    let context = Context::load(dir)?;
    for (i, run) in file.runs.iter().enumerate() {
        let name = format!("run{i}");
        report.group(&format!("cfg_decode: {name}"), |report| context.run(report, &name, run));
    }
    for (name, step) in
        [("text_step", &file.text_step), ("after_image_start_step", &file.after_image_start_step)]
    {
        if let Some(step) = step {
            report.group(&format!("cfg_decode: {name}"), |report| context.step(report, name, step));
        }
    }
    Ok(())
}

impl Context {
    fn load(dir: &Path) -> Result<Self, String> {
        Ok(Self {
            transformer: transformer_of(&dir.join("tiny"), Weights::F32)?,
            pool: Pool::new(2),
            ids: token_ids(dir)?,
            recorded: Fixture::open(&dir.join("cfg_decode.safetensors"))?,
        })
    }

    /// Scores over the whole vocabulary at the positions of the last `steps` tokens.
    fn scores(&self, tokens: &[u32], steps: usize) -> Vec<f32> {
        let mut cache = self.transformer.cache(tokens.len(), KvCache::F32);
        let (mut scratch, mut logits) = (Scratch::default(), Vec::new());
        let mut chunks = [Chunk { cache: &mut cache, tokens }];
        self.transformer.forward(&self.pool, &mut chunks, &mut scratch, &mut |_, _, _| {});
        let rows: Vec<usize> = (tokens.len() - steps..tokens.len()).collect();
        self.transformer.logits(&self.pool, &mut scratch, &rows, &mut logits, &mut |_, _, _| {});
        logits
    }

    fn close(
        &self,
        report: &mut Report,
        name: &str,
        got: &[f32],
        tolerance: f64,
    ) -> Result<(), String> {
        if self.recorded.has(name) {
            let want = self.recorded.f32(name)?;
            report.close(&format!("cfg_decode: {name}"), got, &want, tolerance);
        }
        Ok(())
    }

    fn run(&self, report: &mut Report, name: &str, run: &Run) -> Result<(), String> {
        let steps = run.sampled.len();
        let vocab = self.transformer.config().vocab_size;
        let fed = [&run.prompt_ids[..], &run.sampled[..steps - 1]].concat();
        let first = run.prompt_ids.len() - run.image_start_index;
        let grid = Grid::of_grids(run.h_grids, run.w_grids);
        let table = guidance_table(GuidanceSchedule::Reference, run.cfg, grid, first);
        let used: Vec<f32> = run.guidance_used.iter().map(|g| *g as f32).collect();
        report.close(
            &format!("cfg_decode: {name}.guidance_used"),
            &table[first..first + steps],
            &used,
            1e-6,
        );
        let mut scores = self.scores(&fed, steps);
        self.close(report, &format!("{name}.cond_logits"), &scores, LOGITS)?;
        if run.cfg != 1.0 {
            let unconditional = self.scores(&fed[run.image_start_index..], steps);
            self.close(report, &format!("{name}.uncond_logits"), &unconditional, LOGITS)?;
            for (step, row) in scores.chunks_mut(vocab).enumerate() {
                guide(row, &unconditional[step * vocab..][..vocab], table[first + step]);
            }
        }
        self.close(report, &format!("{name}.cfg_logits"), &scores, GUIDED)?;
        self.each(&mut scores, |step, row| self.constrain(grid.place(first + step), row));
        self.close(report, &format!("{name}.constrained"), &scores, GUIDED)?;
        self.each(&mut scores, |_, row| keep_top_k(row, run.image_top_k));
        self.close(report, &format!("{name}.after_topk"), &scores, GUIDED)?;
        self.each(&mut scores, |_, row| cool(row, run.temperature));
        self.close(report, &format!("{name}.final_scores"), &scores, GUIDED)?;
        self.each(&mut scores, |_, row| softmax_in_place(row));
        self.close(report, &format!("{name}.probs"), &scores, PROBABILITIES)
    }

    fn each(&self, scores: &mut [f32], change: impl Fn(usize, &mut [f32])) {
        for (step, row) in scores.chunks_mut(self.transformer.config().vocab_size).enumerate() {
            change(step, row);
        }
    }

    /// What the engine does by construction, over the whole vocabulary: image tokens alone, or one forced token.
    fn constrain(&self, place: Place, row: &mut [f32]) {
        let only = match place {
            Place::RowEnd => Some(self.ids.new_line),
            Place::End => Some(self.ids.image_end),
            _ => None,
        };
        for (id, score) in row.iter_mut().enumerate() {
            let id = id as u32;
            match only {
                Some(token) => *score = if id == token { 0.0 } else { f32::NEG_INFINITY },
                None if self.ids.image.contains(&id) => {}
                None => *score = f32::NEG_INFINITY,
            }
        }
    }

    /// A step before a picture is open: top-k over the whole vocabulary and nothing else.
    fn step(&self, report: &mut Report, name: &str, step: &Step) -> Result<(), String> {
        let mut scores = self.scores(&step.prompt_ids, 1);
        self.close(report, &format!("{name}.raw"), &scores, LOGITS)?;
        keep_top_k(&mut scores, step.top_k);
        self.close(report, &format!("{name}.processed"), &scores, LOGITS)
    }
}
