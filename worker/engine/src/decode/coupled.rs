//! Speculative sampling over a window whose drafts are re-coupled each round (Leviathan et al., arXiv 2211.17192, theorem 1,
//! applied to the drafts of speculative Jacobi decoding).
//!
//! Every pending cell has a draft and the law it was drawn from. A round computes each cell's current law `p` on the drafts
//! before it and couples the draft to it: kept with probability `min(1, p/q)`, else replaced from `max(p - q, 0)`. The result
//! has the law `p` whatever came before, so it counts when everything before it was kept, and it is the next draft, of law `p`,
//! when not. Given everything at earlier cells, a draft has its stored law; that is the invariant that makes the result exact.

/// Where the randomness of a round comes from. Each is asked at most once for a cell in a round.
pub trait Draws {
    /// True with probability `min(1, p / q)`.
    fn keep(&mut self, cell: usize, q: f64, p: f64) -> bool;
    /// An index with a probability proportional to its weight; the weights are not all zero.
    fn pick(&mut self, cell: usize, weights: &[f64]) -> usize;
}

/// The weights from which a rejected draft of law `q` is replaced: `max(p - q, 0)`, or `p` where that is numerically empty.
pub fn residual<F: Copy + Into<f64>>(p: &[F], q: &[F]) -> Vec<f64> {
    let difference = |(p, q): (&F, &F)| ((*p).into() - (*q).into()).max(0.0);
    let weights: Vec<f64> = p.iter().zip(q).map(difference).collect();
    if weights.iter().any(|weight| *weight > 0.0) { weights } else { widen(p) }
}

/// Whether a draft is kept: `u q < p`, which is `u < p / q` without a division.
pub fn keeps(u: f64, q: f64, p: f64) -> bool {
    u * q < p
}

/// An index by inversion of the cumulated weights at `u` in (0, 1).
pub fn invert(weights: &[f64], u: f64) -> usize {
    let total: f64 = weights.iter().sum();
    let mut left = u * total;
    let mut last = 0;
    for (i, weight) in weights.iter().enumerate() {
        if *weight > 0.0 {
            last = i;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

fn widen<F: Copy + Into<f64>>(p: &[F]) -> Vec<f64> {
    p.iter().map(|p| (*p).into()).collect()
}

/// A guessed code and the law it was drawn from.
#[derive(Debug, Clone, PartialEq)]
struct Draft<F> {
    code: usize,
    law: Vec<F>,
}

/// The pending drafts of one request.
#[derive(Debug, Clone)]
pub struct Coupled<F> {
    window: usize,
    drafts: Vec<Draft<F>>,
}

impl<F: Copy + Into<f64>> Coupled<F> {
    /// No drafts yet: the first round evaluates one cell.
    pub fn new(window: usize) -> Self {
        Self { window: window.max(1), drafts: Vec::new() }
    }

    /// The codes guessed for the next cells. The round evaluates one cell more than there are guesses.
    pub fn guesses(&self) -> impl Iterator<Item = u32> {
        self.drafts.iter().map(|draft| draft.code as u32)
    }

    /// Ends a round. `laws` are those of the cells from `first` on, one more than there were guesses unless the picture ends;
    /// `left` counts the cells from `first` to the end. Returns the codes that count, at least one.
    pub fn accept(
        &mut self,
        first: usize,
        left: usize,
        laws: Vec<Vec<F>>,
        draws: &mut impl Draws,
    ) -> Vec<u32> {
        let mut accepted = Vec::new();
        let mut right = true;
        let mut next = Vec::new();
        let mut drafts = std::mem::take(&mut self.drafts).into_iter();
        for (i, law) in laws.into_iter().enumerate() {
            let draft = drafts.next();
            let code = match &draft {
                Some(draft) => couple(draft, &law, first + i, draws),
                None => draws.pick(first + i, &widen(&law)),
            };
            let kept = draft.is_some_and(|draft| draft.code == code);
            if right {
                accepted.push(code as u32);
                right = kept;
            }
            // A draft that counts is needed no longer, but its law may start the cells that nothing is known of.
            next.push(Draft { code, law });
        }
        self.drafts = next.split_off(accepted.len());
        let known = self.drafts.last().or(next.last()).map(|draft| draft.law.clone());
        let wanted = (self.window - 1).min((left - accepted.len()).saturating_sub(1));
        if let Some(law) = known {
            self.drafts.truncate(wanted);
            for cell in first + accepted.len() + self.drafts.len()..first + accepted.len() + wanted
            {
                let code = draws.pick(cell, &widen(&law));
                self.drafts.push(Draft { code, law: law.clone() });
            }
        }
        accepted
    }
}

/// A draw from `law` that agrees with the draft as often as any can (maximal coupling).
fn couple<F: Copy + Into<f64>>(
    draft: &Draft<F>,
    law: &[F],
    cell: usize,
    draws: &mut impl Draws,
) -> usize {
    let (q, p) = (draft.law[draft.code].into(), law[draft.code].into());
    if draws.keep(cell, q, p) { draft.code } else { draws.pick(cell, &residual(law, &draft.law)) }
}

#[cfg(test)]
mod tests;
