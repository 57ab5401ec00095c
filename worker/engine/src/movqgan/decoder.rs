//! Code vectors to picture (`reference/movqgan.md` section 5).

use super::blocks::{Level, Mid};
use super::conv::{Conv, Input};
use super::map::Map;
use super::norm::Norm;
use super::trace::Trace;
use crate::kernels::Pool;

/// The decoder; levels as stored, in ascending order. They run from the last to the first.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) conv_in: Conv,
    pub(super) mid: Mid,
    pub(super) up: Vec<Level>,
    pub(super) norm_out: Norm,
    pub(super) conv_out: Conv,
}

impl Decoder {
    /// `z` (h, w, z) is the trunk's input, `zq` (h, w, embed) the un-projected code vectors that modulate every norm; the
    /// result is (h * f, w * f, 3), not clamped.
    pub(super) fn forward(&self, z: &Map, zq: &Map, pool: &Pool, trace: &mut Trace<'_>) -> Map {
        let mut x = self.conv_in.forward(&z.into(), pool);
        trace.show("decoder.conv_in", "", &x);
        x = self.mid.forward(x, Some(zq), pool, trace);
        for (i, level) in self.up.iter().enumerate().rev() {
            x = level.forward(x, Some(zq), pool, trace);
            if let Some(upsample) = &level.resample {
                x = upsample.forward(&(&x).into(), pool);
                trace.show(&format!("decoder.up.{i}.upsample"), "", &x);
            }
        }
        let norm = self.norm_out.prepare(&x, Some(zq), pool);
        trace.emit("decoder.norm_out", "", || self.norm_out.apply(&x, Some(zq), false, pool));
        let out = self.conv_out.forward(&Input::normed(&x, &norm, true), pool);
        trace.show("decoder.conv_out", "", &out);
        out
    }
}
