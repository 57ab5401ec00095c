//! Choosing among scores: the first largest one, and the k-th largest value.

/// Index of the largest element, the lowest one on ties. NaN elements never win; an empty slice or one of NaN and negative
/// infinity alone gives 0.
pub fn argmax(scores: &[f32]) -> usize {
    let mut best = 0;
    let mut value = f32::NEG_INFINITY;
    for (i, score) in scores.iter().enumerate() {
        if *score > value {
            (best, value) = (i, *score);
        }
    }
    best
}

/// The k-th largest value of `scores`, exactly, in time O(n): keeping every score `>=` it keeps at least k (all ties stay).
///
/// `k` of 0 counts as 1; `k >= scores.len()` and an empty slice give negative infinity, which keeps everything.
pub fn top_k_threshold(scores: &[f32], k: usize) -> f32 {
    if k >= scores.len() {
        return f32::NEG_INFINITY;
    }
    // Radix select over the order-preserving integer form: 11 + 11 + 10 bits, from the top.
    let mut rank = k.max(1);
    let mut prefix = 0u32;
    let mut fixed_bits = 0u32;
    for digit_bits in [11u32, 11, 10] {
        let shift = 32 - fixed_bits - digit_bits;
        let mut counts = [0u32; 1 << 11];
        let digit_mask = (1u32 << digit_bits) - 1;
        for score in scores {
            let key = ordered(*score);
            // All bits above the digit must be those already chosen; there are none at first.
            let matches = (u64::from(key) >> (shift + digit_bits)) == u64::from(prefix);
            counts[(key >> shift & digit_mask) as usize] += u32::from(matches);
        }
        let mut digit = digit_mask;
        while (counts[digit as usize] as usize) < rank {
            rank -= counts[digit as usize] as usize;
            digit -= 1;
        }
        prefix = prefix << digit_bits | digit;
        fixed_bits += digit_bits;
    }
    from_ordered(prefix)
}

/// Maps floats to integers of the same order (-0 just below +0, NaN at the ends by sign).
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 0 { bits | 0x8000_0000 } else { !bits }
}

fn from_ordered(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & 0x7FFF_FFFF } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_takes_the_lowest_index_and_passes_over_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::NAN, -1.0, f32::NAN, -1.0]), 1);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn the_threshold_is_the_kth_of_the_sorted_scores() {
        let mut state = 1u32;
        let mut scores: Vec<f32> = (0..16_384)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Coarse steps, so that there are ties, of both signs.
                ((state >> 16) as f32 - 32_768.0) / 64.0
            })
            .collect();
        scores[77] = f32::NEG_INFINITY;
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for k in [1, 2, 10, 4_096, 16_383] {
            assert_eq!(top_k_threshold(&scores, k), sorted[k - 1], "k = {k}");
        }
        assert_eq!(top_k_threshold(&scores, 16_384), f32::NEG_INFINITY);
        assert_eq!(top_k_threshold(&scores, 0), sorted[0]);
    }

    #[test]
    fn ties_at_the_threshold_all_stay() {
        let scores = [2.0, 1.0, 1.0, 1.0, 0.0];
        let kept = scores.iter().filter(|s| **s >= top_k_threshold(&scores, 2)).count();
        assert_eq!(kept, 4);
    }
}
