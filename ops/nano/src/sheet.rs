//! One picture of many panels, for eyes.

use nightshift_engine::RgbImage;

use super::sample::{PANELS, Sample};
use super::scene::SIDE;

/// Pixels between panels.
const GAP: usize = 4;
/// Each pixel is drawn this many times in both directions.
const ZOOM: usize = 2;

/// Rows of panels on white, each twice its size.
///
/// # Panics
/// A panel that is not 64 by 64.
#[must_use]
pub fn sheet(rows: &[Vec<RgbImage>]) -> RgbImage {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (cell, side) = (SIDE * ZOOM + GAP, SIDE * ZOOM);
    let (width, height) = (columns * cell + GAP, rows.len() * cell + GAP);
    let mut image = RgbImage::new(width as u32, height as u32);
    image.data.fill(255);
    for (row, panels) in rows.iter().enumerate() {
        for (column, panel) in panels.iter().enumerate() {
            assert_eq!(
                (panel.width, panel.height),
                (SIDE as u32, SIDE as u32),
                "a panel is 64 by 64"
            );
            for y in 0..side {
                for x in 0..side {
                    let from = (y / ZOOM * SIDE + x / ZOOM) * 3;
                    let to = ((GAP + row * cell + y) * width + GAP + column * cell + x) * 3;
                    image.data[to..to + 3].copy_from_slice(&panel.data[from..from + 3]);
                }
            }
        }
    }
    image
}

/// A row of all panels of a sample.
#[must_use]
pub fn row(sample: &Sample) -> Vec<RgbImage> {
    PANELS.iter().map(|name| sample.panel(name)).collect()
}
