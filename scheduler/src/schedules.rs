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
                match store.advance_schedule(term, &due, next, &date).await {
                    // Another transaction holds its row; the other schedules are not held up.
                    Err(error @ Error::Locked(_)) => {
                        tracing::debug!(schedule = due.schedule, %error, "its run is left for the next tick");
                    }
                    advanced => drop(advanced?),
                }
            }
            None => {
                tracing::error!(schedule = due.schedule, cron = %due.cron, "the cron expression has no next time; the schedule does not run");
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
    use nightshift_store::{JobFilter, Submission};

    use super::*;
    use crate::lab::Lab;

    const HOUR: i64 = 3_600_000;
    /// 2026-10-23T10:00Z; the clock of Berlin is set back in the second night.
    const START: i64 = 1_792_749_600_000;
    const SPEC: &str = "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {name: nightly}\ninput: {inline: [{prompt: a night}]}\n\
        generate: {size: 64x64, seeds: [1]}\nmodel: {name: tiny, weights: f32, kv_cache: f32}\n\
        schedule: {cron: \"0 21 * * * Europe/Berlin\", when_still_running: overlap}\n\
        output: {dest: \"s3://outputs/{{ run.date }}-{{ run.index }}/\"}\n";

    #[tokio::test]
    async fn six_days_of_two_schedulers_with_an_outage_have_one_run_a_due_time() {
        let mut lab = Lab::new().await;
        lab.set_clock(START);
        let submission = Submission { spec: SPEC.to_owned(), ..Submission::default() };
        lab.user.submit(&submission).await.unwrap();
        for hour in 0..6 * 24 {
            lab.set_clock(START + hour * HOUR);
            // Nobody looks for two days, from midday to midday; else who is first changes with every hour.
            if !(49..97).contains(&hour) {
                let holders = if hour % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
                for holder in holders {
                    lab.look(holder).await;
                    lab.look(holder).await;
                }
            }
        }
        let mut jobs = lab.user.jobs(&JobFilter::default(), 100).await.unwrap();
        jobs.reverse();
        let said: Vec<String> = jobs
            .iter()
            .map(|job| {
                let started = job.planned_unix_ms.map(|at| (at - START) / HOUR);
                format!("{} {} {started:?}", job.state, job.dest.as_deref().unwrap_or("-"))
            })
            .collect();
        assert_eq!(
            said,
            [
                "ready s3://outputs/2026-10-23-1/ Some(9)",
                "ready s3://outputs/2026-10-24-2/ Some(33)",
                // Missed, and caught up with; the one missed after it is not.
                "ready s3://outputs/2026-10-25-3/ Some(97)",
                "ready s3://outputs/2026-10-27-4/ Some(106)",
                "ready s3://outputs/2026-10-28-5/ Some(130)",
                "submitted - None",
            ]
        );
    }

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
        assert_eq!(said(9 * 86_400_000), (10 * 86_400_000 - 3_600_000, "1970-01-11".to_owned()));
    }
}
