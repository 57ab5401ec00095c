//! The residual block and the level that encoder and decoder are built of (`reference/movqgan.md` section 2).

use super::attention::Attention;
use super::conv::{Conv, Input};
use super::map::Map;
use super::norm::Norm;
use super::trace::Trace;
use crate::kernels::Pool;

/// Two normed, swished 3x3 convolutions beside a shortcut.
#[derive(Debug)]
pub(crate) struct Resnet {
    pub(super) name: String,
    pub(super) norm1: Norm,
    pub(super) conv1: Conv,
    pub(super) norm2: Norm,
    pub(super) conv2: Conv,
    /// There exactly when the channel counts differ.
    pub(super) nin_shortcut: Option<Conv>,
}

impl Resnet {
    /// The block's output; the input is dropped as soon as it is no longer needed.
    pub(crate) fn forward(
        &self,
        x: Map,
        zq: Option<&Map>,
        pool: &Pool,
        trace: &mut Trace<'_>,
    ) -> Map {
        let norm1 = self.norm1.prepare(&x, zq, pool);
        let h = self.conv1.forward(&Input::normed(&x, &norm1, true), pool);
        trace.emit(&self.name, "norm1", || self.norm1.apply(&x, zq, false, pool));
        trace.show(&self.name, "conv1", &h);
        // The shortcut sees the raw input; after it, the input is gone.
        let shortcut = match &self.nin_shortcut {
            Some(nin) => {
                let shortcut = nin.forward(&(&x).into(), pool);
                trace.show(&self.name, "nin_shortcut", &shortcut);
                drop(x);
                shortcut
            }
            None => x,
        };
        let norm2 = self.norm2.prepare(&h, zq, pool);
        trace.emit(&self.name, "norm2", || self.norm2.apply(&h, zq, false, pool));
        trace.emit(&self.name, "dropout", || self.norm2.apply(&h, zq, true, pool));
        let mut out = shortcut;
        trace.emit(&self.name, "conv2", || {
            self.conv2.forward(&Input::normed(&h, &norm2, true), pool)
        });
        self.conv2.add_to(&Input::normed(&h, &norm2, true), &mut out, pool);
        trace.show(&self.name, "", &out);
        out
    }
}

/// The blocks of one resolution; where the level owns attentions, one follows each block.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) blocks: Vec<(Resnet, Option<Attention>)>,
    /// Down- or upsampling after the blocks.
    pub(super) resample: Option<Conv>,
}

impl Level {
    /// The blocks alone.
    pub(crate) fn forward(
        &self,
        mut x: Map,
        zq: Option<&Map>,
        pool: &Pool,
        trace: &mut Trace<'_>,
    ) -> Map {
        for (block, attention) in &self.blocks {
            x = block.forward(x, zq, pool, trace);
            if let Some(attention) = attention {
                x = attention.forward(x, zq, pool, trace);
            }
        }
        x
    }
}

/// Block, attention, block.
#[derive(Debug)]
pub(super) struct Mid {
    pub(super) block_1: Resnet,
    pub(super) attn_1: Attention,
    pub(super) block_2: Resnet,
}

impl Mid {
    pub(crate) fn forward(
        &self,
        x: Map,
        zq: Option<&Map>,
        pool: &Pool,
        trace: &mut Trace<'_>,
    ) -> Map {
        let x = self.block_1.forward(x, zq, pool, trace);
        let x = self.attn_1.forward(x, zq, pool, trace);
        self.block_2.forward(x, zq, pool, trace)
    }
}
