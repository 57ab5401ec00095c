//! The feed-forward block: `W_down(silu(W_gate h) * (W_up h))`.

use super::{Scratch, linear};
use crate::checkpoint::Tensors;
use crate::error::LoadError;
use crate::kernels::{Pool, silu_mul_in_place};
use crate::quant::Linear;
use crate::quant::Weights;
use crate::transformer::config::Config;

/// One layer's feed-forward block.
#[derive(Debug)]
pub(super) struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    inner: usize,
}

impl Mlp {
    /// Loads `{prefix}.{gate,up,down}_proj`.
    ///
    /// # Errors
    /// A tensor is missing or of a wrong shape or type.
    pub(super) fn load(
        tensors: &Tensors,
        prefix: &str,
        config: &Config,
        format: Weights,
    ) -> Result<Self, LoadError> {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let project = |name: &str, out: usize, from: usize| {
            linear::load(tensors, &format!("{prefix}.{name}"), (out, from), config.mlp_bias, format)
        };
        Ok(Self {
            gate_proj: project("gate_proj", inner, d)?,
            up_proj: project("up_proj", inner, d)?,
            down_proj: project("down_proj", d, inner)?,
            inner,
        })
    }

    /// Bytes of the matrices.
    pub(super) fn bytes(&self) -> usize {
        [&self.gate_proj, &self.up_proj, &self.down_proj].iter().map(|matrix| matrix.bytes()).sum()
    }

    /// Numbers in the matrices.
    pub(super) fn weights(&self) -> u64 {
        [&self.gate_proj, &self.up_proj, &self.down_proj]
            .iter()
            .map(|matrix| (matrix.out() * matrix.inputs()) as u64)
            .sum()
    }

    /// `scratch.output = MLP(scratch.input)` for all rows.
    pub(super) fn forward(&self, pool: &Pool, scratch: &mut Scratch) {
        let rows = scratch.rows;
        scratch.gate.resize(rows * self.inner, 0.0);
        scratch.up.resize(rows * self.inner, 0.0);
        self.gate_proj.forward(&scratch.input, rows, &mut scratch.gate, pool);
        self.up_proj.forward(&scratch.input, rows, &mut scratch.up, pool);
        let up = &scratch.up;
        pool.chunks_mut(&mut scratch.gate, self.inner, |row, gate| {
            silu_mul_in_place(gate, &up[row * self.inner..(row + 1) * self.inner]);
        });
        self.down_proj.forward(&scratch.gate, rows, &mut scratch.output, pool);
    }
}
