//! Convolutions in strips of rows: norm, swish, nearest upsampling and padding happen while a strip is read, nothing of the
//! input's size is copied.

use super::gemm::{Packed, Windows, multiply};
use super::map::Map;
use super::norm::Prepared;
use crate::kernels::Pool;

/// Pixels that share one pass over the weights.
const CHUNK_PIXELS: usize = 192;

/// Which convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 1x1.
    Point,
    /// 3x3, stride 1, one zero on each side.
    Same,
    /// 3x3, stride 2, one zero on the right and below **only**.
    Down,
}

/// A convolution's weights.
#[derive(Debug)]
pub(super) struct Conv {
    kind: Kind,
    cin: usize,
    weights: Packed,
    bias: Vec<f32>,
}

/// What a convolution reads: a map, seen through a norm and swish, or at twice its size.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    map: &'a Map,
    norm: Option<(&'a Prepared, bool)>,
    upsample: bool,
}

impl<'a> From<&'a Map> for Input<'a> {
    fn from(map: &'a Map) -> Self {
        Self {
            map,
            norm: None,
            upsample: false,
        }
    }
}

impl<'a> Input<'a> {
    /// The map's norm; with `swish`, swish after it.
    pub(super) fn normed(map: &'a Map, norm: &'a Prepared, swish: bool) -> Self {
        Self {
            map,
            norm: Some((norm, swish)),
            upsample: false,
        }
    }

    /// The map with every pixel doubled in both directions.
    pub(super) fn upsampled(map: &'a Map) -> Self {
        Self {
            map,
            norm: None,
            upsample: true,
        }
    }

    fn size(&self) -> (usize, usize) {
        let factor = if self.upsample { 2 } else { 1 };
        (self.map.h * factor, self.map.w * factor)
    }

    /// Row `y` as the convolution sees it.
    fn row(&self, y: usize, out: &mut [f32]) {
        match self.norm {
            Some((norm, swish)) => norm.row(self.map.row(y), y, swish, out),
            None if self.upsample => {
                let c = self.map.c;
                for (pixel, out) in self
                    .map
                    .row(y / 2)
                    .chunks_exact(c)
                    .zip(out.chunks_exact_mut(2 * c))
                {
                    out[..c].copy_from_slice(pixel);
                    out[c..].copy_from_slice(pixel);
                }
            }
            None => out.copy_from_slice(self.map.row(y)),
        }
    }
}

impl Conv {
    /// From the checkpoint's weight (cout, cin, k, k) and bias (cout).
    ///
    /// # Panics
    /// When the lengths do not agree.
    pub(super) fn new(kind: Kind, cin: usize, cout: usize, weight: &[f32], bias: Vec<f32>) -> Self {
        let side = if kind == Kind::Point { 1 } else { 3 };
        assert_eq!(
            weight.len(),
            cout * cin * side * side,
            "the weight fills its shape"
        );
        assert_eq!(bias.len(), cout, "one bias by output channel");
        // Along k: window row, window column, input channel, as the windows lie in the strip.
        let weights = Packed::new(cout, side * side * cin, |o, k| {
            let (tap, c) = (k / cin, k % cin);
            weight[(o * cin + c) * side * side + tap]
        });
        Self {
            kind,
            cin,
            weights,
            bias,
        }
    }

    /// The shape of a convolution without values; it cannot run.
    pub(super) fn hollow(kind: Kind, cin: usize, cout: usize) -> Self {
        Self {
            kind,
            cin,
            weights: Packed::new(cout, 0, |_, _| 0.0),
            bias: Vec::new(),
        }
    }

    /// The convolution with its bias.
    pub(super) fn forward(&self, input: &Input<'_>, pool: &Pool) -> Map {
        let (h, w) = self.output_size(input);
        let mut out = Map::zeros(h, w, self.weights.out);
        self.add_to(input, &mut out, pool);
        out
    }

    /// Adds the convolution with its bias to `out`.
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub(super) fn add_to(&self, input: &Input<'_>, out: &mut Map, pool: &Pool) {
        assert_eq!(input.map.c, self.cin, "the convolution fits the map");
        let (h, w) = self.output_size(input);
        assert_eq!(
            (out.h, out.w, out.c),
            (h, w, self.weights.out),
            "the output has the convolution's shape"
        );
        if h == 0 || w == 0 {
            return;
        }
        // Enough rows for one pass over the weights, few enough that every thread gets strips.
        let rows = CHUNK_PIXELS
            .div_ceil(w)
            .min(h.div_ceil(2 * pool.threads()))
            .max(1);
        let row_len = w * out.c;
        pool.chunks_mut(&mut out.data, rows * row_len, |strip, part| {
            self.strip(input, strip * rows, part, w);
        });
    }

    fn output_size(&self, input: &Input<'_>) -> (usize, usize) {
        let (h, w) = input.size();
        if self.kind == Kind::Down {
            (h / 2, w / 2)
        } else {
            (h, w)
        }
    }

    /// Output rows from `first`, as many as `out` (rows, w, cout) holds.
    fn strip(&self, input: &Input<'_>, first: usize, out: &mut [f32], w: usize) {
        let (stride, pad, taps) = match self.kind {
            Kind::Point => (1, 0, 1),
            Kind::Same => (1, 1, 3),
            Kind::Down => (2, 0, 3),
        };
        let (in_h, in_w) = input.size();
        let c = self.cin;
        let rows = out.len() / (w * self.weights.out);
        // The strip's input rows with their padding: line l is input row `first * stride + l - pad`.
        let line_len = (in_w + taps - 1) * c;
        let lines = (rows - 1) * stride + taps;
        let mut buffer = vec![0.0; lines * line_len];
        for (l, line) in buffer.chunks_exact_mut(line_len).enumerate() {
            if let Some(y) = (first * stride + l).checked_sub(pad).filter(|&y| y < in_h) {
                input.row(y, &mut line[pad * c..(pad + in_w) * c]);
            }
        }
        let runs: Vec<usize> = (0..taps).map(|tap| tap * line_len).collect();
        let starts: Vec<usize> = (0..rows * w)
            .map(|p| p / w * stride * line_len + p % w * stride * c)
            .collect();
        let width = self.weights.padded_out();
        let mut sums = vec![0.0; CHUNK_PIXELS.min(starts.len()) * width];
        for (starts, out) in starts
            .chunks(CHUNK_PIXELS)
            .zip(out.chunks_mut(CHUNK_PIXELS * self.weights.out))
        {
            let sums = &mut sums[..starts.len() * width];
            multiply(
                &Windows {
                    data: &buffer,
                    starts,
                    runs: &runs,
                    run_len: taps * c,
                },
                &self.weights,
                sums,
            );
            for (sums, out) in sums
                .chunks_exact(width)
                .zip(out.chunks_exact_mut(self.weights.out))
            {
                for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&self.bias) {
                    *out += sum + bias;
                }
            }
        }
    }
}
