//! Bytes to -1..1 and back (`reference/movqgan.md` sections 7.6 and 8).

use super::map::Map;
use crate::image::RgbImage;

/// `(v / 255) * 2 - 1` in f64, then rounded to f32: in f32 arithmetic half of the values would differ in the last bit.
pub(crate) fn scale_table() -> [f32; 256] {
    std::array::from_fn(|v| (v as f64 / 255.0 * 2.0 - 1.0) as f32)
}

/// A picture as the encoder's input.
pub(crate) fn to_map(image: &RgbImage) -> Map {
    let table = scale_table();
    let data = image.data.iter().map(|&v| table[usize::from(v)]).collect();
    Map { h: image.height as usize, w: image.width as usize, c: 3, data }
}

/// The decoder's output as a picture.
pub(crate) fn to_image(map: &Map) -> RgbImage {
    let data = map.data.iter().map(|&x| to_u8(x)).collect();
    RgbImage { width: map.w as u32, height: map.h as u32, data }
}

/// Rounded half to even in f32, then clamped; not-a-number becomes 0.
pub(crate) fn to_u8(x: f32) -> u8 {
    ((x + 1.0) * 127.5).round_ties_even().clamp(0.0, 255.0) as u8
}
