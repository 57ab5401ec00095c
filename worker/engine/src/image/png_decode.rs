//! PNG in its own mode. The chunks are walked first: sizes, checksums, completeness and hostile compressed metadata are
//! settled before the pixel decoder sees the file.

use std::io::{Cursor, Read};

use ::png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use super::limits::{DecodeError, Limits};
use super::orient::exif_orientation;
use super::{Mode, RawImage};

/// What compressed text or a colour profile may unpack to.
const METADATA_LIMIT_BYTES: u64 = 4 << 20;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RawImage, DecodeError> {
    let facts = walk(bytes, limits)?;
    let mut decoder = Decoder::new_with_limits(
        Cursor::new(bytes),
        ::png::Limits { bytes: usize::try_from(limits.max_bytes_out).unwrap_or(usize::MAX) },
    );
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|error| damaged(error, limits))?;
    let size = reader.output_buffer_size().ok_or_else(|| limit_error(limits))?;
    // One frame of at most 8 bytes a pixel: `walk` has checked the pixels against the limit of bytes.
    let mut packed = vec![0; size];
    let frame = reader.next_frame(&mut packed).map_err(|error| damaged(error, limits))?;
    packed.truncate(frame.buffer_size());
    let info = reader.info();
    let more_frames = info.animation_control().is_some_and(|a| a.num_frames > 1);
    let (width, height) = (info.width, info.height);
    let palette = info.palette.as_deref().unwrap_or_default();
    let transparency = info.trns.as_deref();
    let data = unpack(&packed, width, frame.line_size, frame.color_type, frame.bit_depth);
    let mode = mode_of(frame.color_type, frame.bit_depth);
    let mut raw = RawImage::plain(width, height, mode, data);
    if mode == Mode::Palette {
        let alpha = |i: usize| transparency.and_then(|t| t.get(i)).copied().unwrap_or(255);
        raw.palette = palette
            .chunks_exact(3)
            .enumerate()
            .map(|(i, c)| [c[0], c[1], c[2], alpha(i)])
            .collect();
    } else if matches!(mode, Mode::Gray | Mode::Bilevel) {
        // The reader keeps one byte for up to 8 bits, two for 16.
        raw.transparent_gray = transparency.and_then(|t| match *t {
            [low] => Some(u16::from(low)),
            [high, low, ..] => Some(u16::from_be_bytes([high, low])),
            [] => None,
        });
    }
    raw.more_frames = more_frames;
    raw.orientation = facts.orientation;
    Ok(raw)
}

fn damaged(error: DecodingError, limits: &Limits) -> DecodeError {
    match error {
        DecodingError::LimitsExceeded => limit_error(limits),
        other => DecodeError::TruncatedImage { reason: other.to_string() },
    }
}

fn limit_error(limits: &Limits) -> DecodeError {
    DecodeError::DecompressionLimit { what: "the pixels", limit_bytes: limits.max_bytes_out }
}

fn mode_of(color: ColorType, depth: BitDepth) -> Mode {
    match color {
        ColorType::Grayscale if depth == BitDepth::One => Mode::Bilevel,
        ColorType::Grayscale => Mode::Gray,
        ColorType::GrayscaleAlpha => Mode::GrayAlpha,
        ColorType::Rgb => Mode::Rgb,
        ColorType::Rgba => Mode::Rgba,
        ColorType::Indexed => Mode::Palette,
    }
}

/// One byte a sample: high byte of 16 bits, small grey spread over 0..255, indices as they are.
fn unpack(
    packed: &[u8],
    width: u32,
    line_bytes: usize,
    color: ColorType,
    depth: BitDepth,
) -> Vec<u8> {
    let bits = depth as usize;
    match bits {
        8 => packed.to_vec(),
        16 => packed.chunks_exact(2).map(|s| s[0]).collect(),
        _ => {
            let max = (1u16 << bits) - 1;
            let spread = |v: u8| {
                if color == ColorType::Indexed { v } else { (u16::from(v) * 255 / max) as u8 }
            };
            let line = |line: &[u8]| -> Vec<u8> {
                let sample =
                    |x: usize| (line[x * bits / 8] >> (8 - bits - (x * bits) % 8)) & max as u8;
                (0..width as usize).map(|x| spread(sample(x))).collect()
            };
            packed.chunks_exact(line_bytes).flat_map(line).collect()
        }
    }
}

struct Facts {
    orientation: u8,
}

/// Walks all chunks up to IEND.
fn walk(bytes: &[u8], limits: &Limits) -> Result<Facts, DecodeError> {
    let truncated = |reason: &str| DecodeError::TruncatedImage { reason: reason.to_owned() };
    let mut facts = Facts { orientation: 1 };
    let mut rest = &bytes[8..];
    let mut expected = None;
    let mut idat: Vec<&[u8]> = Vec::new();
    loop {
        let Some((head, tail)) = rest.split_at_checked(8) else {
            return Err(truncated("the file ends before IEND"));
        };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = [head[4], head[5], head[6], head[7]];
        if expected.is_none() && kind != *b"IHDR" {
            return Err(DecodeError::NotAnImage { reason: "a PNG without a header".to_owned() });
        }
        if kind == *b"IHDR" && expected.is_none() {
            expected = Some(header(tail.get(..length.min(13)).unwrap_or_default(), limits)?);
        }
        let Some(body) = tail.get(..length) else {
            return Err(truncated("the file ends inside a chunk"));
        };
        let Some(checksum) = tail.get(length..length + 4) else {
            return Err(truncated("the file ends inside a chunk"));
        };
        let critical = kind[0].is_ascii_uppercase();
        if critical && checksum != crc(&kind, body).to_be_bytes() {
            return Err(truncated(&format!("bad checksum in {}", String::from_utf8_lossy(&kind))));
        }
        match &kind {
            b"IEND" => break,
            b"IDAT" => idat.push(body),
            b"eXIf" => facts.orientation = exif_orientation(body),
            b"iCCP" | b"zTXt" | b"iTXt" => check_metadata(&kind, body)?,
            _ => {}
        }
        rest = &tail[length + 4..];
    }
    check_data(&idat, expected.unwrap_or_default())?;
    Ok(facts)
}

/// Checks the size; returns how many bytes the image data must unpack to.
fn header(body: &[u8], limits: &Limits) -> Result<u64, DecodeError> {
    let Ok(h) = <[u8; 13]>::try_from(body) else {
        return Err(DecodeError::TruncatedImage {
            reason: "the file ends inside its header".to_owned(),
        });
    };
    let width = u32::from_be_bytes([h[0], h[1], h[2], h[3]]);
    let height = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
    let samples: u64 = match h[9] {
        0 | 3 => 1,
        2 => 3,
        4 => 2,
        6 => 4,
        other => {
            return Err(DecodeError::NotAnImage {
                reason: format!("PNG colour type {other} does not exist"),
            });
        }
    };
    let bits = samples * u64::from(h[8]);
    limits.check(width, height, bits.div_ceil(8))?;
    let row = |width: u32| {
        if width == 0 { 0 } else { 1 + (u64::from(width) * bits).div_ceil(8) }
    };
    if h[12] == 0 {
        return Ok(row(width) * u64::from(height));
    }
    // Adam7: (first column, first row, column step, row step) of each pass.
    const PASSES: [(u32, u32, u32, u32); 7] = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ];
    let count = |n: u32, first: u32, step: u32| n.saturating_sub(first).div_ceil(step);
    let pass = |&(x, y, dx, dy): &(u32, u32, u32, u32)| {
        row(count(width, x, dx)) * u64::from(count(height, y, dy))
    };
    Ok(PASSES.iter().map(pass).sum())
}

fn crc(kind: &[u8; 4], body: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(body);
    crc.sum()
}

/// Image data that unpacks to less than the header names is truncated; to more, a bomb. Nothing is kept.
fn check_data(idat: &[&[u8]], expected: u64) -> Result<(), DecodeError> {
    let chain = idat
        .iter()
        .fold(Box::new(std::io::empty()) as Box<dyn Read>, |all, part| Box::new(all.chain(*part)));
    // A chain of very many chunks would recurse deeply; join them then. Real files have few.
    let source: Box<dyn Read> =
        if idat.len() > 64 { Box::new(Cursor::new(idat.concat())) } else { chain };
    let mut data = flate2::read::ZlibDecoder::new(source).take(expected.saturating_add(1));
    let unpacked = std::io::copy(&mut data, &mut std::io::sink());
    match unpacked {
        Ok(n) if n > expected => {
            Err(DecodeError::DecompressionLimit { what: "the image data", limit_bytes: expected })
        }
        Ok(n) if n < expected => Err(DecodeError::TruncatedImage {
            reason: format!("{n} of {expected} bytes of image data are there"),
        }),
        Ok(_) => Ok(()),
        Err(error) => Err(DecodeError::TruncatedImage { reason: error.to_string() }),
    }
}

/// Compressed metadata is never used; it only must not be a bomb.
fn check_metadata(kind: &[u8; 4], body: &[u8]) -> Result<(), DecodeError> {
    let Some(packed) = compressed_part(kind, body) else {
        return Ok(());
    };
    let mut data = flate2::read::ZlibDecoder::new(packed).take(METADATA_LIMIT_BYTES + 1);
    match std::io::copy(&mut data, &mut std::io::sink()) {
        Ok(n) if n > METADATA_LIMIT_BYTES => {
            let what = if kind == b"iCCP" { "the colour profile" } else { "a text chunk" };
            Err(DecodeError::DecompressionLimit { what, limit_bytes: METADATA_LIMIT_BYTES })
        }
        _ => Ok(()),
    }
}

/// The zlib stream inside iCCP and zTXt (name, 0, method) and compressed iTXt (key, 0, flag, method, language, 0, key, 0).
pub(super) fn compressed_part<'a>(kind: &[u8; 4], body: &'a [u8]) -> Option<&'a [u8]> {
    let after_name = &body[body.iter().position(|&b| b == 0)? + 1..];
    if kind != b"iTXt" {
        return after_name.get(1..);
    }
    if *after_name.first()? == 0 {
        return None;
    }
    let after_method = after_name.get(2..)?;
    let after_language = &after_method[after_method.iter().position(|&b| b == 0)? + 1..];
    Some(&after_language[after_language.iter().position(|&b| b == 0)? + 1..])
}
