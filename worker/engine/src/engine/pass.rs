//! One pass: the rows that a step feeds go through the transformer, and each wanted cell gets a code or a law.
//!
//! Together with [`BranchCache`](crate::transformer::BranchCache) this is all that a step asks of the machine that computes;
//! slots, prefixes, turns and windows know no machine.

use std::time::Instant;

use crate::decode::Choice;
use crate::model::Model;
use crate::sample::logits::{choose, guide, law};
use crate::sample::rng::{GUMBEL_DRAW, gumbel_of_cell};
use crate::transformer::{Chunk, Scratch};

use super::counters::Spent;

/// One cell that a pass evaluates, with everything that its choice depends on beside the scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The slot it belongs to.
    pub(super) slot: usize,
    /// Raster index over the whole picture.
    pub(super) cell: usize,
    /// Row of the batch whose scores count.
    pub(super) conditional: usize,
    /// Row of the other branch, when there is guidance.
    pub(super) unconditional: Option<usize>,
    /// Guidance scale.
    pub(super) scale: f32,
    pub(super) top_k: usize,
    pub(super) temperature: f32,
    pub(super) seed: u64,
    /// Whether its law is wanted and not a code.
    pub(super) law: bool,
}

impl Wanted {
    /// Rows of the batch, conditional first.
    pub(super) fn rows(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.conditional).chain(self.unconditional)
    }

    /// Its code or law, from its scores and its own noise alone. `unconditional` is read with guidance only.
    fn choice(&self, conditional: &[f32], unconditional: &[f32]) -> Choice {
        let mut scores = conditional.to_vec();
        if self.unconditional.is_some() {
            guide(&mut scores, unconditional, self.scale);
        }
        if self.law {
            return match law(&mut scores, self.top_k, self.temperature) {
                true => Choice::Law(scores),
                false => Choice::NotANumber,
            };
        }
        let noise = |out: &mut [f32]| {
            gumbel_of_cell(self.seed, self.cell as u32, GUMBEL_DRAW, out);
        };
        let code = choose(&mut scores, self.top_k, self.temperature, noise);
        code.map_or(Choice::NotANumber, Choice::Code)
    }
}

/// Buffers of a pass, kept between passes.
#[derive(Debug, Default)]
pub(super) struct Pass {
    scratch: Scratch,
    /// (rows of the wanted cells, codes)
    scores: Vec<f32>,
    /// Seconds of guidance, top-k, noise and choice.
    choosing: f64,
}

impl Pass {
    /// Feeds the chunks, whose caches grow, and computes the scores of the wanted cells.
    pub(super) fn run(&mut self, model: &Model, chunks: &mut [Chunk<'_>], wanted: &[Wanted]) {
        let (transformer, pool) = (model.transformer(), model.pool());
        let rows: Vec<usize> = wanted.iter().flat_map(Wanted::rows).collect();
        transformer.forward(pool, chunks, &mut self.scratch, &mut |_, _, _| {});
        transformer.logits(pool, &mut self.scratch, &rows, &mut self.scores, &mut |_, _, _| {});
    }

    /// The code or law of each cell that [`Self::run`] was given.
    pub(super) fn choices(&mut self, model: &Model, wanted: &[Wanted]) -> Vec<Choice> {
        let began = Instant::now();
        let width = model.token_ids().codes();
        let mut next = 0;
        let first = wanted.iter().map(|wanted| {
            let first = next;
            next += wanted.rows().count();
            first
        });
        let first: Vec<usize> = first.collect();
        let mut choices = vec![Choice::NotANumber; wanted.len()];
        model.pool().chunks_mut(&mut choices, 1, |i, choice| {
            let (conditional, rest) = self.scores[first[i] * width..].split_at(width);
            choice[0] = wanted[i].choice(conditional, &rest[..width.min(rest.len())]);
        });
        self.choosing += began.elapsed().as_secs_f64();
        choices
    }

    /// Seconds so far; those of whole steps are the caller's.
    pub(super) fn spent(&self, step: f64) -> Spent {
        Spent { step, transformer: self.scratch.spent(), choose: self.choosing }
    }
}
