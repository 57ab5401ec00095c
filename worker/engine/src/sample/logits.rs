//! The steps from scores to a token, in the order in which they apply.

use super::grid::{Grid, HEADER};
use crate::kernels::{argmax, softmax_in_place, top_k_threshold};
use crate::request::GuidanceSchedule;

/// The scale below which the reference's schedule never falls.
const REFERENCE_FLOOR: f64 = 4.0;

/// Guidance scale for each index of the image part from `first` on (before it, entries mean nothing).
///
/// `first` is the index of the first code that is made: behind the header, or behind the given panel.
pub fn guidance_table(
    schedule: GuidanceSchedule,
    scale: f32,
    grid: Grid,
    first: usize,
) -> Vec<f32> {
    let mut table = vec![scale; grid.len()];
    if schedule == GuidanceSchedule::Reference && scale != 1.0 {
        // A quarter of the number of codes, as the reference has it.
        let quarter = (grid.cells() / 4) as f64;
        let mut current = f64::from(scale);
        for (index, entry) in table.iter_mut().enumerate().skip(first.max(HEADER)) {
            let behind_start = (index - 1) as f64;
            current = REFERENCE_FLOOR.max(current * (1.0 - behind_start / quarter));
            *entry = current as f32;
        }
    }
    table
}

/// `z = uncond + scale (cond - uncond)`, in place of `cond`.
pub fn guide(cond: &mut [f32], uncond: &[f32], scale: f32) {
    for (z, u) in cond.iter_mut().zip(uncond) {
        *z = u + scale * (*z - u);
    }
}

/// Sets every score below the `k`-th largest to negative infinity; ties at the threshold stay.
pub fn keep_top_k(scores: &mut [f32], k: usize) {
    let threshold = top_k_threshold(scores, k);
    for score in scores {
        if *score < threshold {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Divides by the temperature.
pub fn cool(scores: &mut [f32], temperature: f32) {
    if temperature != 1.0 {
        for score in scores {
            *score /= temperature;
        }
    }
}

/// Turns guided scores into the law of their cell: top-k, temperature, softmax; all on the largest score at temperature 0.
/// False when a score is not finite.
pub fn law(scores: &mut [f32], top_k: usize, temperature: f32) -> bool {
    if !scores.iter().all(|score| score.is_finite()) {
        return false;
    }
    if temperature > 0.0 {
        keep_top_k(scores, top_k);
        cool(scores, temperature);
        softmax_in_place(scores);
    } else {
        let best = argmax(scores);
        scores.fill(0.0);
        scores[best] = 1.0;
    }
    true
}

/// The code that guided scores and the cell's noise choose: the largest of `z / T + noise` over the kept scores, the lowest
/// code on ties; without noise at temperature 0. `None` when a score is not finite.
pub fn choose(
    scores: &mut [f32],
    top_k: usize,
    temperature: f32,
    noise: impl FnOnce(&mut [f32]),
) -> Option<u32> {
    if !scores.iter().all(|score| score.is_finite()) {
        return None;
    }
    if temperature > 0.0 {
        keep_top_k(scores, top_k);
        let mut gumbel = vec![0.0; scores.len()];
        noise(&mut gumbel);
        for (score, g) in scores.iter_mut().zip(&gumbel) {
            *score = *score / temperature + g;
        }
    }
    Some(argmax(scores) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_schedule_falls_to_its_floor() {
        let table = guidance_table(GuidanceSchedule::Reference, 10.0, Grid::of_grids(1, 2), HEADER);
        assert_eq!(table[3..7], [7.5, 4.6875, 4.0, 4.0]);
        let low = guidance_table(GuidanceSchedule::Reference, 2.0, Grid::of_grids(1, 2), HEADER);
        assert!(low[3..].iter().all(|g| *g == 4.0));
        let off = guidance_table(GuidanceSchedule::Reference, 1.0, Grid::of_grids(1, 2), HEADER);
        assert!(off.iter().all(|g| *g == 1.0));
    }

    #[test]
    fn choosing_keeps_ties_and_takes_the_lowest_code() {
        let mut scores = [1.0, 3.0, 3.0, 0.0];
        assert_eq!(choose(&mut scores, 1, 1.0, |noise| noise.fill(0.5)), Some(1));
        // Noise cannot bring back what top-k dropped.
        let mut scores = [1.0, 3.0, 3.0, 0.0];
        let noise = |noise: &mut [f32]| noise.copy_from_slice(&[100.0, 0.0, 1.0, 100.0]);
        assert_eq!(choose(&mut scores, 2, 1.0, noise), Some(2));
        assert_eq!(choose(&mut [1.0, f32::NAN], 2, 1.0, |_| {}), None);
    }

    #[test]
    fn temperature_zero_takes_the_largest_score_and_no_noise() {
        let noise = |_: &mut [f32]| panic!("no noise at temperature 0");
        assert_eq!(choose(&mut [1.0, 5.0, 2.0], 1, 0.0, noise), Some(1));
    }
}
