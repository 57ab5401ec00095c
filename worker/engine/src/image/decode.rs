//! Bytes to pixels, format by content, limits from the header before anything is allocated.
//!
//! Rules for what has no 8-bit counterpart: 16-bit samples keep their high byte; float samples are clamped to 0..1 and scaled;
//! CMYK and YCCK JPEGs become RGB by the decoder (`c * k / 255` on inverted inks); 2- and 4-bit grey is spread over 0..255.
//! Colour profiles are ignored, as the reference ignores them. Of an animation or a multi-page file the first picture counts.

use super::limits::{DecodeError, Limits};
use super::{RawImage, formats, jpeg, png_decode};

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
    // The decoders are third-party code and the bytes are untrusted: a panic means one bad input and must not end the process.
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
