//! The reference's crops (`reference/movqgan.md` sections 7.2 and 7.3). Sizes are (width, height).

use serde::{Deserialize, Serialize};

use super::RawImage;
use super::resample::{Filter, Window, resize, resize_window};

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rect {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Which part of the given picture is seen where in the panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropBox {
    /// The part of the given picture that is visible, in its own pixels (to the nearest pixel).
    pub source: Rect,
    /// Where the panel shows it.
    pub panel: Rect,
}

/// Picture sides are multiples of this.
pub const PATCH: u32 = 32;

/// Crop sizes for a target side: every (width, height) in multiples of `patch` with an area of at most the target's square and
/// sides at most 4:1, from wide to tall.
pub fn crop_sizes(target_size: u32, patch: u32) -> Vec<(u32, u32)> {
    const MAX_RATIO: f64 = 4.0;
    let num_patches = u64::from(target_size / patch).pow(2);
    let (mut wp, mut hp) = (num_patches, 1u64);
    let mut sizes = Vec::new();
    while wp > 0 {
        if wp.max(hp) as f64 / wp.min(hp) as f64 <= MAX_RATIO {
            sizes.push((wp as u32 * patch, hp as u32 * patch));
        }
        if (hp + 1) * wp <= num_patches {
            hp += 1;
        } else {
            wp -= 1;
        }
    }
    sizes
}

/// The crop size whose shape is nearest to (w, h); exact ties go to the larger width, then height. `None` for an empty list.
pub fn pick_crop_size(sizes: &[(u32, u32)], w: u32, h: u32) -> Option<(u32, u32)> {
    let score = |&(cw, ch): &(u32, u32)| {
        let (x, y) = (f64::from(cw) / f64::from(w), f64::from(ch) / f64::from(h));
        (x.min(y) / x.max(y), (cw, ch))
    };
    let best =
        |a: &(f64, (u32, u32)), b: &(f64, (u32, u32))| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    sizes.iter().map(score).max_by(best).map(|(_, size)| size)
}

/// Crops to the nearest of the [`crop_sizes`]; a picture whose size is in the list is returned untouched.
/// `None` when the target is smaller than one patch.
pub fn var_center_crop(raw: &RawImage, target_size: u32, patch: u32) -> Option<RawImage> {
    let sizes = crop_sizes(target_size, patch);
    if sizes.contains(&(raw.width, raw.height)) {
        return Some(raw.clone());
    }
    let (w, h) = pick_crop_size(&sizes, raw.width, raw.height)?;
    Some(center_crop(raw, w, h).0)
}

/// Halves by BOX while at least twice the target, scales by BICUBIC until the target is covered, and cuts the centre.
/// Also says which part of the input remains visible. Memory beside the input stays below half of the input plus the output.
pub fn center_crop(raw: &RawImage, w: u32, h: u32) -> (RawImage, CropBox) {
    let mut halved: Option<RawImage> = None;
    loop {
        let now = halved.as_ref().unwrap_or(raw);
        if u64::from(now.width) < 2 * u64::from(w) || u64::from(now.height) < 2 * u64::from(h) {
            break;
        }
        halved = Some(resize(now, now.width / 2, now.height / 2, Filter::Box));
    }
    let now = halved.as_ref().unwrap_or(raw);
    let scale = (f64::from(w) / f64::from(now.width)).max(f64::from(h) / f64::from(now.height));
    let scaled = |n: u32| (f64::from(n) * scale).round_ties_even() as u32;
    let (full_w, full_h) = (scaled(now.width), scaled(now.height));
    let (left, top) = ((full_w - w) / 2, (full_h - h) / 2);
    let window = Window { left, top, width: w, height: h };
    let cropped = resize_window(now, full_w, full_h, Filter::Bicubic, window);
    let source = Rect {
        x: back(left, full_w, raw.width),
        y: back(top, full_h, raw.height),
        width: back(w, full_w, raw.width).max(1),
        height: back(h, full_h, raw.height).max(1),
    };
    (cropped, CropBox { source, panel: Rect { x: 0, y: 0, width: w, height: h } })
}

/// A length of the scaled picture in pixels of the input, to the nearest.
fn back(length: u32, scaled: u32, original: u32) -> u32 {
    ((2 * u64::from(length) * u64::from(original) + u64::from(scaled)) / (2 * u64::from(scaled)))
        as u32
}
