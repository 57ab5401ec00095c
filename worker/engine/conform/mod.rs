//! Comparisons with recorded results of the reference implementation: every file of a fixture folder that is there is
//! run, every file that is not is simply absent. A check that panics or cannot read its file is a failed check.

mod fixture;
mod movqgan;
mod report;
mod transformer;

pub use movqgan::movqgan;
pub use transformer::transformer;

/// The outcome of one comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// `file: tensor or case`.
    pub name: String,
    /// Largest error seen; for exact comparisons the number of differing entries.
    pub worst: f64,
    /// Largest error allowed.
    pub tolerance: f64,
    /// Whether it passed.
    pub status: Status,
    /// Why it failed or is not covered; empty otherwise.
    pub note: String,
}

/// Whether a comparison passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Within the tolerance.
    Ok,
    /// Outside the tolerance, or it could not be run.
    Fail,
    /// The file holds it, this build does not compute it.
    NotCovered,
}
