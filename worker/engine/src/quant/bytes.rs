//! Bytes of a tensor: owned, or a part of a mapped file that lives as long as anyone needs it.

use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::Mmap;

/// Read-only bytes. Cloning shares them.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

#[derive(Clone)]
enum Owner {
    Memory(Arc<Vec<u8>>),
    File(Arc<Mmap>),
}

impl Bytes {
    /// A part of a mapped file.
    ///
    /// # Panics
    /// When the range lies outside of the file.
    pub(crate) fn mapped(file: Arc<Mmap>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= file.len(), "tensor within its file");
        Self { owner: Owner::File(file), range }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Owner::Memory(Arc::new(bytes)), range }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.owner {
            Owner::Memory(bytes) => &bytes[self.range.clone()],
            Owner::File(file) => &file[self.range.clone()],
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.owner {
            Owner::Memory(_) => "in memory",
            Owner::File(_) => "mapped",
        };
        write!(f, "Bytes({}, {kind})", self.range.len())
    }
}
