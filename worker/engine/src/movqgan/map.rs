//! Activations.

/// A feature map, channels last: element (y, x, c) at `(y * w + x) * c_total + c`. One picture, no batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Map {
    /// Rows.
    pub(crate) h: usize,
    /// Columns.
    pub(crate) w: usize,
    /// Channels.
    pub(crate) c: usize,
    /// (h, w, c)
    pub(crate) data: Vec<f32>,
}

impl Map {
    /// A map of zeros.
    pub(crate) fn zeros(h: usize, w: usize, c: usize) -> Self {
        Self { h, w, c, data: vec![0.0; h * w * c] }
    }

    /// From channels first, (c, h, w).
    ///
    /// # Panics
    /// When the length does not fit the shape.
    pub(crate) fn from_chw(chw: &[f32], c: usize, h: usize, w: usize) -> Self {
        assert_eq!(chw.len(), c * h * w, "the data fill the shape");
        let mut map = Self::zeros(h, w, c);
        for (p, pixel) in map.data.chunks_exact_mut(c.max(1)).enumerate() {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = chw[channel * h * w + p];
            }
        }
        map
    }

    /// To channels first, (c, h, w).
    pub(crate) fn to_chw(&self) -> Vec<f32> {
        let plane = self.h * self.w;
        let mut chw = vec![0.0; self.data.len()];
        for (p, pixel) in self.data.chunks_exact(self.c.max(1)).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                chw[channel * plane + p] = *value;
            }
        }
        chw
    }

    /// Row y, (w, c).
    pub(super) fn row(&self, y: usize) -> &[f32] {
        let n = self.w * self.c;
        &self.data[y * n..(y + 1) * n]
    }
}
