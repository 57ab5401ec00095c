//! Picture to latents (`reference/movqgan.md` section 3).

use super::blocks::{Level, Mid};
use super::conv::{Conv, Input};
use super::map::Map;
use super::norm::Norm;
use super::trace::Trace;
use crate::kernels::Pool;

/// The encoder; levels in ascending order.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) conv_in: Conv,
    pub(super) down: Vec<Level>,
    pub(super) mid: Mid,
    pub(super) norm_out: Norm,
    pub(super) conv_out: Conv,
}

impl Encoder {
    /// (h, w, 3) in -1..1 to (h / f, w / f, z), both divisions floored at each level.
    pub(super) fn forward(&self, picture: &Map, pool: &Pool, trace: &mut Trace<'_>) -> Map {
        let mut x = self.conv_in.forward(&picture.into(), pool);
        trace.show("encoder.conv_in", "", &x);
        for (i, level) in self.down.iter().enumerate() {
            x = level.forward(x, None, pool, trace);
            if let Some(downsample) = &level.resample {
                x = downsample.forward(&(&x).into(), pool);
                trace.show(&format!("encoder.down.{i}.downsample"), "", &x);
            }
        }
        x = self.mid.forward(x, None, pool, trace);
        let norm = self.norm_out.prepare(&x, None, pool);
        trace.emit("encoder.norm_out", "", || self.norm_out.apply(&x, None, false, pool));
        let out = self.conv_out.forward(&Input::normed(&x, &norm, true), pool);
        trace.show("encoder.conv_out", "", &out);
        out
    }
}
