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
    let mut frame_layout = Frame::default();
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
            frame_layout = Frame::read(marker, segment)?;
        }
        if marker == 0xda {
            scans += 1;
            frame_layout.check_scan(segment)?;
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

/// What the frame header says of the coding and of the components.
#[derive(Default)]
struct Frame {
    progressive: bool,
    /// Horizontal and vertical sampling factor of each component.
    factors: Vec<(u8, u8)>,
}

impl Frame {
    /// Reads a frame header and refuses the kinds that the decoder reads wrongly or not at all.
    fn read(marker: u8, segment: &[u8]) -> Result<Self, DecodeError> {
        match marker {
            0xc0..=0xc2 => {}
            0xc3 => return Err(unsupported("lossless JPEG")),
            0xc9..=0xcb => return Err(unsupported("JPEG with arithmetic coding")),
            _ => return Err(unsupported("hierarchical JPEG")),
        }
        if segment.get(2).is_some_and(|&bits| bits != 8) {
            return Err(unsupported(&format!("JPEG of {} bits a sample", segment[2])));
        }
        let factors: Vec<(u8, u8)> = segment
            .get(8..)
            .unwrap_or_default()
            .chunks_exact(3)
            .map(|component| (component[1] >> 4, component[1] & 15))
            .collect();
        if let [first, others @ ..] = &factors[..]
            && !others.is_empty()
        {
            if let Some((h, v)) = factors.iter().find(|(h, v)| *h == 3 || *v == 3) {
                return Err(unsupported(&format!("JPEG with sampling factors {h}x{v}")));
            }
            if others.iter().any(|other| other.0 > first.0 || other.1 > first.1) {
                return Err(unsupported("JPEG whose first component is subsampled"));
            }
        }
        Ok(Self { progressive: marker == 0xc2, factors })
    }

    /// The decoder misplaces the blocks of subsampled components when a sequential file stores them in several scans.
    fn check_scan(&self, segment: &[u8]) -> Result<(), DecodeError> {
        let in_scan = segment.get(2).map_or(0, |&n| usize::from(n));
        let subsampled = self.factors.windows(2).any(|pair| pair[0] != pair[1]);
        if !self.progressive && in_scan < self.factors.len() && subsampled {
            return Err(unsupported("sequential JPEG with subsampled colour in several scans"));
        }
        Ok(())
    }
}

fn unsupported(format: &str) -> DecodeError {
    DecodeError::UnsupportedFormat { format: format.to_owned() }
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
