//! Bytes to pixels, format by content, limits from the header before anything is allocated.
//!
//! Rules for what has no 8-bit counterpart: 16-bit samples keep their high byte; float samples are clamped to 0..1 and scaled;
//! CMYK and YCCK JPEGs become RGB by the decoder (`c * k / 255` on inverted inks); 2- and 4-bit grey is spread over 0..255.
//! Colour profiles are ignored, as the reference ignores them. Of an animation or a multi-page file the first picture counts.

use super::{RawImage, formats, jpeg, png_decode};

/// What a picture may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Pixels, width times height.
    pub max_pixels: u64,
    /// Width and height, each in pixels.
    pub max_side: u32,
    /// Bytes of the decoded pixels, and of any buffer a decoder asks for.
    pub max_bytes_out: u64,
    /// Longer side over shorter side.
    pub max_aspect: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_side: 65_500,
            max_bytes_out: 512 << 20,
            max_aspect: 200,
        }
    }
}

impl Limits {
    /// Checks a size from a header, `bytes_per_pixel` as the decoder will produce.
    pub(crate) fn check(
        &self,
        width: u32,
        height: u32,
        bytes_per_pixel: u64,
    ) -> Result<(), DecodeError> {
        if width == 0 || height == 0 {
            return Err(DecodeError::NotAnImage {
                reason: format!("its size is {width}x{height}"),
            });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels || width.max(height) > self.max_side {
            let (max_pixels, max_side) = (self.max_pixels, self.max_side);
            return Err(DecodeError::TooManyPixels { width, height, max_pixels, max_side });
        }
        if u64::from(width.max(height)) > u64::from(width.min(height)) * u64::from(self.max_aspect)
        {
            return Err(DecodeError::BadAspect { width, height, max_aspect: self.max_aspect });
        }
        if pixels.saturating_mul(bytes_per_pixel) > self.max_bytes_out {
            return Err(DecodeError::DecompressionLimit {
                what: "the pixels",
                limit_bytes: self.max_bytes_out,
            });
        }
        Ok(())
    }
}

/// Why bytes did not become a picture. None of them is worth a retry with the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No known picture, or one whose structure is broken.
    #[error("not an image: {reason}")]
    NotAnImage {
        /// What was found instead.
        reason: String,
    },
    /// The file ends, or its data is damaged, before the picture is complete.
    #[error("the image is truncated or damaged: {reason}")]
    TruncatedImage {
        /// Where it went wrong.
        reason: String,
    },
    /// The header names more pixels than allowed.
    #[error(
        "{width}x{height} pixels are more than the limit of {max_pixels} pixels and {max_side} a side"
    )]
    TooManyPixels {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// Limit of the product.
        max_pixels: u64,
        /// Limit of each side.
        max_side: u32,
    },
    /// A kind of picture that is never decoded here.
    #[error("unsupported image format: {format}")]
    UnsupportedFormat {
        /// Its name.
        format: String,
    },
    /// Something in the file unpacks to more than allowed.
    #[error("{what} would unpack to more than {limit_bytes} bytes")]
    DecompressionLimit {
        /// The part of the file.
        what: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// One side is too many times the other.
    #[error("{width}x{height} is narrower than 1:{max_aspect}")]
    BadAspect {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// The limit.
        max_aspect: u32,
    },
}

impl DecodeError {
    /// The stable code of an item error.
    pub fn code(&self) -> &'static str {
        match self {
            DecodeError::NotAnImage { .. } => "not_an_image",
            DecodeError::TruncatedImage { .. } => "truncated_image",
            DecodeError::TooManyPixels { .. } => "too_many_pixels",
            DecodeError::UnsupportedFormat { .. } => "unsupported_format",
            DecodeError::DecompressionLimit { .. } => "decompression_limit",
            DecodeError::BadAspect { .. } => "bad_aspect",
        }
    }
}

/// The format of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    Webp,
    Gif,
    Tiff,
    Bmp,
}

/// Decodes a picture; the name it came under is never looked at. Bytes after the picture's end are ignored.
///
/// # Errors
/// [`DecodeError`]; sizes are refused from the header, before memory is taken for them.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RawImage, DecodeError> {
    let format = sniff(bytes)?;
    let by_format = || match format {
        Format::Png => png_decode::decode(bytes, limits),
        Format::Jpeg => jpeg::decode(bytes, limits),
        Format::Webp => formats::webp(bytes, limits),
        Format::Gif => formats::gif(bytes, limits),
        Format::Tiff => formats::tiff(bytes, limits),
        Format::Bmp => formats::bmp(bytes, limits),
    };
    // The decoders are other people's code and the bytes are anybody's: a panic is one bad input, not the end of a process.
    std::panic::catch_unwind(by_format).unwrap_or_else(|_| {
        Err(DecodeError::TruncatedImage { reason: "the decoder panicked on it".to_owned() })
    })
}

/// Whether the bytes look like a picture that [`decode`] knows, by their first bytes alone.
///
/// # Errors
/// [`DecodeError::NotAnImage`] or [`DecodeError::UnsupportedFormat`].
pub fn probe(bytes: &[u8]) -> Result<(), DecodeError> {
    sniff(bytes).map(drop)
}

fn sniff(bytes: &[u8]) -> Result<Format, DecodeError> {
    let is = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
    if is(0, b"\x89PNG\r\n\x1a\n") {
        return Ok(Format::Png);
    }
    if is(0, b"\xff\xd8\xff") {
        return Ok(Format::Jpeg);
    }
    if is(0, b"RIFF") && is(8, b"WEBP") {
        return Ok(Format::Webp);
    }
    if is(0, b"GIF87a") || is(0, b"GIF89a") {
        return Ok(Format::Gif);
    }
    if is(0, b"II*\0") || is(0, b"MM\0*") || is(0, b"II+\0") || is(0, b"MM\0+") {
        return Ok(Format::Tiff);
    }
    if is(0, b"BM") && bytes.len() >= 26 {
        return Ok(Format::Bmp);
    }
    Err(foreign(bytes))
}

/// Names what the bytes are, for the ones that people do send.
fn foreign(bytes: &[u8]) -> DecodeError {
    let start = &bytes[..bytes.len().min(512)];
    let text =
        String::from_utf8_lossy(start).trim_start_matches('\u{feff}').trim_start().to_lowercase();
    let iso_brand = if start.get(4..8) == Some(b"ftyp") { start.get(8..12) } else { None };
    let unsupported = match iso_brand {
        Some(b"avif" | b"avis") => Some("AVIF"),
        Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1") => Some("HEIC"),
        _ if start.starts_with(b"%PDF") => Some("PDF"),
        _ if start.starts_with(b"%!PS") => Some("PostScript"),
        _ if start.starts_with(b"8BPS") => Some("PSD"),
        _ if start.starts_with(b"\0\0\x01\0") => Some("ICO"),
        _ if start.starts_with(b"\0\0\0\x0cJXL ") || start.starts_with(b"\xff\x0a") => {
            Some("JPEG XL")
        }
        _ if start.starts_with(b"\0\0\0\x0cjP") => Some("JPEG 2000"),
        _ if start.starts_with(b"\x76\x2f\x31\x01") => Some("OpenEXR"),
        _ if text.starts_with("<svg") || (text.starts_with("<?xml") && text.contains("<svg")) => {
            Some("SVG")
        }
        _ => None,
    };
    if let Some(format) = unsupported {
        return DecodeError::UnsupportedFormat { format: format.to_owned() };
    }
    let reason = if bytes.is_empty() {
        "the file is empty"
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        "it is an HTML page"
    } else if start.iter().all(|&b| b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r'))
        && std::str::from_utf8(start).is_ok()
    {
        "it is text"
    } else {
        "its first bytes are of no known image format"
    };
    DecodeError::NotAnImage { reason: reason.to_owned() }
}
