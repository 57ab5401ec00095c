//! What all judges of a panel use.

use nightshift_engine::RgbImage;

use crate::palette::Rgb;

/// A measure's name and value.
pub(crate) type Score = (&'static str, f64);

/// The panel as colours.
pub(crate) fn pixels(panel: &RgbImage) -> Vec<Rgb> {
    panel.as_raw().chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect()
}

/// The index of the nearest colour.
pub(crate) fn nearest(pixel: Rgb, colours: &[Rgb]) -> usize {
    let off = |colour: &Rgb| -> i32 {
        let parts = pixel.iter().zip(colour);
        parts.map(|(a, b)| (i32::from(*a) - i32::from(*b)).pow(2)).sum()
    };
    (0..colours.len()).min_by_key(|i| off(&colours[*i])).unwrap_or(0)
}
