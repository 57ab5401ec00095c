//! What an engine has done, and where its time went.

use crate::transformer;

/// What an engine has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Forward passes.
    pub forwards: u64,
    /// Rows of all passes: tokens fed, both branches counted.
    pub rows: u64,
    /// Rows whose scores were computed.
    pub scored: u64,
    /// Rows that were copied from a slot with the same prefix and not computed.
    pub shared: u64,
    /// Bytes of weights that the passes read: each matrix once a pass, whatever its rows.
    pub weight_bytes: u64,
    /// Passes of each request that chose codes of it, summed over the requests.
    pub turns: u64,
    /// Codes that were accepted.
    pub codes: u64,
}

/// Seconds that an engine has spent since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Whole steps.
    pub step: f64,
    /// Forward passes, by stage.
    pub transformer: transformer::Spent,
    /// Guidance, top-k, noise and choice.
    pub choose: f64,
}

impl Spent {
    /// What has been spent since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            step: self.step - earlier.step,
            transformer: self.transformer.since(&earlier.transformer),
            choose: self.choose - earlier.choose,
        }
    }
}
