//! JPEG. The marker structure is walked first, because decoders fill what is missing with grey instead of failing.

use std::io::Cursor;

use ::image::ImageDecoder;
use ::image::codecs::jpeg::JpegDecoder;

use super::RawImage;
use super::formats::{failed, orientation, read};
use super::limits::{DecodeError, Limits};

/// Scans of one picture. Real progressive files have about ten; each scan costs a pass over all coefficients.
const MAX_SCANS: u32 = 256;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RawImage, DecodeError> {
    let end = walk(bytes, limits)?;
    let mut decoder =
        JpegDecoder::new(Cursor::new(&bytes[..end])).map_err(|error| failed(error, limits))?;
    let orientation = orientation(&mut decoder);
    let (width, height) = decoder.dimensions();
    limits.check(width, height, decoder.color_type().bytes_per_pixel().into())?;
    let mut raw = read(decoder, limits)?;
    raw.orientation = orientation;
    Ok(raw)
}

/// Checks sizes, segments and completeness; returns the position after the end marker.
fn walk(bytes: &[u8], limits: &Limits) -> Result<usize, DecodeError> {
    let truncated =
        |what: &str| DecodeError::TruncatedImage { reason: format!("the file ends {what}") };
    let mut at = 2;
    let (mut scans, mut sized) = (0, false);
    loop {
        // Any number of fill bytes may stand before a marker.
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let (Some(&0xff), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else {
            return Err(match bytes.get(at) {
                None | Some(&0xff) => truncated("before its end marker"),
                Some(_) => {
                    DecodeError::TruncatedImage { reason: format!("no JPEG marker at byte {at}") }
                }
            });
        };
        at += 2;
        match marker {
            0xd9 if sized && scans > 0 => return Ok(at),
            0xd9 => {
                return Err(DecodeError::TruncatedImage {
                    reason: "the JPEG has no picture".to_owned(),
                });
            }
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = match bytes.get(at..at + 2) {
            Some(&[a, b]) => usize::from(u16::from_be_bytes([a, b])),
            _ => return Err(truncated("inside a segment")),
        };
        let Some(segment) = bytes.get(at..at + length).filter(|_| length >= 2) else {
            return Err(truncated("inside a segment"));
        };
        at += length;
        let frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if let (true, Some(&[h1, h2, w1, w2, components])) = (frame, segment.get(3..8)) {
            let (width, height) = (u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2]));
            limits.check(width.into(), height.into(), components.into())?;
            sized = true;
        }
        if marker == 0xda {
            scans += 1;
            if scans > MAX_SCANS {
                return Err(DecodeError::DecompressionLimit {
                    what: "the scans",
                    limit_bytes: MAX_SCANS.into(),
                });
            }
            at = entropy_end(bytes, at).ok_or_else(|| truncated("inside the picture data"))?;
        }
    }
}

/// The next marker that is neither a stuffed zero nor a restart.
fn entropy_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xff)?;
        match bytes.get(at + 1)? {
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}
