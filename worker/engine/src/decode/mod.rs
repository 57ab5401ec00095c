//! Decoders: which positions a step evaluates, and which tokens it accepts. All of it is pure bookkeeping over token ids.
//!
//! **Promise.** A decoder sees for each evaluated cell the token that the cell's own scores choose, and keeps a token only
//! when everything before it was right. So [`jacobi`] returns exactly the tokens of [`sequential`], and [`coupled`] tokens of
//! the same law.
//!
//! **Main path.** [`Stream`] holds the tokens; `plan` gives what to feed and where scores are wanted; `accept` takes the choices.
//!
//! **Must never know.** Weights, caches, scores.

pub mod coupled;
pub mod jacobi;
pub mod sequential;
mod stream;

pub use stream::Stream;

/// What one step of a request evaluates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Guessed tokens that follow the known ones, forced tokens among them in place.
    pub drafts: Vec<u32>,
    /// Indices in the image part whose scores are wanted, ascending; the first follows the known tokens.
    pub wanted: Vec<usize>,
}

/// What the scores of one wanted cell came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// The code they choose with the cell's noise.
    Code(u32),
    /// The law over all codes, for decoders that draw by themselves.
    Law(Vec<f32>),
    /// A score was not a finite number.
    NotANumber,
}

impl Choice {
    /// The code, if it is one.
    pub fn code(self) -> Option<u32> {
        if let Self::Code(code) = self { Some(code) } else { None }
    }

    /// The law, if it is one.
    pub fn law(self) -> Option<Vec<f32>> {
        if let Self::Law(law) = self { Some(law) } else { None }
    }
}

impl Plan {
    /// The next `window` code cells, with guesses for all but the last and forced tokens between them. `guess` gives the code
    /// for an index.
    pub fn new(stream: &Stream, window: usize, mut guess: impl FnMut(usize, &Self) -> u32) -> Self {
        let mut plan = Self::default();
        let (mut index, end) = (stream.image().len(), stream.grid().len() - 1);
        while index < end {
            if let Some(token) = stream.forced(index) {
                plan.drafts.push(token);
            } else {
                plan.wanted.push(index);
                if plan.wanted.len() == window {
                    break;
                }
                let code = guess(index, &plan);
                plan.drafts.push(stream.token(code));
            }
            index += 1;
        }
        let fed = plan.wanted.last().map_or(0, |index| index - stream.image().len());
        plan.drafts.truncate(fed);
        plan
    }

    /// The same plan as if only the first `n` cells had been wanted.
    pub fn first(&self, n: usize) -> Self {
        Self {
            drafts: self.drafts.clone(),
            wanted: self.wanted[..n.min(self.wanted.len())].to_vec(),
        }
    }
}
