//! EXIF orientation: read with the picture, applied only on request. The reference never applies it, so the
//! reference-exact path does not either.

use ::image::metadata::Orientation;

use super::RawImage;

/// The picture turned and mirrored as its orientation says, orientation then 1.
pub fn apply_orientation(raw: &RawImage) -> RawImage {
    let (w, h) = (raw.width as usize, raw.height as usize);
    // For each output pixel (x, y): the input pixel it shows.
    let from: fn(usize, usize, usize, usize) -> (usize, usize) = match raw.orientation {
        2 => |x, y, w, _| (w - 1 - x, y),
        3 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        4 => |x, y, _, h| (x, h - 1 - y),
        5 => |x, y, _, _| (y, x),
        6 => |x, y, _, h| (y, h - 1 - x),
        7 => |x, y, w, h| (w - 1 - y, h - 1 - x),
        8 => |x, y, w, _| (w - 1 - y, x),
        _ => return raw.clone(),
    };
    let (out_w, out_h) = if raw.orientation >= 5 { (h, w) } else { (w, h) };
    let n = raw.mode.channels();
    let mut data = Vec::with_capacity(raw.data.len());
    for y in 0..out_h {
        for x in 0..out_w {
            let (sx, sy) = from(x, y, w, h);
            let start = (sy * w + sx) * n;
            data.extend_from_slice(&raw.data[start..start + n]);
        }
    }
    let mut out = raw.with_pixels(out_w as u32, out_h as u32, data);
    out.orientation = 1;
    out
}

/// 1 to 8 from a raw EXIF block; 1 when there is none or it is invalid.
pub(super) fn exif_orientation(exif: &[u8]) -> u8 {
    Orientation::from_exif_chunk(exif).map_or(1, Orientation::to_exif)
}
