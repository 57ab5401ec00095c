//! Fixed-noise Jacobi decoding (speculative Jacobi decoding of arXiv 2410.01699, with noise tied to the position).
//!
//! The code of a cell is a function of the tokens before it, because its noise is fixed. So a window of cells is evaluated on
//! guesses; a code counts when all guesses before it were right, and the first one behind a wrong guess was itself computed
//! on a right prefix. What was computed behind it is the next step's guess.

use super::{Plan, Stream};

/// What is left of the last window.
#[derive(Debug, Clone, Default)]
pub struct Jacobi {
    /// Codes guessed for the cells that follow the stream's last one.
    guesses: Vec<u32>,
}

impl Jacobi {
    /// The next `window` code cells, guessed from the last window where it reached.
    pub fn plan(&self, stream: &Stream, window: usize) -> Plan {
        let mut guesses = self.guesses.iter().copied();
        Plan::new(stream, window, |index, plan| {
            guesses.next().unwrap_or_else(|| guess(stream, index, plan))
        })
    }

    /// Takes the codes chosen for `plan.wanted`. Returns how many tokens of the image part the caches may keep.
    pub fn accept(&mut self, stream: &mut Stream, plan: &Plan, codes: &[u32]) -> usize {
        let start = stream.image().len();
        let mut keep = start;
        for (i, (index, code)) in plan.wanted.iter().zip(codes).enumerate() {
            stream.push(*code);
            keep = *index;
            let guessed = plan.drafts.get(index - start);
            // The acceptance rule: the guess that the next scores were computed on is the code that its own scores choose.
            if guessed != Some(&stream.token(*code)) {
                self.guesses = codes[i + 1..].to_vec();
                return keep;
            }
        }
        self.guesses.clear();
        keep
    }
}

/// A guess for a cell that was never evaluated: the token before it, row ends passed over. Any rule gives the same result.
fn guess(stream: &Stream, index: usize, plan: &Plan) -> u32 {
    let known = stream.image();
    let at = |i: usize| {
        if i < known.len() { known[i] } else { plan.drafts[i - known.len()] }
    };
    let before = (0..index).rev().find(|i| stream.cell(*i).is_some());
    before.map_or(0, |i| at(i) - stream.token(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sequential;
    use crate::prompt::tokenizer::TokenIds;
    use crate::sample::grid::Grid;

    fn stream(grid: Grid) -> Stream {
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
        let opening = grid.opening(&[], &ids).unwrap();
        Stream::new(grid, ids, vec![0, 7, 1], opening)
    }

    /// A stand-in for the model: the code of a cell is a hash of everything before it, with few values so that guesses hit.
    fn model(tokens: &[u32]) -> u32 {
        let hash = tokens.iter().fold(17u32, |h, t| h.wrapping_mul(31).wrapping_add(*t / 2));
        (hash >> 13) % 3
    }

    fn sequential_tokens(grid: Grid) -> Vec<u32> {
        let mut stream = stream(grid);
        while !stream.is_finished() {
            let code = model(stream.image());
            sequential::accept(&mut stream, code);
        }
        stream.image().to_vec()
    }

    #[test]
    fn every_window_gives_the_tokens_of_one_by_one() {
        for grid in [Grid::of_grids(1, 1), Grid::of_grids(2, 1), Grid::of_grids(1, 3)] {
            let expected = sequential_tokens(grid);
            for window in [1, 2, 4, 5, 16, 64, 1000] {
                let (mut stream, mut jacobi, mut steps) = (stream(grid), Jacobi::default(), 0);
                while !stream.is_finished() {
                    let plan = jacobi.plan(&stream, window);
                    assert!(!plan.wanted.is_empty() && plan.wanted.len() <= window);
                    let fed = [stream.image(), &plan.drafts].concat();
                    assert_eq!(
                        fed.len(),
                        *plan.wanted.last().unwrap(),
                        "the last wanted cell follows what is fed"
                    );
                    let codes: Vec<u32> =
                        plan.wanted.iter().map(|index| model(&fed[..*index])).collect();
                    let keep = jacobi.accept(&mut stream, &plan, &codes);
                    assert_eq!(
                        fed[..keep],
                        stream.image()[..keep],
                        "the caches keep accepted tokens alone"
                    );
                    steps += 1;
                }
                assert_eq!(stream.image(), expected, "window {window}");
                assert!(window == 1 || steps < grid.cells(), "window {window} saved no step");
            }
        }
    }

    #[test]
    fn row_ends_inside_a_window_are_placed_and_not_guessed() {
        let stream = stream(Grid::of_grids(1, 1));
        let plan = Jacobi::default().plan(&stream, 6);
        assert_eq!(plan.wanted, [3, 4, 5, 6, 8, 9]);
        assert_eq!(plan.drafts[4], 4, "the row end");
    }
}
