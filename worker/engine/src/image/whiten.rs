//! Transparency onto white, as the reference does it (`reference/movqgan.md` section 7.5).

use super::{Mode, RawImage, RgbImage};

/// RGB passes through; anything else becomes RGBA first, and unless every alpha is 255, each channel is
/// `(1 - a) * 255 + a * c` in f64, **truncated**.
pub fn whiten(raw: &RawImage) -> RgbImage {
    let (width, height) = (raw.width, raw.height);
    if raw.mode == Mode::Rgb {
        return RgbImage { width, height, data: raw.data.clone() };
    }
    let rgba = to_rgba(raw);
    let opaque = rgba.iter().all(|p| p[3] == 255);
    let mut data = Vec::with_capacity(rgba.len() * 3);
    for [r, g, b, alpha] in rgba {
        for c in [r, g, b] {
            data.push(if opaque { c } else { over_white(c, alpha) });
        }
    }
    RgbImage { width, height, data }
}

/// Truncation is visible: pure white under alpha 43 becomes 254.
fn over_white(c: u8, alpha: u8) -> u8 {
    let a = f64::from(alpha) / 255.0;
    ((1.0 - a) * 255.0 + a * f64::from(c)) as u8
}

/// Every pixel as red, green, blue, alpha.
pub(crate) fn to_rgba(raw: &RawImage) -> Vec<[u8; 4]> {
    let gray_alpha = |g: u8| {
        if raw.transparent_gray == Some(u16::from(g)) { 0 } else { 255 }
    };
    match raw.mode {
        Mode::Rgb => raw.data.chunks_exact(3).map(|p| [p[0], p[1], p[2], 255]).collect(),
        Mode::Rgba => raw.data.chunks_exact(4).map(|p| [p[0], p[1], p[2], p[3]]).collect(),
        Mode::Gray | Mode::Bilevel => raw.data.iter().map(|&g| [g, g, g, gray_alpha(g)]).collect(),
        Mode::GrayAlpha => raw.data.chunks_exact(2).map(|p| [p[0], p[0], p[0], p[1]]).collect(),
        Mode::Palette => {
            let entry =
                |&i: &u8| raw.palette.get(usize::from(i)).copied().unwrap_or([0, 0, 0, 255]);
            raw.data.iter().map(entry).collect()
        }
    }
}
