//! Recurring jobs: every due time has one run, whoever looks and however often; and what users see of the queue.

use nightshift_store::{JobFilter, JobState, ScheduleDue, ScheduleMove};

use crate::lab::{Lab, plan};

const HOUR: i64 = 3_600_000;

/// A schedule of alice whose first run is the job returned, due in an hour.
async fn recurring(lab: &Lab, rule: &str) -> (i64, i64) {
    let job = lab.submitted().await;
    let cron = "0 21 * * * Europe/Berlin";
    let made = lab.scheduler.recur(&lab.term, job, "nightly", "edit", cron, rule);
    assert!(made.await.unwrap());
    // Asking again changes nothing.
    let again = lab.scheduler.recur(&lab.term, job, "nightly", "edit", cron, rule);
    assert!(again.await.unwrap());
    let due = due(lab).await.unwrap();
    assert_eq!((due.due_unix_ms, due.cron.as_str()), (None, cron));
    assert!(advance(lab, &due, due.now_unix_ms + HOUR).await);
    (due.schedule, job)
}

async fn due(lab: &Lab) -> Option<ScheduleDue> {
    lab.scheduler.schedules_due(&lab.term).await.unwrap().pop()
}

async fn advance(lab: &Lab, due: &ScheduleDue, next: i64) -> bool {
    let done = lab.scheduler.advance_schedule(&lab.term, due, next, "2026-11-27").await;
    done.unwrap()
}

/// An hour later: what is due, advanced by another hour.
async fn an_hour_later(lab: &Lab) -> bool {
    lab.advance(3_600).await;
    match due(lab).await {
        Some(due) => advance(lab, &due, due.now_unix_ms + HOUR).await,
        None => false,
    }
}

/// Ids and states of the runs, and the jobs that the scheduler would plan.
async fn runs(lab: &Lab) -> (String, Vec<i64>) {
    let runs = "select string_agg(run_index || ':' || state || case when released or state <> 'submitted' then '' else '*' end, ' ' order by id)
        from nightshift.job where schedule_id is not null";
    let submitted = lab.scheduler.submitted(&lab.term, 10).await.unwrap();
    assert!(submitted.iter().all(|job| job.scheduled));
    (lab.text(runs).await, submitted.iter().map(|job| job.job).collect())
}

async fn end(lab: &Lab, job: i64) {
    lab.alice.cancel(job).await.unwrap();
    assert!(lab.job(job).await.state.is_final());
}

/// The database's leader lasts an hour in these tests.
async fn lab() -> Lab {
    let lab = Lab::new().await;
    lab.sql("update nightshift.leader set leads_until = 'infinity'").await;
    lab
}

#[tokio::test]
async fn a_due_time_has_one_run_whoever_looks() {
    let lab = lab().await;
    let (schedule, first) = recurring(&lab, "overlap").await;
    assert_eq!(runs(&lab).await, ("1:submitted*".to_owned(), vec![]));
    let reason = lab.job(first).await.reason.unwrap();
    assert!(
        reason.starts_with(&format!("run 1 of schedule {schedule} (nightly) is due ")),
        "{reason}"
    );
    lab.advance(3_600).await;
    let seen = due(&lab).await.unwrap();
    let next = seen.now_unix_ms + HOUR;
    assert!(advance(&lab, &seen, next).await);
    // Another scheduler saw the same.
    assert!(!advance(&lab, &seen, next).await);
    assert!(!advance(&lab, &seen, next + HOUR).await);
    assert_eq!(runs(&lab).await, ("1:submitted 2:submitted*".to_owned(), vec![first]));
    // The second run's spec is the first one's.
    let two = lab
        .text("select count(distinct spec_id) || ' ' || max(run_date) from nightshift.job")
        .await;
    assert_eq!(two, "1 2026-11-27");
    let view = &lab.alice.schedules(false).await.unwrap()[0];
    assert_eq!((view.n_runs, view.last_job), (1, Some(first)));
    assert_eq!(view.next_due_unix_ms, Some(next));
    // A job that is submitted meanwhile is heard of: runs that lie ready keep nobody's hint back.
    let plan = plan(first);
    lab.scheduler.planned(&lab.term, first, &plan).await.unwrap();
    assert_eq!(lab.tick().await.submitted, 0);
}

#[tokio::test]
async fn a_run_that_is_due_too_early_waits_is_left_out_or_overlaps() {
    for (rule, after_two_hours, at_last) in [
        ("wait", "1:submitted 2:submitted*", "1:cancelled 2:submitted 3:submitted*"),
        (
            "skip",
            "1:submitted 2:cancelled 3:submitted*",
            "1:cancelled 2:cancelled 3:submitted 4:submitted*",
        ),
        (
            "overlap",
            "1:submitted 2:submitted 3:submitted*",
            "1:cancelled 2:submitted 3:submitted 4:submitted*",
        ),
    ] {
        let lab = lab().await;
        let (_, first) = recurring(&lab, rule).await;
        assert!(an_hour_later(&lab).await);
        assert_eq!(an_hour_later(&lab).await, rule != "wait");
        assert_eq!(runs(&lab).await.0, after_two_hours, "{rule}");
        if rule == "wait" {
            let second = lab.text("select max(id)::text from nightshift.job").await;
            let reason = lab.job(second.parse().unwrap()).await.reason.unwrap();
            let words = format!("waits for job {first}, an earlier run");
            assert!(reason.ends_with(&words), "{reason}");
        }
        if rule == "skip" {
            let events = lab.alice.events(Some(first + 1), 0, 10).await.unwrap();
            let words = format!("run 2 was due while job {first}, an earlier run, was not over");
            assert!(events.iter().any(|event| event.message == words), "{events:?}");
        }
        end(&lab, first).await;
        assert!(an_hour_later(&lab).await);
        assert_eq!(runs(&lab).await.0, at_last, "{rule}");
    }
}

#[tokio::test]
async fn one_run_can_be_cancelled_and_a_schedule_paused_and_removed() {
    let lab = lab().await;
    let (schedule, first) = recurring(&lab, "wait").await;
    end(&lab, first).await;
    assert!(an_hour_later(&lab).await);
    assert_eq!(runs(&lab).await, ("1:cancelled 2:submitted*".to_owned(), vec![]));
    let to = async |to| lab.alice.move_schedule(schedule, to).await.unwrap();
    assert!(to(ScheduleMove::Pause).await);
    assert!(!to(ScheduleMove::Pause).await);
    let second = lab.text("select max(id)::text from nightshift.job").await;
    let waiting = lab.job(second.parse().unwrap()).await;
    let call = (waiting.call.as_deref(), waiting.call_id.map(|id| id.to_string()));
    assert_eq!(call, (Some("resume_schedule"), Some(schedule.to_string())));
    let reason = waiting.reason.unwrap();
    let words = ": paused";
    assert!(reason.ends_with(words), "{reason}");
    lab.advance(7_200).await;
    assert!(due(&lab).await.is_none());
    assert!(to(ScheduleMove::Resume).await);
    let new = due(&lab).await.unwrap();
    assert_eq!(new.due_unix_ms, None, "what was missed is not made up for");
    assert!(advance(&lab, &new, new.now_unix_ms + HOUR).await);
    assert_eq!(runs(&lab).await.0, "1:cancelled 2:submitted*");
    for run in lab.alice.jobs(&JobFilter::default(), 10).await.unwrap() {
        let called = (run.name.as_deref(), run.kind.as_deref());
        assert_eq!(called, (Some("nightly"), Some("edit")), "{run:?}");
    }
    assert!(to(ScheduleMove::Remove).await);
    assert!(!to(ScheduleMove::Remove).await);
    lab.advance(7_200).await;
    assert!(due(&lab).await.is_none());
    assert_eq!(runs(&lab).await.0, "1:cancelled 2:cancelled");
    assert_eq!(lab.alice.schedules(false).await.unwrap().len(), 0);
    assert_eq!(lab.alice.schedules(true).await.unwrap()[0].state, "removed");
    // Somebody else's is none.
    assert_eq!(lab.bob.schedules(true).await.unwrap().len(), 0);
    let foreign = lab.bob.move_schedule(schedule, ScheduleMove::Resume).await;
    let error = foreign.unwrap_err();
    assert!(matches!(error, nightshift_store::Error::NotFound { .. }), "{error}");
    assert_eq!(lab.job(first).await.state, JobState::Cancelled);
}
