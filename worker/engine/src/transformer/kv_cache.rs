//! Keys and values of one sequence, in memory that is allocated once.

use std::ops::Range;
use std::sync::Arc;

use super::rope::RopeTable;
use crate::kernels::{StoredRows, narrow_bf16};
use crate::quant::KvCache;
use crate::transformer::config::Config;

/// Static cache of one branch of one slot: every layer's keys (normed and rotated) and values.
///
/// Values are rounded to the cache's format when they are written, by themselves alone, and widened when they are read: so
/// what is read does not depend on how the sequence was cut into steps.
#[derive(Debug)]
pub struct BranchCache {
    head_dim: usize,
    kv_heads: usize,
    capacity: usize,
    /// The tokens whose keys and values are held, by position.
    tokens: Vec<u32>,
    keys: Store,
    values: Store,
    rope: Arc<RopeTable>,
}

/// Length of the common prefix of what a cache holds and a sequence, at least the sequence's last token left to feed.
pub(crate) fn common(held: &[u32], sequence: &[u32]) -> usize {
    let most = held.len().min(sequence.len().saturating_sub(1));
    held.iter().zip(sequence).take(most).take_while(|(a, b)| a == b).count()
}

/// (layer, kv head, position, head_dim) numbers.
#[derive(Debug)]
enum Store {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    /// Codes, and one scale for each (layer, kv head, position).
    Int8(Vec<i8>, Vec<f32>),
}

impl Store {
    fn new(format: KvCache, rows: usize, dim: usize) -> Self {
        match format {
            KvCache::F32 => Self::F32(vec![0.0; rows * dim]),
            KvCache::Bf16 => Self::Bf16(vec![0; rows * dim]),
            KvCache::Int8 => Self::Int8(vec![0; rows * dim], vec![0.0; rows]),
        }
    }

    fn write(&mut self, row: usize, from: &[f32]) {
        let range = row * from.len()..(row + 1) * from.len();
        match self {
            Self::F32(values) => values[range].copy_from_slice(from),
            Self::Bf16(values) => narrow_bf16(from, &mut values[range]),
            Self::Int8(codes, scales) => {
                let largest = from.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                let scale = largest / 127.0;
                scales[row] = scale;
                for (to, value) in codes[range].iter_mut().zip(from) {
                    *to = if scale > 0.0 { (value / scale).round_ties_even() as i8 } else { 0 };
                }
            }
        }
    }

    fn rows(&self, dim: usize) -> usize {
        match self {
            Self::F32(values) => values.len() / dim,
            Self::Bf16(values) => values.len() / dim,
            Self::Int8(codes, _) => codes.len() / dim,
        }
    }

    /// Copies rows of a store of the same format to the rows from `to` on.
    fn copy(&mut self, to: usize, from: &Self, rows: Range<usize>, dim: usize) {
        let into = to * dim..(to + rows.len()) * dim;
        let range = rows.start * dim..rows.end * dim;
        match (self, from) {
            (Self::F32(a), Self::F32(b)) => a[into].copy_from_slice(&b[range]),
            (Self::Bf16(a), Self::Bf16(b)) => a[into].copy_from_slice(&b[range]),
            (Self::Int8(a, scale), Self::Int8(b, other)) => {
                a[into].copy_from_slice(&b[range]);
                scale[to..to + rows.len()].copy_from_slice(&other[rows]);
            }
            _ => unreachable!("all caches of a model have one format"),
        }
    }

    fn stored(&self, rows: Range<usize>, dim: usize) -> StoredRows<'_> {
        let range = rows.start * dim..rows.end * dim;
        match self {
            Self::F32(values) => StoredRows::F32(&values[range]),
            Self::Bf16(values) => StoredRows::Bf16(&values[range]),
            Self::Int8(codes, scales) => StoredRows::Int8(&codes[range], &scales[rows]),
        }
    }
}

impl BranchCache {
    /// A cache of `capacity` positions.
    pub fn new(config: &Config, capacity: usize, format: KvCache, rope: Arc<RopeTable>) -> Self {
        let rows = config.num_hidden_layers * config.num_key_value_heads * capacity;
        Self {
            head_dim: config.head_dim(),
            kv_heads: config.num_key_value_heads,
            capacity,
            tokens: Vec::with_capacity(capacity),
            keys: Store::new(format, rows, config.head_dim()),
            values: Store::new(format, rows, config.head_dim()),
            rope,
        }
    }

    /// Bytes that a cache of `capacity` positions takes.
    pub fn bytes(config: &Config, capacity: usize, format: KvCache) -> u64 {
        let rows = config.num_hidden_layers * config.num_key_value_heads * capacity;
        let row = match format {
            KvCache::F32 => config.head_dim() * 4,
            KvCache::Bf16 => config.head_dim() * 2,
            KvCache::Int8 => config.head_dim() + 4,
        };
        2 * rows as u64 * row as u64
    }

    /// Positions written so far.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens it holds keys and values of.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Positions it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len(), "a cache shrinks only");
        self.tokens.truncate(len);
    }

    /// Begins another sequence: keeps the first `len` positions where the rotary table is the same one, else nothing.
    pub fn restart(&mut self, len: usize, rope: Arc<RopeTable>) {
        self.truncate(if Arc::ptr_eq(&self.rope, &rope) { len } else { 0 });
        self.rope = rope;
    }

    /// Takes the first `len` positions of a cache of the same model, format and rotary table; false when the tables differ.
    pub fn copy_prefix(&mut self, from: &Self, len: usize) -> bool {
        assert!(len <= from.len() && len <= self.capacity, "a prefix that both can hold");
        if !Arc::ptr_eq(&self.rope, &from.rope) {
            return false;
        }
        let heads = self.keys.rows(self.head_dim) / self.capacity;
        for head in 0..heads {
            let (to, at) = (head * self.capacity, head * from.capacity);
            self.keys.copy(to, &from.keys, at..at + len, self.head_dim);
            self.values.copy(to, &from.values, at..at + len, self.head_dim);
        }
        self.tokens.clear();
        self.tokens.extend_from_slice(&from.tokens[..len]);
        true
    }

    /// The rotary table of its sequence.
    pub fn rope(&self) -> &RopeTable {
        &self.rope
    }

    /// Keys of a head at some positions, (positions, head_dim).
    pub fn keys(&self, layer: usize, kv_head: usize, positions: Range<usize>) -> StoredRows<'_> {
        let rows = self.rows(layer, kv_head, positions);
        self.keys.stored(rows, self.head_dim)
    }

    /// Values of a head at some positions, as [`Self::keys`].
    pub fn values(&self, layer: usize, kv_head: usize, positions: Range<usize>) -> StoredRows<'_> {
        let rows = self.rows(layer, kv_head, positions);
        self.values.stored(rows, self.head_dim)
    }

    /// Stores key and value of one head at one position at or after `len`; [`Self::advance`] makes them count.
    pub(super) fn write(
        &mut self,
        layer: usize,
        kv_head: usize,
        position: usize,
        key: &[f32],
        value: &[f32],
    ) {
        assert!(position < self.capacity, "position {position} of a cache of {}", self.capacity);
        let row = self.rows(layer, kv_head, position..position + 1).start;
        self.keys.write(row, key);
        self.values.write(row, value);
    }

    /// Counts the positions of `tokens`, which every layer has written.
    pub(super) fn advance(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        assert!(self.len() <= self.capacity, "a cache is never overrun");
    }

    fn rows(&self, layer: usize, kv_head: usize, positions: Range<usize>) -> Range<usize> {
        let first = (layer * self.kv_heads + kv_head) * self.capacity;
        first + positions.start..first + positions.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_reads_back_what_was_written_to_its_precision() {
        let config = Config {
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 2,
            hidden_size: 16,
            ..Config::default()
        };
        for (format, error) in [(KvCache::F32, 0.0), (KvCache::Bf16, 0.01), (KvCache::Int8, 0.01)] {
            let rope = Arc::new(RopeTable::new(&config, 4));
            let mut cache = BranchCache::new(&config, 4, format, rope);
            let row =
                |p: usize| (0..8).map(|i| ((p * 8 + i) as f32 * 0.7).sin()).collect::<Vec<f32>>();
            for position in 0..4 {
                cache.write(1, 1, position, &row(position), &row(position + 10));
            }
            let mut wide = vec![0.0; 16];
            let (keys, wanted) =
                (cache.keys(1, 1, 1..3).widen(8, &mut wide).to_vec(), [row(1), row(2)].concat());
            assert!(
                keys.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= error),
                "{format:?} keys"
            );
            let values = cache.values(1, 1, 3..4).widen(8, &mut wide);
            assert!(
                values.iter().zip(&row(13)).all(|(a, b)| (a - b).abs() <= error),
                "{format:?} values"
            );
        }
        assert_eq!(BranchCache::bytes(&config, 4, KvCache::Int8), 2 * 2 * 2 * 4 * 12);
    }

    #[test]
    fn the_last_token_of_a_sequence_is_always_left_to_feed() {
        assert_eq!(common(&[1, 2, 3], &[1, 2, 3]), 2);
        assert_eq!(common(&[1, 2, 3], &[1, 9, 3, 4]), 1);
        assert_eq!(common(&[], &[1]), 0);
        assert_eq!(common(&[1], &[]), 0);
    }
}
