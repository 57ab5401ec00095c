//! EXIF orientation: read with the picture, applied only on request. The reference never applies it, so the
//! reference-exact path does not either.

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

/// 1 to 8 from a raw EXIF block, with or without the prefix `Exif\0\0`; 1 when there is none or it is invalid.
pub(super) fn exif_orientation(exif: &[u8]) -> u8 {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    orientation_tag(tiff).filter(|value| (1..=8).contains(value)).unwrap_or(1)
}

/// The orientation tag of the first directory. Writers store it as SHORT or as LONG.
fn orientation_tag(tiff: &[u8]) -> Option<u8> {
    const ORIENTATION: u32 = 0x0112;
    const SHORT: u32 = 3;
    const LONG: u32 = 4;
    let little_endian = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let number = |bytes: &[u8]| {
        let join = |all: u32, &byte: &u8| all << 8 | u32::from(byte);
        if little_endian { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) }
    };
    let directory = tiff.get(number(tiff.get(4..8)?) as usize..)?;
    let entries = number(directory.get(..2)?) as usize;
    let entry = directory[2..]
        .chunks_exact(12)
        .take(entries)
        .find(|entry| number(&entry[..2]) == ORIENTATION)?;
    let value = match number(&entry[2..4]) {
        SHORT => number(&entry[8..10]),
        LONG => number(&entry[8..12]),
        _ => return None,
    };
    u8::try_from(value).ok()
}
