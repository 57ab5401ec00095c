//! Ids that were seen before.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The ids of a snapshot, 16 bytes each: about 300 MB for ten million of them.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    /// 96 bits of hash to the place (line or row number) where the id stood first; places above 2^32 are all the last one.
    seen: HashMap<[u32; 3], u32>,
}

impl Duplicates {
    /// Takes an id at a place; returns the earlier place when it was used before.
    pub(crate) fn insert(&mut self, id: &str, place: u64) -> Option<u64> {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        match self.seen.entry(fingerprint(id)) {
            std::collections::hash_map::Entry::Occupied(entry) => Some(u64::from(*entry.get())),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(place);
                None
            }
        }
    }
}

/// 96 bits: among ten million ids two different ones meet with probability 10^-15.
fn fingerprint(id: &str) -> [u32; 3] {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        id.hash(&mut hasher);
        hasher.finish()
    };
    let (a, b) = (half(0), half(1));
    [a as u32, (a >> 32) as u32, b as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_remembered() {
        let mut seen = Duplicates::default();
        assert_eq!(seen.insert("a17", 44), None);
        assert_eq!(seen.insert("a18", 45), None);
        assert_eq!(seen.insert("a17", 911), Some(44));
    }
}
