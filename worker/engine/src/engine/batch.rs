//! What the rows of one forward pass are: which tokens each branch of each slot feeds, and which rows give scores.
//!
//! A pure structure over token ids. A branch that is far behind (a prompt, a given panel) catches up over several steps, so
//! that it does not hold up the other slots; how it is cut changes no result.

use crate::decode::{Plan, Stream};

/// Rows a branch feeds in one step while it catches up.
pub(crate) const CATCH_UP_ROWS: usize = 64;

/// One of the two sequences of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Branch {
    /// Prompt and image part.
    Conditional,
    /// The image part alone, from position 0.
    Unconditional,
}

/// The tokens of one branch in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feed {
    /// Which sequence.
    pub(crate) branch: Branch,
    /// Its next tokens.
    pub(crate) tokens: Vec<u32>,
    /// Position of the first of them, which is what its cache holds already.
    pub(crate) start: usize,
}

/// What a request does in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It catches up: no scores are wanted.
    CatchUp(Vec<Feed>),
    /// It feeds everything known and the guesses, and wants the scores of `plan.wanted`.
    Decode {
        /// One for each branch.
        feeds: Vec<Feed>,
        /// What was planned.
        plan: Plan,
    },
}

/// Positions that the caches of a request hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cached {
    /// Of the conditional branch.
    pub(crate) conditional: usize,
    /// Of the unconditional branch, if there is one.
    pub(crate) unconditional: Option<usize>,
}

impl Turn {
    /// The next turn of a request; `plan` is asked for only when the caches are close behind.
    pub(crate) fn next(stream: &Stream, cached: Cached, plan: impl FnOnce() -> Plan) -> Self {
        let mut behind = vec![(Branch::Conditional, cached.conditional, stream.prompt())];
        behind.extend(cached.unconditional.map(|cached| (Branch::Unconditional, cached, &[][..])));
        let known = |prompt: &[u32]| prompt.len() + stream.image().len();
        let far = behind.iter().any(|(_, cached, prompt)| known(prompt) - cached > CATCH_UP_ROWS);
        let feed = |branch: Branch, start: usize, prompt: &[u32], end: usize, drafts: &[u32]| {
            let tokens = prompt.iter().chain(stream.image()).copied().skip(start).take(end - start);
            Feed { branch, start, tokens: tokens.chain(drafts.iter().copied()).collect() }
        };
        if far {
            // The last known token is kept back: it is fed in the step that wants its scores.
            let feeds = behind.iter().map(|(branch, cached, prompt)| {
                let end = (known(prompt) - 1).min(cached + CATCH_UP_ROWS);
                feed(*branch, *cached, prompt, end, &[])
            });
            return Self::CatchUp(feeds.filter(|feed| !feed.tokens.is_empty()).collect());
        }
        let plan = plan();
        let feeds = behind.iter().map(|(branch, cached, prompt)| {
            feed(*branch, *cached, prompt, known(prompt), &plan.drafts)
        });
        Self::Decode { feeds: feeds.collect(), plan }
    }

    /// What each branch feeds, conditional first.
    pub(crate) fn feeds(&self) -> &[Feed] {
        match self {
            Self::CatchUp(feeds) | Self::Decode { feeds, .. } => feeds,
        }
    }
}

impl Feed {
    /// The row, counted from this feed's first, whose scores choose the token at `index` of the image part.
    pub(crate) fn row_of(&self, index: usize, prompt: usize) -> usize {
        let before = match self.branch {
            Branch::Conditional => prompt + index - 1,
            Branch::Unconditional => index - 1,
        };
        before - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::tokenizer::TokenIds;
    use crate::sample::grid::Grid;

    fn stream(prompt: usize) -> Stream {
        let grids = (0..20).map(|n| Some(50 + n)).collect();
        let ids = TokenIds {
            bos: 0,
            separator: 1,
            image_start: 2,
            image_end: 3,
            new_line: 4,
            grids,
            image: 100..116,
        };
        let grid = Grid::of_grids(1, 1);
        let opening = grid.opening(&[], &ids).unwrap();
        Stream::new(grid, ids, (1000..1000 + prompt as u32).collect(), opening)
    }

    #[test]
    fn a_long_prompt_catches_up_in_parts_and_every_token_is_fed_once() {
        let stream = stream(150);
        let (mut fed, mut uncond, mut steps) = (Vec::<u32>::new(), 0, 0);
        loop {
            let cached = Cached { conditional: fed.len(), unconditional: Some(uncond) };
            let turn =
                Turn::next(&stream, cached, || Plan { drafts: vec![7, 8], wanted: vec![3, 4, 5] });
            for feed in turn.feeds() {
                assert!(feed.tokens.len() <= CATCH_UP_ROWS + 2);
                match feed.branch {
                    Branch::Conditional => fed.extend(&feed.tokens),
                    Branch::Unconditional => uncond += feed.tokens.len(),
                }
            }
            steps += 1;
            if let Turn::Decode { feeds, .. } = &turn {
                assert_eq!(feeds[0].row_of(3, 150), feeds[0].tokens.len() - 3);
                assert_eq!(feeds[1].row_of(5, 150), feeds[1].tokens.len() - 1);
                break;
            }
        }
        assert_eq!(fed, [stream.prompt(), stream.image(), &[7, 8]].concat());
        assert_eq!((uncond, steps), (5, 3));
    }
}
