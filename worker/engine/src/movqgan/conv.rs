//! Convolutions in strips of rows: norm, swish and padding happen while a strip is read, nothing of the input's size is copied.
//!
//! Upsampling is part of its convolution: after doubling every pixel, a 3x3 window covers only 2x2 different pixels, in four
//! ways by the parity of the output pixel. So it runs as four 2x2 convolutions over the small map with weights summed beforehand:
//! 16 multiply-adds instead of 36, the same sum but for the rounding of the summed weights.

use super::gemm::{Packed, Windows, multiply};
use super::map::Map;
use super::prepared::Prepared;
use crate::kernels::Pool;

/// Pixels that share one pass over the weights.
const CHUNK_PIXELS: usize = 192;

/// Which convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 1x1.
    Point,
    /// 3x3, stride 1, one zero on each side.
    Same,
    /// 3x3, stride 2, one zero on the right and below **only**.
    Down,
    /// Every pixel doubled in both directions, then as `Same`.
    Up,
}

impl Kind {
    /// Side of the weights in the checkpoint.
    pub(super) fn side(self) -> usize {
        if self == Kind::Point { 1 } else { 3 }
    }

    /// How many output pixels an input pixel becomes in each direction, each with its own weights.
    fn factor(self) -> usize {
        if self == Kind::Up { 2 } else { 1 }
    }
}

/// A convolution's weights.
#[derive(Debug)]
pub(crate) struct Conv {
    kind: Kind,
    cin: usize,
    cout: usize,
    /// One for each position of an output pixel within its input pixel, row-major.
    phases: Vec<Packed>,
    bias: Vec<f32>,
}

/// What a convolution reads: a map, as it is or seen through a norm.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    map: &'a Map,
    norm: Option<(&'a Prepared, bool)>,
}

impl<'a> From<&'a Map> for Input<'a> {
    fn from(map: &'a Map) -> Self {
        Self { map, norm: None }
    }
}

impl<'a> Input<'a> {
    /// The map's norm; with `swish`, swish after it.
    pub(super) fn normed(map: &'a Map, norm: &'a Prepared, swish: bool) -> Self {
        Self { map, norm: Some((norm, swish)) }
    }

    /// Row `y` as the convolution sees it.
    fn row(&self, y: usize, out: &mut [f32]) {
        match self.norm {
            Some((norm, swish)) => norm.row(self.map.row(y), y, swish, out),
            None => out.copy_from_slice(self.map.row(y)),
        }
    }
}

impl Conv {
    /// From the checkpoint's weight (cout, cin, side, side) and bias (cout).
    ///
    /// # Panics
    /// When the lengths do not agree.
    pub(super) fn new(kind: Kind, cin: usize, cout: usize, weight: &[f32], bias: Vec<f32>) -> Self {
        let area = kind.side() * kind.side();
        assert_eq!(weight.len(), cout * cin * area, "the weight fills its shape");
        assert_eq!(bias.len(), cout, "one bias by output channel");
        let at = |o: usize, c: usize, tap: usize| weight[(o * cin + c) * area + tap];
        // Along k: window row, window column, input channel, as the windows lie in the strip.
        let phases = if kind == Kind::Up {
            let phase = |p: usize| {
                Packed::new(cout, 4 * cin, |o, k| {
                    let (tap, c) = (k / cin, k % cin);
                    let (rows, columns) = (merged(p / 2, tap / 2), merged(p % 2, tap % 2));
                    let taps = rows.iter().flat_map(|y| columns.iter().map(move |x| y * 3 + x));
                    taps.map(|tap| f64::from(at(o, c, tap))).sum::<f64>() as f32
                })
            };
            (0..4).map(phase).collect()
        } else {
            vec![Packed::new(cout, area * cin, |o, k| at(o, k % cin, k / cin))]
        };
        Self { kind, cin, cout, phases, bias }
    }

    /// The shape of a convolution without values; it cannot run.
    pub(super) fn hollow(kind: Kind, cin: usize, cout: usize) -> Self {
        Self { kind, cin, cout, phases: Vec::new(), bias: Vec::new() }
    }

    /// The convolution with its bias.
    pub(crate) fn forward(&self, input: &Input<'_>, pool: &Pool) -> Map {
        let (h, w) = self.grid(input);
        let factor = self.kind.factor();
        let mut out = Map::zeros(h * factor, w * factor, self.cout);
        self.add_to(input, &mut out, pool);
        out
    }

    /// Adds the convolution with its bias to `out`.
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub(super) fn add_to(&self, input: &Input<'_>, out: &mut Map, pool: &Pool) {
        assert_eq!(input.map.c, self.cin, "the convolution fits the map");
        let ((h, w), factor) = (self.grid(input), self.kind.factor());
        assert_eq!(
            (out.h, out.w, out.c),
            (h * factor, w * factor, self.cout),
            "the output has the convolution's shape"
        );
        if h == 0 || w == 0 {
            return;
        }
        // Enough rows for one pass over the weights, few enough that every thread gets strips.
        let rows = CHUNK_PIXELS.div_ceil(w).min(h.div_ceil(2 * pool.threads())).max(1);
        let row_len = factor * factor * w * out.c;
        pool.chunks_mut(&mut out.data, rows * row_len, |strip, part| {
            self.strip(input, strip * rows, part.len() / row_len, w, part);
        });
    }

    /// Rows and columns of windows.
    fn grid(&self, input: &Input<'_>) -> (usize, usize) {
        match self.kind {
            Kind::Down => (input.map.h / 2, input.map.w / 2),
            _ => (input.map.h, input.map.w),
        }
    }

    /// The windows of `rows` rows from `first`, `w` in each; `out` has one pixel for each window and phase.
    fn strip(&self, input: &Input<'_>, first: usize, rows: usize, w: usize, out: &mut [f32]) {
        let (stride, pad, taps) = match self.kind {
            Kind::Point => (1, 0, 1),
            Kind::Same => (1, 1, 3),
            Kind::Down => (2, 0, 3),
            Kind::Up => (1, 1, 2),
        };
        let (c, factor) = (self.cin, self.kind.factor());
        // The strip's input rows with their padding: line l is input row `first * stride + l - pad`.
        let line_len = (input.map.w + taps - 1 + factor - 1) * c;
        let lines = (rows - 1) * stride + taps + factor - 1;
        let mut buffer = vec![0.0; lines * line_len];
        for (l, line) in buffer.chunks_exact_mut(line_len).enumerate() {
            if let Some(y) = (first * stride + l).checked_sub(pad).filter(|&y| y < input.map.h) {
                input.row(y, &mut line[pad * c..(pad + input.map.w) * c]);
            }
        }
        let runs: Vec<usize> = (0..taps).map(|tap| tap * line_len).collect();
        let mut sums = Vec::new();
        for from in (0..rows * w).step_by(CHUNK_PIXELS) {
            let windows = from..(from + CHUNK_PIXELS).min(rows * w);
            for (phase, weights) in self.phases.iter().enumerate() {
                let (py, px) = (phase / factor, phase % factor);
                let start = |p: usize| (p / w * stride + py) * line_len + (p % w * stride + px) * c;
                let starts: Vec<usize> = windows.clone().map(start).collect();
                sums.resize(starts.len() * weights.padded_out(), 0.0);
                let x = Windows { data: &buffer, starts: &starts, runs: &runs, run_len: taps * c };
                multiply(&x, weights, &mut sums);
                for (p, sums) in windows.clone().zip(sums.chunks_exact(weights.padded_out())) {
                    let pixel = (p / w * factor + py) * w * factor + p % w * factor + px;
                    let out = &mut out[pixel * self.cout..][..self.cout];
                    for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&self.bias) {
                        *out += sum + bias;
                    }
                }
            }
        }
    }
}

/// Which of three taps fall on the same pixel of the small map, in one direction: an even output pixel sees its left
/// neighbour once and its own pixel twice, an odd one its own twice and its right neighbour once.
fn merged(parity: usize, tap: usize) -> &'static [usize] {
    match (parity, tap) {
        (0, 0) => &[0],
        (0, _) => &[1, 2],
        (_, 0) => &[0, 1],
        (_, _) => &[2],
    }
}
