//! Pictures in and out: bytes to pixels within limits, the reference's resampler and crops, and a pinned PNG writer.
//!
//! The main path: [`decode`] (header first, then pixels) -> [`fit::center_crop`] or [`fit::pad`] on the picture's *original*
//! mode -> [`RgbImage`] for the image tokenizer; and back through [`png::write`]. Everything is a pure function of its input.
//! This module never reads a file, a name or a clock.

mod canny;
mod crop;
mod decode;
pub mod fit;
mod formats;
mod jpeg;
mod limits;
pub mod npy;
mod orient;
pub mod png;
mod png_decode;
pub mod resample;
pub mod whiten;

pub use canny::canny;
pub use crop::{CropBox, PATCH, Rect, center_crop, crop_sizes, pick_crop_size, var_center_crop};
pub use decode::{decode, probe};
pub use fit::Border;
pub use limits::{DecodeError, Limits};
pub use orient::apply_orientation;

/// An 8-bit RGB picture, rows from the top, three bytes a pixel, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `height * width * 3` bytes.
    pub data: Vec<u8>,
}

impl RgbImage {
    /// A black picture.
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, data: vec![0; width as usize * height as usize * 3] }
    }

    /// Takes the pixels; `None` when their number does not fit the size.
    pub fn from_raw(width: u32, height: u32, data: Vec<u8>) -> Option<Self> {
        (data.len() as u64 == u64::from(width) * u64::from(height) * 3).then_some(Self {
            width,
            height,
            data,
        })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels.
    pub fn as_raw(&self) -> &[u8] {
        &self.data
    }

    /// The pixels, owned.
    pub fn into_raw(self) -> Vec<u8> {
        self.data
    }

    /// The rows `[top, top + height)`, e.g. one panel of a two-panel picture.
    ///
    /// # Panics
    /// When the rows lie outside the picture.
    pub fn rows(&self, top: u32, height: u32) -> Self {
        let row = self.width as usize * 3;
        let data = self.data[top as usize * row..(top + height) as usize * row].to_vec();
        Self { width: self.width, height, data }
    }

    /// Two pictures of one width, the second below the first.
    ///
    /// # Panics
    /// When the widths differ.
    pub fn stack(upper: &Self, lower: &Self) -> Self {
        assert_eq!(upper.width, lower.width, "stacked panels have one width");
        let data = [upper.data.as_slice(), &lower.data].concat();
        Self { width: upper.width, height: upper.height + lower.height, data }
    }
}

impl From<::image::RgbImage> for RgbImage {
    fn from(image: ::image::RgbImage) -> Self {
        Self { width: image.width(), height: image.height(), data: image.into_raw() }
    }
}

impl From<RgbImage> for ::image::RgbImage {
    fn from(image: RgbImage) -> Self {
        Self::from_raw(image.width, image.height, image.data)
            .expect("an RgbImage holds width * height * 3 bytes")
    }
}

/// How the pixels of a [`RawImage`] are to be read. Cropping depends on it: indices are never blended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One byte a pixel, 0 or 255 (1-bit grey).
    Bilevel,
    /// One byte a pixel.
    Gray,
    /// Grey and alpha.
    GrayAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha.
    Rgba,
    /// One byte a pixel, an index into [`RawImage::palette`].
    Palette,
}

impl Mode {
    /// Bytes a pixel.
    pub fn channels(self) -> usize {
        match self {
            Mode::Bilevel | Mode::Gray | Mode::Palette => 1,
            Mode::GrayAlpha => 2,
            Mode::Rgb => 3,
            Mode::Rgba => 4,
        }
    }
}

/// A decoded picture in the mode it was stored in, as the reference's cropping needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawImage {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How to read `data`.
    pub mode: Mode,
    /// `height * width * mode.channels()` bytes.
    pub data: Vec<u8>,
    /// Red, green, blue, alpha of each index; empty unless the mode is [`Mode::Palette`]. Missing entries are opaque black.
    pub palette: Vec<[u8; 4]>,
    /// The grey level that is fully transparent (PNG `tRNS` of a grey picture), compared with the 8-bit pixels as Pillow does.
    pub transparent_gray: Option<u16>,
    /// EXIF orientation 1 to 8; 1 when absent or invalid. Not applied: the reference never does. See [`apply_orientation`].
    pub orientation: u8,
    /// Whether the file holds more frames or pages than this first one.
    pub more_frames: bool,
}

impl RawImage {
    /// An opaque RGB picture as a raw one.
    pub fn from_rgb(image: RgbImage) -> Self {
        Self::plain(image.width, image.height, Mode::Rgb, image.data)
    }

    /// A picture of these pixels without palette, transparency, orientation or further frames.
    ///
    /// # Panics
    /// When the pixels do not fill the size.
    pub fn plain(width: u32, height: u32, mode: Mode, data: Vec<u8>) -> Self {
        assert_eq!(
            data.len(),
            width as usize * height as usize * mode.channels(),
            "pixels fit the size"
        );
        Self {
            width,
            height,
            mode,
            data,
            palette: Vec::new(),
            transparent_gray: None,
            orientation: 1,
            more_frames: false,
        }
    }

    /// The same picture facts with other pixels.
    pub(crate) fn with_pixels(&self, width: u32, height: u32, data: Vec<u8>) -> Self {
        assert_eq!(
            data.len(),
            width as usize * height as usize * self.mode.channels(),
            "pixels fit the size"
        );
        Self { width, height, mode: self.mode, data, palette: self.palette.clone(), ..*self }
    }

    /// The rectangle of this picture.
    ///
    /// # Panics
    /// When the rectangle lies outside.
    pub fn window(&self, left: u32, top: u32, width: u32, height: u32) -> Self {
        assert!(
            left + width <= self.width && top + height <= self.height,
            "window inside the picture"
        );
        let n = self.mode.channels();
        let stride = self.width as usize * n;
        let mut data = Vec::with_capacity(width as usize * height as usize * n);
        for y in top..top + height {
            let start = y as usize * stride + left as usize * n;
            data.extend_from_slice(&self.data[start..start + width as usize * n]);
        }
        self.with_pixels(width, height, data)
    }
}
