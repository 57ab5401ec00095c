//! How far a map is from the truth. Sums run in order and in f64, so that a table repeats bit for bit.

use super::scene::SIDE;

/// Errors of a depth map after the best affine fit to the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DepthError {
    /// Mean of |d - t| / t.
    pub abs_rel: f64,
    /// Root of the mean of (d - t)^2, in metres.
    pub rmse: f64,
    /// Share of pixels with max(d / t, t / d) below 1.25.
    pub delta1: f64,
}

/// Compares depths with the truth, scaled and shifted to fit it best in the sense of least squares.
///
/// # Panics
/// Lists of different lengths, or empty ones.
#[must_use]
pub fn depth(predicted: &[f32], truth: &[f32]) -> DepthError {
    assert_eq!(predicted.len(), truth.len(), "one prediction a pixel");
    let n = truth.len() as f64;
    let mean = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let (mean_p, mean_t) = (mean(predicted), mean(truth));
    let (mut both, mut own) = (0.0, 0.0);
    for (p, t) in predicted.iter().zip(truth) {
        both += (f64::from(*p) - mean_p) * (f64::from(*t) - mean_t);
        own += (f64::from(*p) - mean_p).powi(2);
    }
    // A flat map fits best as the mean.
    let scale = if own > 0.0 { both / own } else { 0.0 };
    let (mut relative, mut squares, mut close) = (0.0, 0.0, 0.0);
    for (p, t) in predicted.iter().zip(truth) {
        let t = f64::from(*t);
        let fitted = (mean_t + scale * (f64::from(*p) - mean_p)).max(1e-3);
        relative += (fitted - t).abs() / t;
        squares += (fitted - t).powi(2);
        close += f64::from(u8::from((fitted / t).max(t / fitted) < 1.25));
    }
    DepthError { abs_rel: relative / n, rmse: (squares / n).sqrt(), delta1: close / n }
}

/// Precision, recall and their harmonic mean of edge pixels; an edge within one pixel in each direction counts as found.
#[must_use]
pub fn edge_f1(found: &[bool], truth: &[bool]) -> f64 {
    let matched = |of: &[bool], near: &[bool]| {
        let all = of.iter().filter(|edge| **edge).count();
        let hits = (0..of.len()).filter(|at| of[*at] && has_near(near, *at)).count();
        (hits as f64, all as f64)
    };
    let ((right, found_n), (recalled, truth_n)) = (matched(found, truth), matched(truth, found));
    if found_n == 0.0 && truth_n == 0.0 {
        return 1.0;
    }
    let (precision, recall) = (right / found_n.max(1.0), recalled / truth_n.max(1.0));
    if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

fn has_near(mask: &[bool], at: usize) -> bool {
    let (x, y) = (at % SIDE, at / SIDE);
    let rows = y.saturating_sub(1)..(y + 2).min(SIDE);
    rows.into_iter().any(|row| {
        let columns = x.saturating_sub(1)..(x + 2).min(SIDE);
        columns.into_iter().any(|column| mask[row * SIDE + column])
    })
}

/// Intersection over union; 1 for two empty masks.
#[must_use]
pub fn iou(a: &[bool], b: &[bool]) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| **a && **b).count();
    let any = a.iter().zip(b).filter(|(a, b)| **a || **b).count();
    if any == 0 { 1.0 } else { both as f64 / any as f64 }
}

/// Mean of a difference and twice its standard error, which a single value does not have: not a number then.
#[must_use]
pub fn paired(differences: &[f64]) -> (f64, f64) {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, 2.0 * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::maps;
    use super::super::sample::{HELD_OUT, Sample};
    use super::*;

    #[test]
    fn the_renderers_own_depth_map_is_nearly_exact_and_a_flat_one_is_not() {
        let (mut own, mut flat) = (0.0, 0.0);
        for sample in (HELD_OUT..HELD_OUT + 20).map(Sample::new) {
            let map = maps::depth(&sample.drawn);
            let metres: Vec<f32> =
                map.data.iter().step_by(3).map(|g| maps::metres(f32::from(*g))).collect();
            let error = depth(&metres, &sample.drawn.depth);
            assert!(
                error.abs_rel < 0.002 && error.delta1 > 0.999 && error.rmse < 0.02,
                "{error:?}"
            );
            own += error.abs_rel;
            flat += depth(&vec![5.0; metres.len()], &sample.drawn.depth).abs_rel;
        }
        assert!(flat > 50.0 * own, "{flat} {own}");
    }

    #[test]
    fn depth_is_judged_up_to_scale_and_shift() {
        let truth = [1.0, 2.0, 4.0, 8.0];
        let error = depth(&truth.map(|t| 3.0 - 0.25 * t), &truth);
        assert!(error.abs_rel < 1e-6 && error.delta1 == 1.0, "{error:?}");
    }

    #[test]
    fn an_edge_one_pixel_off_is_found_and_two_off_is_not() {
        let line =
            |column: usize| (0..SIDE * SIDE).map(|at| at % SIDE == column).collect::<Vec<_>>();
        assert_eq!(edge_f1(&line(10), &line(10)), 1.0);
        assert_eq!(edge_f1(&line(11), &line(10)), 1.0);
        assert_eq!(edge_f1(&line(12), &line(10)), 0.0);
        let half: Vec<bool> =
            line(10).iter().enumerate().map(|(at, edge)| *edge && at < SIDE * SIDE / 2).collect();
        assert!((edge_f1(&half, &line(10)) - 2.0 / 3.0).abs() < 0.02);
    }

    #[test]
    fn overlaps_and_paired_differences() {
        assert_eq!(iou(&[true, true, false], &[true, false, true]), 1.0 / 3.0);
        let (mean, twice) = paired(&[1.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-12 && (twice - 2.0).abs() < 1e-12);
        let (mean, twice) = paired(&[3.0]);
        assert!((mean - 3.0).abs() < 1e-12 && twice.is_nan());
    }
}
