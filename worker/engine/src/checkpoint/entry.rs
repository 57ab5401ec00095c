//! Element types, the place of a tensor's elements in a file, and bounded reads of a file's directory.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// Names of the element types in safetensors files.
const NAMES: [(Dtype, &str); 10] = [
    (Dtype::F64, "F64"),
    (Dtype::F32, "F32"),
    (Dtype::F16, "F16"),
    (Dtype::Bf16, "BF16"),
    (Dtype::I64, "I64"),
    (Dtype::I32, "I32"),
    (Dtype::I16, "I16"),
    (Dtype::I8, "I8"),
    (Dtype::U8, "U8"),
    (Dtype::Bool, "BOOL"),
];

impl Dtype {
    /// The type of a name in a safetensors file.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(dtype, _)| *dtype)
    }

    /// The name in a safetensors file.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(dtype, _)| *dtype == self).map_or("", |(_, name)| name)
    }

    /// Bytes an element.
    pub fn bytes(self) -> u64 {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// Whether it holds real numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// Appends contiguous elements, as f32.
    pub(super) fn append_f32(self, bytes: &[u8], to: &mut Vec<f32>) {
        match self {
            Dtype::F32 => {
                to.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
            }
            Dtype::Bf16 => {
                let pairs = bytes.as_chunks::<2>().0.iter();
                to.extend(pairs.map(|b| half::bf16::from_le_bytes(*b).to_f32()));
            }
            _ => to.extend(bytes.chunks_exact(self.bytes() as usize).map(|b| self.value(b) as f32)),
        }
    }

    /// One element as f64; exact for every type but I64 beyond 2^53.
    fn value(self, b: &[u8]) -> f64 {
        match self {
            Dtype::F64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            Dtype::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
            Dtype::F16 => half::f16::from_le_bytes([b[0], b[1]]).into(),
            Dtype::Bf16 => half::bf16::from_le_bytes([b[0], b[1]]).into(),
            Dtype::I64 => {
                i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f64
            }
            Dtype::I32 => i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
            Dtype::I16 => i16::from_le_bytes([b[0], b[1]]).into(),
            Dtype::I8 => i8::from_le_bytes([b[0]]).into(),
            Dtype::U8 | Dtype::Bool => b[0].into(),
        }
    }
}

/// The place of a tensor's elements in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Element type.
    pub dtype: Dtype,
    /// Lengths of the dimensions.
    pub shape: Vec<usize>,
    /// Distance between neighbours of each dimension, in elements.
    pub(super) strides: Vec<usize>,
    /// Byte of the file at which the view's first element begins.
    pub(super) start: u64,
    /// Elements from the first to the last, both included; 0 for an empty tensor.
    pub(super) span: usize,
}

impl Entry {
    /// A checked view: `offset`, `strides` and `shape` in elements of a storage of `storage_bytes` at `storage_start`.
    pub(super) fn view(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage_start: u64,
        storage_bytes: u64,
    ) -> Result<Self, String> {
        if shape.len() != strides.len() || shape.len() > 8 {
            return Err(format!("{} dimensions with {} strides", shape.len(), strides.len()));
        }
        let capacity = storage_bytes / dtype.bytes();
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let last = shape.iter().zip(&strides).try_fold(0u64, |last, (&d, &s)| {
            last.checked_add((d as u64).saturating_sub(1).checked_mul(s as u64)?)
        });
        let (Some(count), Some(last)) = (count, last) else {
            return Err(format!("the shape {shape:?} overflows"));
        };
        let span = if count == 0 { 0 } else { last.saturating_add(1) };
        let end = span.checked_add(offset as u64);
        // A view may name an element twice, but not more elements than the storage has: weights are not stored
        // expanded, and a few bytes must not ask for terabytes.
        if count > capacity || end.is_none_or(|end| count > 0 && end > capacity) {
            return Err(format!(
                "the view {shape:?} with strides {strides:?} does not fit its storage of {capacity} elements"
            ));
        }
        // The offset of an empty tensor means nothing, and may be anything.
        let start =
            if count == 0 { storage_start } else { storage_start + offset as u64 * dtype.bytes() };
        Ok(Self { dtype, shape, strides, start, span: span as usize })
    }

    /// A checked tensor that fills `bytes` bytes at `start` without gaps, row-major.
    pub(super) fn packed(
        dtype: Dtype,
        shape: Vec<usize>,
        start: u64,
        bytes: u64,
    ) -> Result<Self, String> {
        let mut strides = vec![1usize; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i].saturating_mul(shape[i]);
        }
        let entry = Self::view(dtype, shape, strides, 0, start, bytes)?;
        // `view` has checked that the elements fit; here they must fill their place as well.
        match entry.count() as u64 * dtype.bytes() == bytes {
            true => Ok(entry),
            false => Err(format!("{bytes} bytes do not make the shape {:?}", entry.shape)),
        }
    }

    /// Bytes from the first element to the last.
    pub(super) fn bytes(&self) -> usize {
        self.span * self.dtype.bytes() as usize
    }

    /// Elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements are contiguous and in row-major order.
    pub(super) fn is_row_major(&self) -> bool {
        let mut expected = 1;
        self.span == self.count()
            && self.shape.iter().zip(&self.strides).rev().all(|(&d, &s)| {
                let fits = d == 1 || s == expected;
                expected *= d;
                fits
            })
    }

    /// The elements of the view's bytes in row-major order of the shape.
    pub(super) fn gather<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = f64> + 'a {
        let size = self.dtype.bytes() as usize;
        let mut index = vec![0; self.shape.len()];
        (0..self.count()).map(move |_| {
            let at: usize = index.iter().zip(&self.strides).map(|(i, s)| i * s).sum();
            for (i, &d) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < d {
                    break;
                }
                *i = 0;
            }
            self.dtype.value(&bytes[at * size..(at + 1) * size])
        })
    }
}

/// Bytes of a header, directory or pickle that are read at most.
const DIRECTORY_LIMIT_BYTES: u64 = 64 << 20;

/// An open file of known length.
pub(super) struct Source<'a> {
    pub(super) file: &'a File,
    pub(super) len: u64,
}

impl Source<'_> {
    /// The little-endian number at `start`.
    pub(super) fn u64_at(&self, start: u64) -> Result<u64, String> {
        Ok(self.read(start, 8)?.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)))
    }

    /// Bytes `[start, start + length)`; the length is compared with the file's before memory is taken.
    pub(super) fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, String> {
        if start.checked_add(length).is_none_or(|end| end > self.len) {
            return Err(format!("{length} bytes at {start} lie beyond its end at {}", self.len));
        }
        if length > DIRECTORY_LIMIT_BYTES {
            return Err(format!(
                "a directory of {length} bytes is larger than the limit of {DIRECTORY_LIMIT_BYTES}"
            ));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_absurd_size_do_not_overflow() {
        assert!(
            Entry::view(Dtype::F32, vec![usize::MAX, usize::MAX], vec![1, 1], 0, 0, 16).is_err()
        );
        assert!(Entry::view(Dtype::F32, vec![2], vec![usize::MAX], usize::MAX, 0, 16).is_err());
        assert!(Entry::view(Dtype::F32, vec![1], vec![1], usize::MAX, 0, 16).is_err());
        assert!(Entry::view(Dtype::F32, vec![0, 5], vec![5, 1], 0, 0, 0).is_ok());
    }
}
