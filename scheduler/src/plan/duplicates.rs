//! Ids that were seen before, in bounded memory: the last ones in a table, older ones as sorted runs in a file without a name.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

/// Ids in memory: as many as fill a table of 2^18 places, about 5 MB.
pub(crate) const ROOM: usize = (1 << 18) / 8 * 7;
/// Bytes of an id in the file: its fingerprint and its place.
const RECORD: usize = 16;
/// Records of a run that are read at a time.
const PAGE: usize = 512;

/// 96 bits: among ten million ids two different ones meet with probability 10^-15.
type Fingerprint = [u32; 3];
/// Where an id stood: line or row number; those above 2^32 are all the last one.
type Place = u32;

/// The ids of a snapshot.
#[derive(Debug)]
pub(crate) struct Duplicates {
    seen: HashMap<Fingerprint, Place>,
    room: usize,
    file: Option<BufWriter<File>>,
    /// Records of each run in the file, one after the other.
    runs: Vec<u64>,
}

impl Duplicates {
    /// Keeps so many ids in memory.
    pub(crate) fn with_room(room: usize) -> Self {
        Self { seen: HashMap::new(), room, file: None, runs: Vec::new() }
    }

    /// Takes an id at a place; returns the earlier place when it is still in memory. The others come with [`Duplicates::finish`].
    ///
    /// # Errors
    /// The temporary folder is full.
    pub(crate) fn insert(&mut self, id: &str, place: u64) -> io::Result<Option<u64>> {
        match self.seen.entry(fingerprint(id)) {
            Entry::Occupied(entry) => return Ok(Some(u64::from(*entry.get()))),
            Entry::Vacant(entry) => {
                entry.insert(Place::try_from(place).unwrap_or(Place::MAX));
            }
        }
        if self.seen.len() >= self.room {
            self.spill()?;
        }
        Ok(None)
    }

    /// Looks for ids that occur in several runs. Returns the two places of the first repetition, the earlier one first.
    ///
    /// # Errors
    /// The file cannot be written or read.
    pub(crate) fn finish(mut self) -> io::Result<Option<(u64, u64)>> {
        if self.runs.is_empty() {
            return Ok(None);
        }
        self.spill()?;
        let Some(file) = self.file.take() else {
            return Ok(None);
        };
        let file = file.into_inner()?;
        let mut runs: Vec<Run> = Vec::new();
        for records in self.runs {
            let next = runs.last().map_or(0, |run| run.end);
            runs.push(Run { next, end: next + records, page: Vec::new() });
        }
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(run.pop(&file)?.map(|head| Reverse((head, number))));
        }
        let mut before: Option<(Fingerprint, Place)> = None;
        let mut found: Option<(Place, Place)> = None;
        while let Some(Reverse(((id, place), number))) = heads.pop() {
            heads.extend(runs[number].pop(&file)?.map(|head| Reverse((head, number))));
            match before {
                Some((last, first)) if last == id => {
                    if found.is_none_or(|(_, second)| place < second) {
                        found = Some((first, place));
                    }
                }
                _ => before = Some((id, place)),
            }
        }
        Ok(found.map(|(first, second)| (first.into(), second.into())))
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut run: Vec<(Fingerprint, Place)> = self.seen.drain().collect();
        run.sort_unstable();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(tempfile::tempfile()?)),
        };
        for ([a, b, c], place) in &run {
            for word in [a, b, c, place] {
                file.write_all(&word.to_le_bytes())?;
            }
        }
        self.runs.push(run.len() as u64);
        Ok(())
    }
}

/// A sorted run in the file.
struct Run {
    /// The next record that is not in `page`.
    next: u64,
    end: u64,
    /// Records that were read, the next one last.
    page: Vec<(Fingerprint, Place)>,
}

impl Run {
    fn pop(&mut self, file: &File) -> io::Result<Option<(Fingerprint, Place)>> {
        if self.page.is_empty() {
            let n = (self.end - self.next).min(PAGE as u64);
            let mut bytes = vec![0; n as usize * RECORD];
            file.read_exact_at(&mut bytes, self.next * RECORD as u64)?;
            self.next += n;
            self.page.extend(bytes.chunks_exact(RECORD).rev().map(record));
        }
        Ok(self.page.pop())
    }
}

fn record(bytes: &[u8]) -> (Fingerprint, Place) {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    ([word(0), word(4), word(8)], word(12))
}

fn fingerprint(id: &str) -> Fingerprint {
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

    /// Where an id stood first, and again.
    type Pair = (u64, u64);

    /// A thousand ids, some of them repeated where it says, with room for 16.
    fn look(repeated: &[Pair]) -> (Vec<Pair>, Option<Pair>) {
        let mut seen = Duplicates::with_room(16);
        let mut at_once = Vec::new();
        for place in 1..=1_000 {
            let first = repeated.iter().find(|(_, again)| *again == place);
            let id = format!("a{}", first.map_or(place, |(first, _)| *first));
            let earlier = seen.insert(&id, place).unwrap();
            at_once.extend(earlier.map(|earlier| (earlier, place)));
            assert!(seen.seen.len() < 16);
        }
        (at_once, seen.finish().unwrap())
    }

    #[test]
    fn the_first_place_is_remembered() {
        let mut seen = Duplicates::with_room(ROOM);
        assert_eq!(seen.insert("a17", 44).unwrap(), None);
        assert_eq!(seen.insert("a18", 45).unwrap(), None);
        assert_eq!(seen.insert("a17", 911).unwrap(), Some(44));
        assert_eq!(seen.finish().unwrap(), None);
    }

    #[test]
    fn what_is_not_in_memory_any_more_is_found_at_the_end() {
        assert_eq!(look(&[]), (vec![], None));
        assert_eq!(look(&[(44, 911)]), (vec![], Some((44, 911))));
        assert_eq!(look(&[(1, 1_000)]), (vec![], Some((1, 1_000))));
        assert_eq!(look(&[(17, 18)]), (vec![(17, 18)], None));
        let first_repetition = look(&[(500, 990), (44, 600), (44, 700), (3, 850)]);
        assert_eq!(first_repetition, (vec![], Some((44, 600))));
    }
}
