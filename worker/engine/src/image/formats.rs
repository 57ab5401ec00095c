//! WebP, GIF, TIFF and BMP through the `image` and `gif` crates.

use std::io::Cursor;

use ::image::codecs::{bmp::BmpDecoder, tiff::TiffDecoder, webp::WebPDecoder};
use ::image::error::{ImageError, LimitErrorKind};
use ::image::{ColorType, ImageDecoder};

use super::limits::{DecodeError, Limits};
use super::orient::exif_orientation;
use super::{Mode, RawImage};

pub(super) fn webp(bytes: &[u8], limits: &Limits) -> Result<RawImage, DecodeError> {
    let mut decoder =
        WebPDecoder::new(Cursor::new(bytes)).map_err(|error| failed(error, limits))?;
    let more_frames = decoder.has_animation();
    let orientation = orientation(&mut decoder);
    let raw = read(decoder, limits)?;
    Ok(RawImage { more_frames, orientation, ..raw })
}

pub(super) fn tiff(bytes: &[u8], limits: &Limits) -> Result<RawImage, DecodeError> {
    let mut decoder =
        TiffDecoder::new(Cursor::new(bytes)).map_err(|error| failed(error, limits))?;
    let orientation = orientation(&mut decoder);
    let raw = read(decoder, limits)?;
    Ok(RawImage { orientation, ..raw })
}

pub(super) fn bmp(bytes: &[u8], limits: &Limits) -> Result<RawImage, DecodeError> {
    let mut decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|error| failed(error, limits))?;
    let palette: Vec<[u8; 4]> =
        decoder.get_palette().unwrap_or_default().iter().map(|&[r, g, b]| [r, g, b, 255]).collect();
    if palette.is_empty() {
        return read(decoder, limits);
    }
    decoder.set_indexed_color(true);
    let (width, height) = decoder.dimensions();
    limits.check(width, height, 1)?;
    let mut data = vec![0; width as usize * height as usize];
    decoder.read_image(&mut data).map_err(|error| failed(error, limits))?;
    Ok(RawImage { palette, ..RawImage::plain(width, height, Mode::Palette, data) })
}

/// The first frame, on a canvas of the transparent index, or the background's where there is none.
pub(super) fn gif(bytes: &[u8], limits: &Limits) -> Result<RawImage, DecodeError> {
    let mut options = ::gif::DecodeOptions::new();
    options.set_color_output(::gif::ColorOutput::Indexed);
    options.check_lzw_end_code(true);
    // The first ten bytes hold the canvas size: check it before the decoder allocates anything.
    let Some(&[w1, w2, h1, h2]) = bytes.get(6..10) else {
        return Err(DecodeError::TruncatedImage {
            reason: "the file ends inside its header".to_owned(),
        });
    };
    let (width, height) = (u16::from_le_bytes([w1, w2]), u16::from_le_bytes([h1, h2]));
    limits.check(width.into(), height.into(), 1)?;
    let bytes_limit =
        std::num::NonZeroU64::new(limits.max_bytes_out).unwrap_or(std::num::NonZeroU64::MIN);
    options.set_memory_limit(::gif::MemoryLimit::Bytes(bytes_limit));
    let mut decoder =
        options.read_info(Cursor::new(bytes)).map_err(|error| gif_failed(error, limits))?;
    let global: Vec<u8> = decoder.global_palette().unwrap_or_default().to_vec();
    let background = decoder.bg_color().unwrap_or(0) as u8;
    let Some(frame) = decoder.read_next_frame().map_err(|error| gif_failed(error, limits))? else {
        return Err(DecodeError::TruncatedImage { reason: "the GIF has no frame".to_owned() });
    };
    let colours = frame.palette.as_ref().unwrap_or(&global);
    let alpha = |i: usize| {
        if frame.transparent.is_some_and(|t| usize::from(t) == i) { 0 } else { 255 }
    };
    let palette =
        colours.chunks_exact(3).enumerate().map(|(i, c)| [c[0], c[1], c[2], alpha(i)]).collect();
    let (width, height) = (usize::from(width), usize::from(height));
    let mut data = vec![frame.transparent.unwrap_or(background); width * height];
    let frame_width = usize::from(frame.width);
    for (y, row) in frame.buffer.chunks_exact(frame_width.max(1)).enumerate() {
        let (left, top) = (usize::from(frame.left), usize::from(frame.top) + y);
        let columns = frame_width.min(width.saturating_sub(left));
        if top < height {
            data[top * width + left.min(width)..][..columns].copy_from_slice(&row[..columns]);
        }
    }
    // Damage after the first frame is not ours to report: only the first frame counts.
    let more_frames = matches!(decoder.next_frame_info(), Ok(Some(_)));
    let raw = RawImage::plain(width as u32, height as u32, Mode::Palette, data);
    Ok(RawImage { palette, more_frames, ..raw })
}

fn gif_failed(error: ::gif::DecodingError, limits: &Limits) -> DecodeError {
    use ::gif::DecodingError::{MemoryLimit, OutOfMemory};
    match error {
        MemoryLimit | OutOfMemory => too_big(limits),
        other => DecodeError::TruncatedImage { reason: other.to_string() },
    }
}

/// Size check, then pixels in one of our modes.
pub(super) fn read<D: ImageDecoder>(
    mut decoder: D,
    limits: &Limits,
) -> Result<RawImage, DecodeError> {
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    limits.check(width, height, color.bytes_per_pixel().into())?;
    let mut cap = ::image::Limits::no_limits();
    cap.max_alloc = Some(limits.max_bytes_out);
    decoder.set_limits(cap).map_err(|error| failed(error, limits))?;
    let mut data = vec![0; usize::try_from(decoder.total_bytes()).map_err(|_| too_big(limits))?];
    decoder.read_image(&mut data).map_err(|error| failed(error, limits))?;
    let (mode, data) = match color {
        ColorType::L8 => (Mode::Gray, data),
        ColorType::La8 => (Mode::GrayAlpha, data),
        ColorType::Rgb8 => (Mode::Rgb, data),
        ColorType::Rgba8 => (Mode::Rgba, data),
        ColorType::L16 => (Mode::Gray, high_bytes(&data)),
        ColorType::La16 => (Mode::GrayAlpha, high_bytes(&data)),
        ColorType::Rgb16 => (Mode::Rgb, high_bytes(&data)),
        ColorType::Rgba16 => (Mode::Rgba, high_bytes(&data)),
        ColorType::Rgb32F => (Mode::Rgb, from_floats(&data)),
        ColorType::Rgba32F => (Mode::Rgba, from_floats(&data)),
        other => {
            return Err(DecodeError::UnsupportedFormat {
                format: format!("pixels of type {other:?}"),
            });
        }
    };
    Ok(RawImage::plain(width, height, mode, data))
}

fn too_big(limits: &Limits) -> DecodeError {
    DecodeError::DecompressionLimit { what: "the pixels", limit_bytes: limits.max_bytes_out }
}

fn high_bytes(samples: &[u8]) -> Vec<u8> {
    samples.chunks_exact(2).map(|s| (u16::from_ne_bytes([s[0], s[1]]) >> 8) as u8).collect()
}

/// `round(255 * clamp(v, 0, 1))`; not-a-number is 0.
fn from_floats(samples: &[u8]) -> Vec<u8> {
    let to_u8 = |s: &[u8]| {
        (f32::from_ne_bytes([s[0], s[1], s[2], s[3]]).clamp(0.0, 1.0) * 255.0).round() as u8
    };
    samples.chunks_exact(4).map(to_u8).collect()
}

pub(super) fn orientation(decoder: &mut impl ImageDecoder) -> u8 {
    match decoder.exif_metadata() {
        Ok(Some(exif)) => exif_orientation(&exif),
        // A TIFF has the tag in its own directory.
        _ => decoder.orientation().map_or(1, |o| o.to_exif()),
    }
}

/// The crate's errors as our decisions.
pub(super) fn failed(error: ImageError, limits: &Limits) -> DecodeError {
    match error {
        ImageError::Limits(limit) => match limit.kind() {
            LimitErrorKind::DimensionError => DecodeError::TooManyPixels {
                width: u32::MAX,
                height: u32::MAX,
                max_pixels: limits.max_pixels,
                max_side: limits.max_side,
            },
            _ => too_big(limits),
        },
        ImageError::Unsupported(unsupported) => {
            DecodeError::UnsupportedFormat { format: unsupported.to_string() }
        }
        other => DecodeError::TruncatedImage { reason: other.to_string() },
    }
}
