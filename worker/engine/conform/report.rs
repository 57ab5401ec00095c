//! Collecting checks: comparisons of tensors and of exact sequences, and a guard that turns a panic into a failed check.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Check, Status};
use crate::error::panic_text;

/// Worst error of a comparison, or why there is none.
pub(super) type Outcome = Result<f64, String>;

/// Checks so far, in the order in which they ran.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Runs a group of checks; an error or a panic in it becomes one failed check of that name.
    pub(super) fn group(&mut self, name: &str, body: impl FnOnce(&mut Self) -> Result<(), String>) {
        if let Err(reason) = guarded(|| body(self)) {
            self.push(name, f64::INFINITY, 0.0, Status::Fail, reason);
        }
    }

    /// Runs one comparison that gives its worst error; an error or a panic in it is a failed check.
    pub(super) fn check(&mut self, name: &str, tolerance: f64, compare: impl FnOnce() -> Outcome) {
        // Not-a-number fails too.
        let (worst, status, note) = match guarded(compare) {
            Ok(worst) if worst <= tolerance => (worst, Status::Ok, String::new()),
            Ok(worst) => (worst, Status::Fail, String::new()),
            Err(note) => (f64::INFINITY, Status::Fail, note),
        };
        self.push(name, worst, tolerance, status, note);
    }

    /// Largest absolute difference of two tensors. Infinite entries must agree exactly, NaN fails.
    pub(super) fn close(&mut self, name: &str, got: &[f32], want: &[f32], tolerance: f64) {
        if got.len() != want.len() {
            let note = format!("{} values, {} are recorded", got.len(), want.len());
            return self.push(name, f64::INFINITY, tolerance, Status::Fail, note);
        }
        let mut worst = 0.0_f64;
        let mut at = 0;
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let difference = if g == w { 0.0 } else { (f64::from(*g) - f64::from(*w)).abs() };
            if difference > worst || difference.is_nan() {
                (worst, at) = (if difference.is_nan() { f64::INFINITY } else { difference }, i);
            }
        }
        let ok = worst <= tolerance;
        let note = if ok {
            String::new()
        } else {
            format!("worst at element {at}: {} against {}", got[at], want[at])
        };
        self.push(name, worst, tolerance, if ok { Status::Ok } else { Status::Fail }, note);
    }

    /// Mean absolute difference of two tensors of one length.
    pub(super) fn close_on_average(
        &mut self,
        name: &str,
        got: &[f32],
        want: &[f32],
        tolerance: f64,
    ) {
        let sum: f64 =
            got.iter().zip(want).map(|(g, w)| (f64::from(*g) - f64::from(*w)).abs()).sum();
        let mean =
            if got.len() == want.len() { sum / got.len().max(1) as f64 } else { f64::INFINITY };
        let status = if mean <= tolerance { Status::Ok } else { Status::Fail };
        self.push(name, mean, tolerance, status, String::new());
    }

    /// Two sequences that must be equal.
    pub(super) fn equal<T: PartialEq + Debug>(&mut self, name: &str, got: &[T], want: &[T]) {
        let differing =
            got.iter().zip(want).filter(|(g, w)| g != w).count() + got.len().abs_diff(want.len());
        let note = match got.iter().zip(want).position(|(g, w)| g != w) {
            _ if differing == 0 => String::new(),
            Some(i) => format!("first difference at {i}: {:?} against {:?}", got[i], want[i]),
            None => format!("{} entries, {} are recorded", got.len(), want.len()),
        };
        self.push(
            name,
            differing as f64,
            0.0,
            if differing == 0 { Status::Ok } else { Status::Fail },
            note,
        );
    }

    /// Something recorded that this build does not compute.
    pub(super) fn not_covered(&mut self, name: &str, why: &str) {
        self.push(name, 0.0, 0.0, Status::NotCovered, why.to_owned());
    }

    fn push(&mut self, name: &str, worst: f64, tolerance: f64, status: Status, note: String) {
        self.checks.push(Check { name: name.to_owned(), worst, tolerance, status, note });
    }
}

fn guarded<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_agree_exactly_and_nan_fails() {
        let mut report = Report::default();
        let inf = f32::NEG_INFINITY;
        report.close("same", &[inf, 1.0], &[inf, 1.0005], 1e-3);
        report.close("pattern", &[inf, 1.0], &[0.0, 1.0], 1e-3);
        report.close("nan", &[f32::NAN], &[0.0], 1e-3);
        report.close("length", &[0.0], &[], 1e-3);
        report.group("panic", |_| panic!("of {}", 7));
        report.equal("exact", &[1, 2], &[1, 3]);
        let status: Vec<Status> = report.checks.iter().map(|check| check.status).collect();
        assert_eq!(
            status,
            [Status::Ok, Status::Fail, Status::Fail, Status::Fail, Status::Fail, Status::Fail]
        );
        assert!(report.checks[4].note.contains("of 7"));
    }
}
