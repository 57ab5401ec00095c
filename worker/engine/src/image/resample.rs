//! Pillow 10.4.0's resampler, bit for bit (`reference/movqgan.md` section 7.4).
//!
//! Two separable passes, horizontal first, each rounded to u8. Rows are produced on demand: whatever the picture's size,
//! only the horizontally resampled rows that one output row needs are held, and only the window that is asked for is computed.

use std::collections::VecDeque;

use super::{Mode, RawImage};

/// The two filters that the reference uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Area average; used for the repeated halving.
    Box,
    /// Catmull-Rom (a = -0.5), widened when reducing.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Box => 0.5,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        match self {
            Filter::Box if x > -0.5 && x <= 0.5 => 1.0,
            Filter::Box => 0.0,
            Filter::Bicubic => {
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
        }
    }
}

/// A part of an output picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// The whole picture resized to `width` x `height`.
pub fn resize(raw: &RawImage, width: u32, height: u32, filter: Filter) -> RawImage {
    resize_window(raw, width, height, filter, Window { left: 0, top: 0, width, height })
}

/// The part `window` of the picture resized to `width` x `height`; the same pixels as resizing and then cutting, without
/// the memory. Palette and bilevel pictures are resized by nearest neighbour on indices, whatever the filter.
///
/// # Panics
/// When a size is zero or the window lies outside the resized picture.
pub fn resize_window(
    raw: &RawImage,
    width: u32,
    height: u32,
    filter: Filter,
    window: Window,
) -> RawImage {
    assert!(raw.width > 0 && raw.height > 0 && width > 0 && height > 0, "sizes are positive");
    let right = u64::from(window.left) + u64::from(window.width);
    let bottom = u64::from(window.top) + u64::from(window.height);
    assert!(
        right <= u64::from(width) && bottom <= u64::from(height),
        "window inside the resized picture"
    );
    if (raw.width, raw.height) == (width, height) {
        return raw.window(window.left, window.top, window.width, window.height);
    }
    match raw.mode {
        Mode::Palette | Mode::Bilevel => nearest(raw, width, height, window),
        _ => filtered(raw, width, height, filter, window),
    }
}

/// Source coordinates start at half a step and advance by **repeated addition**, as upstream; other roundings give other pixels.
fn nearest(raw: &RawImage, width: u32, height: u32, window: Window) -> RawImage {
    let axis = |n_in: u32, n_out: u32, first: u32, n: u32| -> Vec<usize> {
        let step = f64::from(n_in) / f64::from(n_out);
        let mut at = step * 0.5;
        let mut picked = Vec::with_capacity(n as usize);
        for i in 0..first + n {
            if i >= first {
                picked.push((at as usize).min(n_in as usize - 1));
            }
            at += step;
        }
        picked
    };
    let columns = axis(raw.width, width, window.left, window.width);
    let rows = axis(raw.height, height, window.top, window.height);
    let mut data = Vec::with_capacity(columns.len() * rows.len());
    for y in rows {
        let row = &raw.data[y * raw.width as usize..(y + 1) * raw.width as usize];
        data.extend(columns.iter().map(|&x| row[x]));
    }
    raw.with_pixels(window.width, window.height, data)
}

/// For one output index: the first source index and the fixed-point weights from there on.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

const PRECISION_BITS: u32 = 22;

fn taps(n_in: u32, n_out: u32, filter: Filter, first: u32, n: u32) -> Vec<Taps> {
    let ratio = f64::from(n_in) / f64::from(n_out);
    let filter_scale = ratio.max(1.0);
    let support = filter.support() * filter_scale;
    let inverse = 1.0 / filter_scale;
    let one = |i: u32| {
        let centre = (f64::from(i) + 0.5) * ratio;
        // `as` truncates towards zero and saturates, which is the C cast followed by the clamp to 0.
        let lo = (centre - support + 0.5) as usize;
        let hi = ((centre + support + 0.5) as usize).min(n_in as usize);
        let raw: Vec<f64> =
            (lo..hi).map(|j| filter.weight((j as f64 - centre + 0.5) * inverse)).collect();
        let sum: f64 = raw.iter().fold(0.0, |sum, w| sum + w);
        let inverse_sum = if sum == 0.0 { 1.0 } else { 1.0 / sum };
        let fixed = |w: &f64| {
            let scaled = w * inverse_sum * f64::from(1u32 << PRECISION_BITS);
            (if *w * inverse_sum < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Taps { first: lo, weights: raw.iter().map(fixed).collect() }
    };
    (first..first + n).map(one).collect()
}

fn round_clamp(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn filtered(raw: &RawImage, width: u32, height: u32, filter: Filter, window: Window) -> RawImage {
    let n = raw.mode.channels();
    let columns =
        (raw.width != width).then(|| taps(raw.width, width, filter, window.left, window.width));
    let rows =
        (raw.height != height).then(|| taps(raw.height, height, filter, window.top, window.height));
    let source = Source { raw, columns, left: window.left as usize, width: window.width as usize };
    let mut data = Vec::with_capacity(window.width as usize * window.height as usize * n);
    // Horizontally resampled source rows [cached_from, cached_from + cache.len()).
    let mut cache: VecDeque<Vec<u8>> = VecDeque::new();
    let mut cached_from = 0;
    let mut spare = Vec::new();
    for i in 0..window.height as usize {
        let Some(rows) = &rows else {
            data.extend(source.row(window.top as usize + i, Vec::new()));
            continue;
        };
        let tap = &rows[i];
        while cached_from < tap.first && !cache.is_empty() {
            spare = cache.pop_front().expect("checked not to be empty");
            cached_from += 1;
        }
        if cache.is_empty() {
            cached_from = tap.first;
        }
        while cached_from + cache.len() < tap.first + tap.weights.len() {
            cache.push_back(source.row(cached_from + cache.len(), std::mem::take(&mut spare)));
        }
        let mut sums = vec![HALF; window.width as usize * n];
        for (row, &weight) in cache.iter().zip(&tap.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(value);
            }
        }
        data.extend(sums.into_iter().map(round_clamp));
    }
    unpremultiply(raw.mode, &mut data);
    raw.with_pixels(window.width, window.height, data)
}

/// Rows of the source, premultiplied and horizontally resampled to the window's columns.
struct Source<'a> {
    raw: &'a RawImage,
    columns: Option<Vec<Taps>>,
    left: usize,
    width: usize,
}

impl Source<'_> {
    fn row(&self, y: usize, mut out: Vec<u8>) -> Vec<u8> {
        let n = self.raw.mode.channels();
        let stride = self.raw.width as usize * n;
        let mut line = self.raw.data[y * stride..(y + 1) * stride].to_vec();
        premultiply(self.raw.mode, &mut line);
        out.clear();
        let Some(columns) = &self.columns else {
            out.extend_from_slice(&line[self.left * n..(self.left + self.width) * n]);
            return out;
        };
        for tap in columns {
            let pixels = &line[tap.first * n..(tap.first + tap.weights.len()) * n];
            let mut sums = [HALF; 4];
            for (pixel, &weight) in pixels.chunks_exact(n).zip(&tap.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(value);
                }
            }
            out.extend(sums[..n].iter().map(|&sum| round_clamp(sum)));
        }
        out
    }
}

/// Colour times alpha, in Pillow's rounding, for the two modes with alpha.
fn premultiply(mode: Mode, line: &mut [u8]) {
    if !matches!(mode, Mode::GrayAlpha | Mode::Rgba) {
        return;
    }
    for pixel in line.chunks_exact_mut(mode.channels()) {
        let (alpha, colours) =
            pixel.split_last_mut().expect("modes with alpha have at least two channels");
        for c in colours {
            let t = u32::from(*c) * u32::from(*alpha) + 128;
            *c = (((t >> 8) + t) >> 8) as u8;
        }
    }
}

fn unpremultiply(mode: Mode, data: &mut [u8]) {
    if !matches!(mode, Mode::GrayAlpha | Mode::Rgba) {
        return;
    }
    for pixel in data.chunks_exact_mut(mode.channels()) {
        let (alpha, colours) =
            pixel.split_last_mut().expect("modes with alpha have at least two channels");
        if *alpha != 0 && *alpha != 255 {
            for c in colours {
                *c = (255 * u32::from(*c) / u32::from(*alpha)).min(255) as u8;
            }
        }
    }
}
