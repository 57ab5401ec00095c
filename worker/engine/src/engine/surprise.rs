//! How surprising a picture's codes are under the sequential law, by one pass over the finished picture.
//!
//! A rule that claims the sequential law but draws otherwise shows here without drawing anything again: the surprise of each
//! code, less its expectation given what stands before it, is a martingale difference, so that the sum over a picture has mean
//! 0 and the variance that is summed along.

use std::sync::Arc;

use super::slot::{Running, check_panel};
use crate::error::EngineError;
use crate::model::Model;
use crate::request::Request;
use crate::sample::logits::{guide, law};
use crate::transformer::{Chunk, Scratch};

/// Sums over the generated codes of a picture, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Surprise {
    /// `-ln p` of the picture's codes. Infinite when the law excludes one.
    pub seen: f64,
    /// Entropies of their laws.
    pub expected: f64,
    /// Variances of `-ln p` under their laws, in nats squared.
    pub variance: f64,
}

impl Surprise {
    /// By how many standard deviations the picture surprises; 0 when its laws leave no choice and it follows them.
    #[must_use]
    pub fn sigmas(&self) -> f64 {
        let excess = self.seen - self.expected;
        match self.variance > 0.0 || excess > 0.0 {
            true => excess / self.variance.sqrt(),
            false => 0.0,
        }
    }

    fn add(&mut self, law: &[f32], code: usize) {
        let nats = |p: f32| -f64::from(p).ln();
        let possible = law.iter().filter(|p| **p > 0.0);
        let (mean, square) = possible.fold((0.0, 0.0), |(mean, square), p| {
            let (weight, nats) = (f64::from(*p), nats(*p));
            (mean + weight * nats, square + weight * nats * nats)
        });
        self.seen += nats(law[code]);
        self.expected += mean;
        self.variance += (square - mean * mean).max(0.0);
    }
}

/// The surprise of a whole picture's codes (row-major, a given panel's included) under a request's law, whatever its decoding.
/// Holds the scores of all codes at once.
///
/// # Errors
/// The request is bad, the codes are not a picture of its size, or a score is not a finite number.
pub fn surprise(
    model: &Arc<Model>,
    request: &Request,
    codes: &[u32],
) -> Result<Surprise, EngineError> {
    let given = match &request.given {
        Some(panel) => {
            check_panel(model, request, panel)?;
            model.encode_panel(panel)?
        }
        None => Vec::new(),
    };
    let mut running = Running::new(model, 0, request, &given)?;
    let width = model.token_ids().codes();
    let cells = running.stream.grid().cells();
    if codes.len() != cells || codes.iter().any(|code| *code as usize >= width) {
        return Err(EngineError::BadRequest(format!(
            "expected {cells} codes below {width}, got {}",
            codes.len()
        )));
    }
    let codes = &codes[given.len()..];
    codes.iter().for_each(|code| running.stream.push(*code));

    let (stream, branches) = (&running.stream, 1 + usize::from(running.guided));
    let prompt = stream.prompt().len();
    let tokens = [stream.prompt(), stream.image()].concat();
    let sequences = [&tokens[..], &tokens[prompt..]];
    let mut caches: Vec<_> = sequences[..branches]
        .iter()
        .map(|tokens| model.transformer().cache(tokens.len(), model.kv_cache()))
        .collect();
    let mut chunks: Vec<_> =
        caches.iter_mut().zip(sequences).map(|(cache, tokens)| Chunk { cache, tokens }).collect();
    let places = (stream.opening()..stream.grid().len()).filter(|i| stream.cell(*i).is_some());
    let places: Vec<usize> = places.collect();
    // The scores of a token are those of the row of the token before it.
    let rows = places.iter().flat_map(|index| {
        let conditional = prompt + index - 1;
        [conditional, tokens.len() + index - 1].into_iter().take(branches)
    });
    let rows: Vec<usize> = rows.collect();
    let (mut scratch, mut scores) = (Scratch::default(), Vec::new());
    let (transformer, pool) = (model.transformer(), model.pool());
    transformer.forward(pool, &mut chunks, &mut scratch, &mut |_, _, _| {});
    transformer.logits(pool, &mut scratch, &rows, &mut scores, &mut |_, _, _| {});

    let mut sum = Surprise::default();
    let sampler = &request.sampler;
    for ((scores, index), code) in scores.chunks_exact_mut(branches * width).zip(places).zip(codes)
    {
        let (conditional, unconditional) = scores.split_at_mut(width);
        if running.guided {
            guide(conditional, unconditional, running.guidance[index]);
        }
        if !law(conditional, sampler.top_k, sampler.temperature) {
            let cell = running.stream.cell(index).unwrap_or_default();
            return Err(EngineError::NotANumber { cell });
        }
        sum.add(conditional, *code as usize);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{self, ImageTokenizerSize, Options, Preset};
    use crate::request::{Decoding, Sampler, Window};
    use crate::{LoadOptions, generate};

    #[test]
    fn a_law_surprises_each_code_by_its_entropy() {
        let mut sum = Surprise::default();
        sum.add(&[0.5, 0.5, 0.0], 1);
        assert!((sum.seen - 2f64.ln()).abs() < 1e-12 && sum.variance == 0.0 && sum.sigmas() == 0.0);
        sum.add(&[0.25, 0.75, 0.0], 0);
        let (rare, often) = (4f64.ln(), -0.75f64.ln());
        let mean = 0.25 * rare + 0.75 * often;
        assert!((sum.expected - 2f64.ln() - mean).abs() < 1e-12);
        let variance = 0.25 * (rare - mean).powi(2) + 0.75 * (often - mean).powi(2);
        assert!((sum.sigmas() - (rare - mean) / variance.sqrt()).abs() < 1e-9);
        sum.add(&[1.0, 0.0, 0.0], 2);
        assert_eq!(sum.sigmas(), f64::INFINITY);
    }

    #[test]
    fn pictures_of_every_decoding_surprise_as_the_law_says_and_those_of_another_law_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("sharp");
        let sharp = Options {
            preset: Preset::Tiny,
            seed: 5,
            sharp: true,
            image_tokenizer: ImageTokenizerSize::Small,
        };
        random::write_with(&dir, &sharp).expect("a model is written");
        let codes_only = LoadOptions { codes_only: true, ..LoadOptions::default() };
        let model = Model::load(&dir, &codes_only).expect("it loads");
        let window = Window::Fixed(8);
        let jacobi = Decoding::Jacobi { window };
        let request = |seed: u64, decoding: Decoding, temperature: f32| Request {
            prompt: "a lamp".to_owned(),
            width: 64,
            height: 64,
            given: None,
            sampler: Sampler { cfg: 3.0, top_k: 64, temperature, decoding, ..Sampler::default() },
            seed,
        };
        // Of each decoding and of a warmer law, the mean over pictures in standard errors.
        let mean = |decoding: Decoding, temperature: f32| {
            let sigmas = (0..48).map(|seed| {
                let drawn = generate(&model, request(seed, decoding, temperature));
                let codes = drawn.expect("a picture").codes;
                let told = surprise(&model, &request(seed, decoding, 1.0), &codes);
                told.expect("it is a picture").sigmas()
            });
            sigmas.sum::<f64>() / 48f64.sqrt()
        };
        for decoding in [Decoding::Sequential, jacobi, Decoding::Coupled { window }] {
            let z = mean(decoding, 1.0);
            assert!(z.abs() < 3.0, "{decoding:?}: {z}");
        }
        let z = mean(jacobi, 1.2);
        assert!(z > 6.0, "a warmer law surprises: {z}");
    }
}
