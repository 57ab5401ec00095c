//! Keeps the stored windows of jobs ahead of the database's clock. Nothing depends on it between two ticks: the database starts nothing
//! outside the window it was told.

use nightshift_jobs::TimeWindow;
use nightshift_store::{Error, LeaderTerm, NextWindow, Store, WindowDue};

/// Stores the current or next window of every job whose last one has passed.
///
/// # Errors
/// [`Error::NotLeader`], or the database does not answer.
pub async fn refresh_windows(store: &Store, term: &LeaderTerm) -> Result<(), Error> {
    let due = store.windows_due(term).await?;
    let windows: Vec<NextWindow> = due.iter().filter_map(next_window).collect();
    if !windows.is_empty() {
        store.open_windows(term, &windows).await?;
    }
    Ok(())
}

/// `None`: not yet. Work that was begun in the past window is told to stop as long as that window's end is stored; when the next
/// window opens it may go on.
fn next_window(due: &WindowDue) -> Option<NextWindow> {
    let opening = match serde_json::from_value::<TimeWindow>(due.time_window.clone()) {
        Ok(window) => {
            let from = due.now_unix_ms.max(due.not_before_unix_ms.unwrap_or(i64::MIN));
            window.opening(from)
        }
        Err(error) => {
            tracing::error!(job = due.job, %error, "cannot read the job's window; the job does not run");
            None
        }
    };
    let opens = opening
        .map(|opening| opening.opens_unix_ms.max(due.not_before_unix_ms.unwrap_or(i64::MIN)));
    if due.busy && opens.is_none_or(|opens| opens > due.now_unix_ms) {
        return None;
    }
    Some(NextWindow {
        job: due.job,
        opens_unix_ms: opens,
        closes_unix_ms: opening.map(|opening| opening.closes_unix_ms),
    })
}

#[cfg(test)]
mod night;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn due(now_unix_ms: i64, not_before_unix_ms: Option<i64>, busy: bool) -> WindowDue {
        WindowDue {
            job: 7,
            time_window: serde_json::json!({"window": "22:00-06:00 UTC", "when_closes": "pause"}),
            now_unix_ms,
            not_before_unix_ms,
            busy,
        }
    }

    fn hours(due: &WindowDue) -> Option<(i64, i64)> {
        let window = next_window(due)?;
        Some((window.opens_unix_ms? / HOUR, window.closes_unix_ms? / HOUR))
    }

    #[test]
    fn a_busy_job_keeps_the_end_that_has_passed_until_its_window_opens_again() {
        assert_eq!(hours(&due(6 * HOUR, None, false)), Some((22, 30)));
        assert_eq!(next_window(&due(6 * HOUR, None, true)), None);
        assert_eq!(hours(&due(22 * HOUR, None, true)), Some((22, 30)));
    }

    #[test]
    fn nothing_opens_before_it_may() {
        assert_eq!(hours(&due(6 * HOUR, Some(24 * HOUR), false)), Some((24, 30)));
        assert_eq!(hours(&due(6 * HOUR, Some(40 * HOUR), false)), Some((46, 54)));
    }
}
