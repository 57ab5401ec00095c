//! The law of coupled decoding, by enumeration of every outcome and by a million samples; and the reference's rule, which
//! must fail both.

use std::collections::BTreeMap;

use super::*;
use crate::sample::rng;

const CODES: usize = 3;
const CELLS: usize = 4;
const WINDOW: usize = 3;

/// The law of a cell after a prefix: a fixed, uneven table, some entries zero.
fn law(prefix: &[u32]) -> Vec<f64> {
    let hash = prefix
        .iter()
        .fold(0x2545_F491_u32, |h, t| (h ^ (t + 1)).wrapping_mul(0x0100_0193).rotate_left(7));
    let mut weights: Vec<f64> =
        (0..CODES as u32).map(|i| f64::from(hash >> (8 * i) & 31)).collect();
    weights[prefix.len() % CODES] += 9.0;
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

/// One round's rule, so that the shipped one and the reference's run in the same loop.
trait Rule {
    fn guesses(&self) -> Vec<u32>;
    fn round(&mut self, first: usize, laws: Vec<Vec<f64>>, draws: &mut dyn AnyDraws) -> Vec<u32>;
}

/// [`Draws`] behind a pointer, and the reference's plain uniform accept.
trait AnyDraws {
    fn keep(&mut self, cell: usize, q: f64, p: f64) -> bool;
    fn pick(&mut self, cell: usize, weights: &[f64]) -> usize;
}

impl Draws for &mut dyn AnyDraws {
    fn keep(&mut self, cell: usize, q: f64, p: f64) -> bool {
        (**self).keep(cell, q, p)
    }
    fn pick(&mut self, cell: usize, weights: &[f64]) -> usize {
        (**self).pick(cell, weights)
    }
}

impl Rule for Coupled<f64> {
    fn guesses(&self) -> Vec<u32> {
        Coupled::guesses(self).collect()
    }
    fn round(
        &mut self,
        first: usize,
        laws: Vec<Vec<f64>>,
        mut draws: &mut dyn AnyDraws,
    ) -> Vec<u32> {
        self.accept(first, CELLS - first, laws, &mut draws)
    }
}

/// The reference: every cell is drawn anew each round, and a rejected draft is replaced from `p` unless the supports are
/// disjoint.
#[derive(Default)]
struct Reference {
    drafts: Vec<Draft<f64>>,
}

impl Rule for Reference {
    fn guesses(&self) -> Vec<u32> {
        self.drafts.iter().map(|draft| draft.code as u32).collect()
    }
    fn round(&mut self, first: usize, laws: Vec<Vec<f64>>, draws: &mut dyn AnyDraws) -> Vec<u32> {
        let mut accepted = Vec::new();
        for (i, law) in laws.iter().enumerate() {
            let Some(draft) = self.drafts.get(i) else {
                accepted.push(draws.pick(first + i, law) as u32);
                break;
            };
            if draws.keep(first + i, draft.law[draft.code], law[draft.code]) {
                accepted.push(draft.code as u32);
                continue;
            }
            let rest = residual(law, &draft.law);
            let disjoint = rest.iter().sum::<f64>() + 1e-7 > 1.0;
            accepted.push(draws.pick(first + i, if disjoint { &rest } else { law }) as u32);
            break;
        }
        let done = accepted.len();
        // Drafts of later cells are drawn from this round's laws; cell numbers are moved so that each is asked once.
        self.drafts = laws
            .into_iter()
            .enumerate()
            .skip(done)
            .map(|(i, law)| Draft { code: draws.pick(100 + first + i, &law), law })
            .collect();
        let wanted = (WINDOW - 1).min((CELLS - first - done).saturating_sub(1));
        self.drafts.truncate(wanted);
        while self.drafts.len() < wanted {
            let uniform = vec![1.0 / CODES as f64; CODES];
            let cell = 100 + first + done + self.drafts.len();
            let code = draws.pick(cell, &uniform);
            self.drafts.push(Draft { code, law: uniform });
        }
        accepted
    }
}

fn decode(
    rule: &mut dyn Rule,
    draws: &mut dyn AnyDraws,
    mut next_round: impl FnMut(&mut dyn AnyDraws),
) -> Vec<u32> {
    let mut done: Vec<u32> = Vec::new();
    while done.len() < CELLS {
        let fed = [&done[..], &rule.guesses()].concat();
        assert!(fed.len() < CELLS, "no guess for the last cell");
        let laws = (done.len()..=fed.len()).map(|cell| law(&fed[..cell])).collect();
        done.extend(rule.round(done.len(), laws, draws));
        next_round(draws);
    }
    done
}

/// Follows one path through all outcomes; [`Paths::advance`] goes on to the next.
#[derive(Default)]
struct Paths {
    /// (chosen, probabilities) at each point where chance decides.
    path: Vec<(usize, Vec<f64>)>,
    at: usize,
}

impl Paths {
    fn choose(&mut self, probabilities: Vec<f64>) -> usize {
        if self.at == self.path.len() {
            let first = probabilities.iter().position(|p| *p > 0.0).unwrap();
            self.path.push((first, probabilities));
        }
        self.at += 1;
        self.path[self.at - 1].0
    }

    fn probability(&self) -> f64 {
        self.path.iter().map(|(chosen, probabilities)| probabilities[*chosen]).product()
    }

    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, probabilities)) = self.path.pop() {
            if let Some(more) = (chosen + 1..probabilities.len()).find(|i| probabilities[*i] > 0.0)
            {
                self.path.push((more, probabilities));
                return true;
            }
        }
        false
    }
}

impl AnyDraws for Paths {
    fn keep(&mut self, _cell: usize, q: f64, p: f64) -> bool {
        let kept = (p / q).min(1.0);
        self.choose(vec![kept, 1.0 - kept]) == 0
    }
    fn pick(&mut self, _cell: usize, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        self.choose(weights.iter().map(|w| w / total).collect())
    }
}

/// Probability of every sequence under one-by-one decoding.
fn sequential() -> BTreeMap<Vec<u32>, f64> {
    let mut laws = BTreeMap::from([(Vec::new(), 1.0)]);
    for _ in 0..CELLS {
        laws = laws
            .into_iter()
            .flat_map(|(prefix, probability)| {
                let law = law(&prefix);
                (0..CODES).map(move |code| {
                    ([&prefix[..], &[code as u32]].concat(), probability * law[code])
                })
            })
            .collect();
    }
    laws
}

/// Total variation between the sequential law and every outcome of a rule.
fn enumerate(new_rule: impl Fn() -> Box<dyn Rule>) -> f64 {
    let mut paths = Paths::default();
    let mut laws: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
    loop {
        let made = decode(new_rule().as_mut(), &mut paths, |_| {});
        *laws.entry(made).or_default() += paths.probability();
        if !paths.advance() {
            break;
        }
    }
    let total: f64 = laws.values().sum();
    assert!((total - 1.0).abs() < 1e-12, "every outcome once: {total}");
    let exact = sequential();
    exact.iter().map(|(key, p)| (p - laws.get(key).copied().unwrap_or(0.0)).abs()).sum::<f64>()
        / 2.0
}

/// Draws as the engine makes them.
struct Counted {
    seed: u64,
    round: u32,
}

impl AnyDraws for Counted {
    fn keep(&mut self, cell: usize, q: f64, p: f64) -> bool {
        keeps(rng::uniform(self.seed, cell as u32, 0, 1 + 2 * self.round), q, p)
    }
    fn pick(&mut self, cell: usize, weights: &[f64]) -> usize {
        invert(weights, rng::uniform(self.seed, cell as u32, 0, 2 + 2 * self.round))
    }
}

/// Chi-square over all sequences, and its degrees of freedom.
fn chi_square(samples: u64, new_rule: impl Fn() -> Box<dyn Rule>) -> (f64, f64) {
    let mut counts: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
    for seed in 0..samples {
        // The rounds are counted by the draws, so the loop hands them over through a cell.
        let round = std::cell::Cell::new(0);
        let mut draws =
            Rounds { inner: Counted { seed: seed * 7919 + 5, round: 0 }, round: &round };
        let made = decode(new_rule().as_mut(), &mut draws, |_| round.set(round.get() + 1));
        *counts.entry(made).or_default() += 1.0;
    }
    let exact = sequential();
    let cells = exact.iter().filter(|(_, p)| **p > 0.0);
    let sum = cells
        .clone()
        .map(|(key, p)| {
            let expected = p * samples as f64;
            (counts.get(key).copied().unwrap_or(0.0) - expected).powi(2) / expected
        })
        .sum();
    (sum, cells.count() as f64 - 1.0)
}

struct Rounds<'a> {
    inner: Counted,
    round: &'a std::cell::Cell<u32>,
}

impl AnyDraws for Rounds<'_> {
    fn keep(&mut self, cell: usize, q: f64, p: f64) -> bool {
        self.inner.round = self.round.get();
        self.inner.keep(cell, q, p)
    }
    fn pick(&mut self, cell: usize, weights: &[f64]) -> usize {
        self.inner.round = self.round.get();
        self.inner.pick(cell, weights)
    }
}

#[test]
fn every_outcome_together_has_the_sequential_law() {
    let distance = enumerate(|| Box::new(Coupled::<f64>::new(WINDOW)));
    assert!(distance < 1e-12, "total variation {distance}");
    let reference = enumerate(|| Box::new(Reference::default()));
    assert!(
        reference > 1e-3,
        "the reference's rule is biased, and this test must see it: {reference}"
    );
}

#[test]
fn a_million_samples_have_the_sequential_law() {
    let (sum, freedom) = chi_square(1_000_000, || Box::new(Coupled::<f64>::new(WINDOW)));
    // Five standard deviations above the mean of a chi-square.
    let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
    assert!(sum < limit, "chi-square {sum} over {freedom} degrees");
    let (biased, _) = chi_square(1_000_000, || Box::new(Reference::default()));
    assert!(biased > limit, "the reference's rule must fail: {biased}");
}

#[test]
fn inversion_stays_on_the_support() {
    assert_eq!(invert(&[0.0, 1.0, 0.0, 1.0, 0.0], 0.999_999_999_9), 3);
    assert_eq!(invert(&[0.0, 1.0, 0.0, 1.0, 0.0], 1e-12), 1);
    assert_eq!(residual(&[0.5, 0.5], &[0.5, 0.5]), [0.5, 0.5]);
}
