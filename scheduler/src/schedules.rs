//! Runs of recurring jobs: each due time has one, whoever looks and however often.
//!
//! A run lies ready before it is due. When it is due it is released and the next one is laid ready, in one transaction that checks
//! the due time it saw. After an outage the run that was missed starts at once and the next is the first due time still ahead, so
//! that at most one is caught up with.

use nightshift_jobs::Cron;
use nightshift_store::{Error, LeaderTerm, ScheduleDue, Store};

/// Releases what is due and computes what is due next.
///
/// # Errors
/// [`Error::NotLeader`], or the database does not answer.
pub async fn advance_schedules(store: &Store, term: &LeaderTerm) -> Result<(), Error> {
    for due in store.schedules_due(term).await? {
        match next(&due) {
            Some((next, date)) => {
                store.advance_schedule(term, &due, next, &date).await?;
            }
            None => {
                tracing::error!(schedule = due.schedule, cron = %due.cron, "there is no next time; the schedule stands still");
            }
        }
    }
    Ok(())
}

/// The first due time that is still ahead, and its date in the zone.
fn next(due: &ScheduleDue) -> Option<(i64, String)> {
    let cron: Cron = serde_json::from_value(due.cron.clone().into()).ok()?;
    let next = cron.next(due.now_unix_ms)?;
    Some((next, cron.date(next)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_left_out() {
        let due = |now_unix_ms| ScheduleDue {
            schedule: 1,
            cron: "0 0 * * * Europe/Berlin".to_owned(),
            due_unix_ms: Some(82_800_000),
            now_unix_ms,
        };
        let said = |now| next(&due(now)).unwrap();
        // Midnight in Berlin is 23:00 the day before.
        assert_eq!(said(82_799_999), (82_800_000, "1970-01-02".to_owned()));
        assert_eq!(said(82_800_000), (169_200_000, "1970-01-03".to_owned()));
        assert_eq!(
            said(9 * 86_400_000),
            (10 * 86_400_000 - 3_600_000, "1970-01-11".to_owned())
        );
    }
}
