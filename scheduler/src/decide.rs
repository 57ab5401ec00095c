//! Which submitted jobs are planned now. Pure: no clock, no database, the same answer for the same question.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Jobs that are planned side by side, so that a listing of millions does not hold up a small job.
pub(crate) const MAX_PLANNING: usize = 8;

/// What happens to a submitted job in this tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start to plan it.
    Plan,
    /// Not in this tick.
    Wait(Waiting),
}

/// Why a submitted job is not planned in this tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It is being planned.
    InProgress,
    /// Its last try failed in a way that may pass; it is tried again at this time.
    Backoff(Instant),
    /// Enough others are being planned.
    Busy,
}

/// Decides for every submitted job, in the order given (oldest first).
#[must_use]
pub fn decide(
    submitted: &[i64],
    planning: &BTreeSet<i64>,
    retry_at: &BTreeMap<i64, Instant>,
    now: Instant,
) -> Vec<(i64, Decision)> {
    let mut free = MAX_PLANNING.saturating_sub(planning.len());
    let mut decide_one = |job: &i64| {
        if planning.contains(job) {
            return Decision::Wait(Waiting::InProgress);
        }
        match retry_at.get(job) {
            Some(at) if *at > now => Decision::Wait(Waiting::Backoff(*at)),
            _ if free == 0 => Decision::Wait(Waiting::Busy),
            _ => {
                free -= 1;
                Decision::Plan
            }
        }
    };
    submitted.iter().map(|job| (*job, decide_one(job))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_are_planned_first_and_no_more_than_fit() {
        let jobs: Vec<i64> = (1..=12).collect();
        let planning: BTreeSet<i64> = [2, 99].into();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let retry_at: BTreeMap<i64, Instant> = [(3, later), (4, now)].into();
        let decisions = decide(&jobs, &planning, &retry_at, now);
        let planned: Vec<i64> = decisions
            .iter()
            .filter(|(_, decision)| *decision == Decision::Plan)
            .map(|(job, _)| *job)
            .collect();
        assert_eq!(planned, [1, 4, 5, 6, 7, 8]);
        assert_eq!(decisions[1].1, Decision::Wait(Waiting::InProgress));
        assert_eq!(decisions[2].1, Decision::Wait(Waiting::Backoff(later)));
        assert_eq!(decisions[11].1, Decision::Wait(Waiting::Busy));
        assert_eq!(planned.len() + planning.len(), MAX_PLANNING);
    }
}
