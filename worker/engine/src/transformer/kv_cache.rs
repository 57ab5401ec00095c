//! Keys and values of one sequence, in memory that is allocated once.

use std::sync::Arc;

use super::rope::RopeTable;
use crate::config::Config;

/// Static cache of one branch of one slot: every layer's keys (normed and rotated) and values.
#[derive(Debug)]
pub struct BranchCache {
    head_dim: usize,
    kv_heads: usize,
    capacity: usize,
    len: usize,
    /// (layer, kv head, position, head_dim)
    keys: Vec<f32>,
    values: Vec<f32>,
    rope: Arc<RopeTable>,
}

impl BranchCache {
    /// A cache of `capacity` positions.
    pub fn new(config: &Config, capacity: usize, rope: Arc<RopeTable>) -> Self {
        let elements = Self::elements(config, capacity);
        Self {
            head_dim: config.head_dim(),
            kv_heads: config.num_key_value_heads,
            capacity,
            len: 0,
            keys: vec![0.0; elements],
            values: vec![0.0; elements],
            rope,
        }
    }

    /// Bytes that a cache of `capacity` positions takes.
    pub fn bytes(config: &Config, capacity: usize) -> u64 {
        2 * 4 * Self::elements(config, capacity) as u64
    }

    fn elements(config: &Config, capacity: usize) -> usize {
        config.num_hidden_layers * config.kv_dim() * capacity
    }

    /// Positions written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len, "a cache shrinks only");
        self.len = len;
    }

    /// Empties it for another sequence.
    pub fn reset(&mut self, rope: Arc<RopeTable>) {
        self.len = 0;
        self.rope = rope;
    }

    /// The rotary table of its sequence.
    pub fn rope(&self) -> &RopeTable {
        &self.rope
    }

    /// All keys of a head, the first `positions` of them.
    pub fn keys(&self, layer: usize, kv_head: usize, positions: usize) -> &[f32] {
        let start = self.head_start(layer, kv_head);
        &self.keys[start..start + positions * self.head_dim]
    }

    /// All values of a head, the first `positions` of them.
    pub fn values(&self, layer: usize, kv_head: usize, positions: usize) -> &[f32] {
        let start = self.head_start(layer, kv_head);
        &self.values[start..start + positions * self.head_dim]
    }

    /// Stores key and value of one head at one position at or after `len`; [`Self::advance`] makes them count.
    pub(super) fn write(&mut self, layer: usize, kv_head: usize, position: usize, key: &[f32], value: &[f32]) {
        assert!(position < self.capacity, "position {position} of a cache of {}", self.capacity);
        let start = self.head_start(layer, kv_head) + position * self.head_dim;
        self.keys[start..start + self.head_dim].copy_from_slice(key);
        self.values[start..start + self.head_dim].copy_from_slice(value);
    }

    /// Counts `n` positions that every layer has written.
    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
        assert!(self.len <= self.capacity, "a cache is never overrun");
    }

    fn head_start(&self, layer: usize, kv_head: usize) -> usize {
        (layer * self.kv_heads + kv_head) * self.capacity * self.head_dim
    }
}
