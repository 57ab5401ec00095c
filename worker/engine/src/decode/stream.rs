//! The tokens of one request.

use crate::prompt::tokenizer::TokenIds;
use crate::sample::grid::{Grid, Place};

/// Prompt and image part of one request; the image part grows code by code, and what needs no scores follows at once.
#[derive(Debug, Clone)]
pub struct Stream {
    grid: Grid,
    ids: TokenIds,
    prompt: Vec<u32>,
    image: Vec<u32>,
    opening: usize,
}

impl Stream {
    /// A stream whose image part begins with `opening`: the header, and the given panel if there is one.
    pub fn new(grid: Grid, ids: TokenIds, prompt: Vec<u32>, opening: Vec<u32>) -> Self {
        Self { grid, ids, prompt, opening: opening.len(), image: opening }
    }

    /// The prompt, which the unconditional branch does not see.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// The image part so far.
    pub fn image(&self) -> &[u32] {
        &self.image
    }

    /// Layout of the picture.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Tokens that were forced or given before the first code.
    pub fn opening(&self) -> usize {
        self.opening
    }

    /// The generated tokens.
    pub fn generated(&self) -> &[u32] {
        &self.image[self.opening..]
    }

    /// Generated tokens of the finished picture.
    pub fn total(&self) -> usize {
        self.grid.len() - self.opening
    }

    /// Whether image end has been reached.
    pub fn is_finished(&self) -> bool {
        self.image.len() == self.grid.len()
    }

    /// Codes of the whole picture so far.
    pub fn codes(&self) -> Vec<u32> {
        self.grid.codes(&self.image, &self.ids)
    }

    /// Raster index of the cell at an index of the image part.
    pub fn cell(&self, index: usize) -> Option<usize> {
        match self.grid.place(index) {
            Place::Cell(cell) => Some(cell),
            _ => None,
        }
    }

    /// The token of an index that needs no scores.
    pub fn forced(&self, index: usize) -> Option<u32> {
        self.grid.forced(index, &self.ids)
    }

    /// The token of a code.
    pub fn token(&self, code: u32) -> u32 {
        self.ids.image.start + code
    }

    /// Appends the code at the next index, then the tokens that follow it by force.
    pub fn push(&mut self, code: u32) {
        assert!(self.cell(self.image.len()).is_some(), "codes stand in cells");
        self.image.push(self.token(code));
        while !self.is_finished() {
            let Some(token) = self.forced(self.image.len()) else {
                break;
            };
            self.image.push(token);
        }
    }
}
