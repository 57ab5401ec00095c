//! Prompts and panels that several slots begin with are computed once: keys and values are copied, to the bit the same.

use super::counters::Counters;
use super::slot::Slot;
use crate::transformer::{BranchCache, common};

/// Tokens that are worth waiting a step for.
const WORTH_WAITING: usize = 16;

/// Copies into caches that have not begun what others hold of their sequences. Returns for each slot whether it runs now:
/// one that begins with what an earlier slot is still computing waits for it.
pub(crate) fn share(slots: &mut [Slot], counters: &mut Counters) -> Vec<bool> {
    let mut ready = vec![true; slots.len()];
    for i in 0..slots.len() {
        let Some(sequences) = starting(&slots[i]) else {
            continue;
        };
        for (branch, sequence) in sequences.iter().enumerate() {
            let Some(sequence) = sequence else { continue };
            if let Some((donor, from, len)) = longest(slots, i, branch, sequence) {
                counters.shared += copy(slots, (donor, from), (i, branch), len) as u64;
            }
            let held = slots[i].cache(branch).map_or(0, BranchCache::len);
            let coming = (0..i)
                .filter(|j| ready[*j])
                .filter_map(|j| coming(&slots[j], branch, sequence))
                .max();
            ready[i] &= coming.unwrap_or(0) < held + WORTH_WAITING;
        }
    }
    ready
}

/// The sequences of a request that has not made a code yet, by branch.
fn starting(slot: &Slot) -> Option<[Option<Vec<u32>>; 2]> {
    let running = slot.running.as_ref()?;
    if running.stream.image().len() > running.stream.opening() {
        return None;
    }
    let image = running.stream.image().to_vec();
    let whole = [running.stream.prompt(), &image].concat();
    Some([Some(whole), running.guided.then_some(image)])
}

/// The cache that holds most of a sequence, when it is more than the slot's own holds.
fn longest(
    slots: &[Slot],
    own: usize,
    branch: usize,
    sequence: &[u32],
) -> Option<(usize, usize, usize)> {
    let held = slots[own].cache(branch)?.len();
    let others =
        (0..slots.len()).flat_map(|j| [(j, 0), (j, 1)]).filter(|other| *other != (own, branch));
    let holds =
        others.filter_map(|(j, b)| Some((j, b, common(slots[j].cache(b)?.tokens(), sequence))));
    holds.max_by_key(|(_, _, len)| *len).filter(|(_, _, len)| *len > held)
}

/// How much of a sequence another request will hold that has not fed it yet.
fn coming(other: &Slot, branch: usize, sequence: &[u32]) -> Option<usize> {
    let theirs = starting(other)?.into_iter().nth(branch)??;
    let shared = theirs.iter().zip(sequence).take_while(|(a, b)| a == b).count();
    let shared = shared.min(sequence.len() - 1);
    (other.cache(branch)?.len() < shared).then_some(shared)
}

/// Copies a prefix between two caches; returns the positions that were gained.
fn copy(slots: &mut [Slot], from: (usize, usize), to: (usize, usize), len: usize) -> usize {
    let Some(mut target) = slots[to.0].take_cache(to.1) else {
        return 0;
    };
    let before = target.len();
    let gained = match slots[from.0].cache(from.1) {
        Some(source) if target.copy_prefix(source, len) => len - before,
        _ => 0,
    };
    slots[to.0].put_cache(to.1, target);
    gained
}
