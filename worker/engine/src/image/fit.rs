//! A given picture into a panel of fixed size, and predictions back onto the given picture.

use serde::{Deserialize, Serialize};

use super::crop::{CropBox, Rect};
use super::resample::{Filter, Window, resize, resize_window};
use super::whiten::whiten;
use super::{RawImage, RgbImage};

/// What fills the panel beside a padded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Border {
    /// White, as transparency becomes.
    #[default]
    White,
    /// The nearest pixel of the picture.
    Edge,
}

/// The reference's centre crop in the picture's own mode, then transparency onto white.
pub fn center_crop(raw: &RawImage, width: u32, height: u32) -> (RgbImage, CropBox) {
    let (cropped, place) = super::center_crop(raw, width, height);
    (whiten(&cropped), place)
}

/// The whole picture, scaled (BICUBIC) to the largest size that fits and centred; the rest is filled with `border`.
pub fn pad(raw: &RawImage, width: u32, height: u32, border: Border) -> (RgbImage, CropBox) {
    let scale =
        (f64::from(width) / f64::from(raw.width)).min(f64::from(height) / f64::from(raw.height));
    let side =
        |n: u32, limit: u32| ((f64::from(n) * scale).round_ties_even() as u32).clamp(1, limit);
    let (w, h) = (side(raw.width, width), side(raw.height, height));
    let inner = whiten(&resize(raw, w, h, Filter::Bicubic));
    let panel = Rect { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h };
    let source = Rect { x: 0, y: 0, width: raw.width, height: raw.height };
    (place(&inner, width, height, panel, border), CropBox { source, panel })
}

fn place(inner: &RgbImage, width: u32, height: u32, at: Rect, border: Border) -> RgbImage {
    let mut out = RgbImage { width, height, data: vec![255; width as usize * height as usize * 3] };
    for y in 0..height {
        for x in 0..width {
            let inside =
                (at.x..at.x + at.width).contains(&x) && (at.y..at.y + at.height).contains(&y);
            if inside || border == Border::Edge {
                let (sx, sy) = (
                    x.clamp(at.x, at.x + at.width - 1) - at.x,
                    y.clamp(at.y, at.y + at.height - 1) - at.y,
                );
                let from = (sy as usize * inner.width as usize + sx as usize) * 3;
                let to = (y as usize * width as usize + x as usize) * 3;
                out.data[to..to + 3].copy_from_slice(&inner.data[from..from + 3]);
            }
        }
    }
    out
}

/// Cuts the visible part out of a generated panel and scales it (BICUBIC) to the size of the part of the given picture
/// that it shows. After [`pad`] that is the whole given picture.
///
/// # Panics
/// When the box lies outside the panel.
pub fn restore(panel: &RgbImage, place: &CropBox) -> RgbImage {
    let at = place.panel;
    let cut = RawImage::from_rgb(panel.clone()).window(at.x, at.y, at.width, at.height);
    let (width, height) = (place.source.width, place.source.height);
    let window = Window { left: 0, top: 0, width, height };
    let back = resize_window(&cut, width, height, Filter::Bicubic, window);
    RgbImage { width, height, data: back.data }
}
