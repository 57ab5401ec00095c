//! The layout of a picture's tokens: header, rows of codes with their ends, image end.

use crate::error::EngineError;
use crate::prompt::tokenizer::TokenIds;

/// Pixels of a grid, the unit of a picture's size.
pub const GRID_PIXELS: u32 = 32;
/// Codes along the side of a grid.
const GRID_CODES: usize = 4;
/// Image start and the two grid tokens.
pub const HEADER: usize = 3;

/// The layout of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Rows of codes.
    pub rows: usize,
    /// Codes in a row.
    pub cols: usize,
}

/// What one index of the image part holds (index 0 is image start).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Image start.
    Start,
    /// Grid token of the height.
    Height,
    /// Grid token of the width.
    Width,
    /// A code cell, by raster index over the whole picture.
    Cell(usize),
    /// The end of a row.
    RowEnd,
    /// The end of the image.
    End,
}

impl Grid {
    /// The grid of a picture in pixels.
    ///
    /// # Errors
    /// A side is zero or not a multiple of 32.
    pub fn of_pixels(width: u32, height: u32) -> Result<Self, EngineError> {
        let fits = |side: u32| side > 0 && side.is_multiple_of(GRID_PIXELS);
        if !fits(width) || !fits(height) {
            return Err(EngineError::BadRequest(format!(
                "the picture is {width}x{height}; its sides must be multiples of 32"
            )));
        }
        Ok(Self::of_grids((height / GRID_PIXELS) as usize, (width / GRID_PIXELS) as usize))
    }

    /// The grid of a size in units of 32 pixels.
    pub fn of_grids(high: usize, wide: usize) -> Self {
        Self { rows: high * GRID_CODES, cols: wide * GRID_CODES }
    }

    /// Tokens of the whole image part, image start and image end included.
    pub fn len(&self) -> usize {
        self.index_of_row(self.rows) + 1
    }

    /// Never: a picture has at least its header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Code cells.
    pub fn cells(&self) -> usize {
        self.rows * self.cols
    }

    /// Index of the first token of a row; of image end for the row after the last.
    pub fn index_of_row(&self, row: usize) -> usize {
        HEADER + row * (self.cols + 1)
    }

    /// What an index holds.
    ///
    /// # Panics
    /// Behind image end.
    pub fn place(&self, index: usize) -> Place {
        assert!(index < self.len(), "index {index} is behind the image end");
        match index {
            0 => Place::Start,
            1 => Place::Height,
            2 => Place::Width,
            _ => {
                let (row, col) =
                    ((index - HEADER) / (self.cols + 1), (index - HEADER) % (self.cols + 1));
                match () {
                    () if row == self.rows => Place::End,
                    () if col == self.cols => Place::RowEnd,
                    () => Place::Cell(row * self.cols + col),
                }
            }
        }
    }

    /// The token of an index that needs no scores, or nothing for a code cell.
    pub fn forced(&self, index: usize, ids: &TokenIds) -> Option<u32> {
        match self.place(index) {
            Place::Start => Some(ids.image_start),
            Place::Height => ids.grid(self.rows / GRID_CODES),
            Place::Width => ids.grid(self.cols / GRID_CODES),
            Place::RowEnd => Some(ids.new_line),
            Place::End => Some(ids.image_end),
            Place::Cell(_) => None,
        }
    }

    /// The header and the first rows, whose codes are given, as tokens.
    ///
    /// # Errors
    /// The vocabulary has no grid token for this size, or a code is outside the codebook.
    pub fn opening(&self, given: &[u32], ids: &TokenIds) -> Result<Vec<u32>, EngineError> {
        let (high, wide) = (self.rows / GRID_CODES, self.cols / GRID_CODES);
        let grid = |n: usize| {
            let id = ids.grid(n);
            id.ok_or_else(|| {
                EngineError::BadRequest(format!(
                    "the vocabulary has no token for {n} grids ({} pixels)",
                    n * 32
                ))
            })
        };
        let mut tokens = vec![ids.image_start, grid(high)?, grid(wide)?];
        for row in given.chunks(self.cols) {
            for code in row {
                if *code as usize >= ids.codes() {
                    return Err(EngineError::BadRequest(format!(
                        "code {code} is outside a codebook of {}",
                        ids.codes()
                    )));
                }
                tokens.push(ids.image.start + code);
            }
            tokens.push(ids.new_line);
        }
        Ok(tokens)
    }

    /// The codes among the tokens of an image part.
    pub fn codes(&self, tokens: &[u32], ids: &TokenIds) -> Vec<u32> {
        let cells = (0..tokens.len()).filter(|index| matches!(self.place(*index), Place::Cell(_)));
        cells.map(|index| tokens[index] - ids.image.start).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_reference() {
        for (width, height, generated) in
            [(256, 256, 1057), (512, 512, 4161), (768, 768, 9313), (512, 1024, 8321)]
        {
            assert_eq!(Grid::of_pixels(width, height).unwrap().len(), HEADER + generated);
        }
        assert!(Grid::of_pixels(100, 64).is_err());
    }

    #[test]
    fn every_index_has_its_place() {
        let grid = Grid::of_grids(1, 2);
        let places: Vec<Place> = (0..grid.len()).map(|index| grid.place(index)).collect();
        assert_eq!(&places[..4], [Place::Start, Place::Height, Place::Width, Place::Cell(0)]);
        assert_eq!(&places[10..13], [Place::Cell(7), Place::RowEnd, Place::Cell(8)]);
        assert_eq!(&places[places.len() - 2..], [Place::RowEnd, Place::End]);
        let cells: Vec<usize> = places
            .iter()
            .filter_map(|p| if let Place::Cell(c) = p { Some(*c) } else { None })
            .collect();
        assert_eq!(cells, (0..32).collect::<Vec<_>>());
    }
}
