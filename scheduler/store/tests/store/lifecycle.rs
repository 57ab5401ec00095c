//! How jobs end, stop, wait and run again.

use nightshift_store::{
    DatabaseConfig, Error, ItemFilter, JobState, Notice, Notices, Only, Plan, Report, ShardKind,
    ShardState, Verdict,
};

use crate::lab::{LEASE, Lab, all_ok, failed, ok, report};

#[tokio::test]
async fn all_items_final_makes_one_closing_shard_that_ends_the_job() {
    let lab = Lab::new().await;
    let job = lab.ready(6, 4).await;
    let worker = lab.register("w").await;
    let (first, second) = (lab.claim(worker).await, lab.claim(worker).await);
    assert_eq!(lab.job(job).await.reason.as_deref(), Some("all remaining shards are leased"));
    lab.worker.finish(&first, &all_ok(&first)).await.unwrap();
    assert_eq!(lab.job(job).await.state, JobState::Ready);
    lab.worker.finish(&second, &all_ok(&second)).await.unwrap();
    assert_eq!(lab.job(job).await.state, JobState::Closing);
    let close = lab.claim(worker).await;
    assert_eq!((close.kind, close.first_item, close.end_item), (ShardKind::Close, 0, 6));
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    assert_eq!(lab.worker.finished(&close, -1, 10_000).await.unwrap().len(), 6);
    lab.worker.finish(&close, &Report::default()).await.unwrap();
    let view = lab.job(job).await;
    assert_eq!((view.state, view.n_ok, view.reason), (JobState::Finished, 6, None));
    assert!(
        view.started_unix_ms >= view.planned_unix_ms
            && view.finished_unix_ms >= view.started_unix_ms
    );
    let events: Vec<_> =
        lab.alice.events(Some(job), 0, 100).await.unwrap().into_iter().map(|e| e.what).collect();
    assert_eq!(events, ["submitted", "ready", "closing", "finished"]);
}

#[tokio::test]
async fn a_job_without_items_only_closes() {
    let lab = Lab::new().await;
    let job = lab.ready(0, 4).await;
    assert_eq!(lab.job(job).await.state, JobState::Closing);
    lab.run_all(lab.register("w").await).await;
    assert_eq!(lab.job(job).await.state, JobState::Finished);
}

#[tokio::test]
async fn a_tick_finds_what_a_lost_call_left_behind() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    let lease = lab.claim(worker).await;
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    // As if the closing shard had never been made.
    lab.sql("alter table nightshift.job disable trigger job_check_move; delete from nightshift.shard where kind = 'close';
        update nightshift.job set state = 'ready'; alter table nightshift.job enable trigger job_check_move").await;
    assert_eq!(lab.tick().await.closing, 1);
    assert_eq!(lab.tick().await.closing, 0);
    lab.run_all(worker).await;
    assert_eq!(lab.job(job).await.state, JobState::Finished);
}

#[tokio::test]
async fn a_closing_that_fails_too_often_fails_the_job_and_may_be_retried() {
    let lab = Lab::new().await;
    let job = lab.ready_with(|plan| Plan { n_items: 4, max_attempts: 1, ..plan }).await;
    let worker = lab.register("w").await;
    let lease = lab.claim(worker).await;
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    let close = lab.claim(worker).await;
    lab.worker
        .fail(&close, &Report::default(), "denied", "the bucket refuses writes")
        .await
        .unwrap();
    let view = lab.job(job).await;
    assert_eq!(
        (view.state, view.errors.as_deref()),
        (JobState::Failed, Some("closing the job failed: the bucket refuses writes"))
    );
    assert_eq!(lab.alice.retry(job, &Only::Failed).await.unwrap(), 0);
    lab.run_all(worker).await;
    assert_eq!(lab.job(job).await.state, JobState::Finished);
}

#[tokio::test]
async fn retry_runs_failed_items_again_and_nothing_else() {
    let lab = Lab::new().await;
    let job = lab.ready(8, 4).await;
    let worker = lab.register("w").await;
    let (first, second) = (lab.claim(worker).await, lab.claim(worker).await);
    lab.worker
        .finish(&first, &report(vec![ok(0), failed(1, "a"), failed(2, "b"), failed(3, "a")]))
        .await
        .unwrap();
    lab.worker.finish(&second, &all_ok(&second)).await.unwrap();
    let close = lab.claim(worker).await;
    let error = lab.alice.retry(job, &Only::Failed).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("job {job} is closing; only an ended job can be retried")
    );
    lab.worker.finish(&close, &Report::default()).await.unwrap();
    assert_eq!(lab.job(job).await.state, JobState::FinishedWithErrors);

    let error = lab.alice.retry(job, &Only::Code("c".to_owned())).await.unwrap_err();
    assert!(matches!(error, Error::Refused { hint: Some(_), .. }), "{error}");
    assert_eq!(lab.alice.retry(job, &Only::Code("a".to_owned())).await.unwrap(), 2);
    let view = lab.job(job).await;
    assert_eq!((view.state, view.round, view.n_ok, view.n_failed), (JobState::Ready, 2, 5, 1));
    let again = lab.claim(worker).await;
    assert_eq!((again.shard, again.attempt), (0, 2));
    let done: Vec<_> = lab
        .worker
        .finished(&again, -1, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|i| i.report.index)
        .collect();
    assert_eq!(done, [0, 2]);
    lab.worker.finish(&again, &report(vec![ok(1), ok(3)])).await.unwrap();
    lab.run_all(worker).await;
    assert_eq!(lab.job(job).await.state, JobState::FinishedWithErrors);
    assert_eq!(lab.alice.retry(job, &Only::Item(2)).await.unwrap(), 1);
    lab.run_all(worker).await;
    let view = lab.job(job).await;
    assert_eq!((view.state, view.round, view.n_ok, view.n_failed), (JobState::Finished, 3, 8, 0));
    assert!(matches!(lab.alice.retry(job, &Only::Failed).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn retry_gives_a_dead_shard_its_attempts_back() {
    let lab = Lab::new().await;
    let job = lab.ready_with(|plan| Plan { n_items: 4, max_attempts: 1, ..plan }).await;
    let worker = lab.register("w").await;
    let lease = lab.claim(worker).await;
    lab.worker.fail(&lease, &report(vec![ok(0)]), "out_of_memory", "no memory left").await.unwrap();
    lab.run_all(worker).await;
    assert_eq!((lab.job(job).await.n_ok, lab.job(job).await.n_failed), (1, 3));
    assert_eq!(lab.alice.retry(job, &Only::Code("out_of_memory".to_owned())).await.unwrap(), 3);
    let lease = lab.claim(worker).await;
    lab.worker.finish(&lease, &report(vec![ok(1), ok(2), ok(3)])).await.unwrap();
    lab.run_all(worker).await;
    let view = lab.job(job).await;
    assert_eq!((view.state, view.n_ok, view.n_failed), (JobState::Finished, 4, 0));
}

#[tokio::test]
async fn pause_drains_and_resume_goes_on() {
    let lab = Lab::new().await;
    let job = lab.ready(8, 4).await;
    let worker = lab.register("w").await;
    let mut lease = lab.claim(worker).await;
    assert!(lab.alice.pause(job).await.unwrap());
    assert!(!lab.alice.pause(job).await.unwrap());
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    assert_eq!(
        lab.worker.progress(&mut lease, &report(vec![ok(0)])).await.unwrap(),
        Verdict::Drain
    );
    lab.worker.release(&lease, &report(vec![ok(1)])).await.unwrap();
    let view = lab.job(job).await;
    assert_eq!((view.state, view.n_ok), (JobState::Paused, 2));
    assert_eq!(view.reason.as_deref(), Some("paused"));
    assert_eq!((view.call.as_deref(), view.call_id), (Some("resume"), Some(job)));
    let said = lab.text(&format!("select reason from nightshift.jobs where id = {job}")).await;
    assert_eq!(said, format!("paused; select nightshift.resume({job})"));
    assert!(lab.alice.resume(job).await.unwrap());
    assert!(!lab.alice.resume(job).await.unwrap());
    let again = lab.claim(worker).await;
    assert_eq!((again.shard, lab.worker.finished(&again, -1, 10).await.unwrap().len()), (0, 2));
    lab.worker.finish(&again, &report(vec![ok(2), ok(3)])).await.unwrap();
    lab.run_all(worker).await;
    assert_eq!(lab.job(job).await.state, JobState::Finished);
}

#[tokio::test]
async fn hold_lets_leases_go_on() {
    let lab = Lab::new().await;
    let job = lab.ready(8, 4).await;
    let worker = lab.register("w").await;
    let mut lease = lab.claim(worker).await;
    assert!(lab.alice.hold(job).await.unwrap());
    assert!(!lab.alice.hold(job).await.unwrap());
    assert_eq!(
        lab.worker.progress(&mut lease, &report(vec![ok(0)])).await.unwrap(),
        Verdict::Continue
    );
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    let held = lab.job(job).await;
    assert_eq!(
        (held.reason.as_deref(), held.call.as_deref(), held.call_id),
        (Some("held"), Some("release"), Some(job))
    );
    assert!(lab.alice.unhold(job).await.unwrap());
    assert_eq!(lab.claim(worker).await.shard, 1);
}

#[tokio::test]
async fn cancel_ends_waiting_shards_now_and_leased_ones_when_told() {
    let lab = Lab::new().await;
    let job = lab.ready(40, 4).await;
    let worker = lab.register("w").await;
    let (first, second) = (lab.claim(worker).await, lab.claim(worker).await);
    lab.worker.release(&second, &Report::default()).await.unwrap();
    assert!(lab.alice.cancel(job).await.unwrap());
    assert!(!lab.alice.cancel(job).await.unwrap());
    let view = lab.job(job).await;
    assert_eq!(
        (view.state, view.reason.as_deref()),
        (JobState::Cancelling, Some("stopping; shards still leased: 1"))
    );
    assert!(lab.worker.claim(worker, 1, LEASE).await.unwrap().is_empty());
    lab.worker.release(&first, &Report::default()).await.unwrap();
    assert_eq!(lab.job(job).await.state, JobState::Cancelled);
    let shards = lab.alice.open_shards(job).await.unwrap();
    assert!(shards.iter().all(|s| s.state == ShardState::Cancelled));

    // What it never ran may run later.
    lab.alice.retry(job, &Only::Failed).await.unwrap();
    lab.run_all(worker).await;
    let view = lab.job(job).await;
    assert_eq!((view.state, view.n_ok), (JobState::Finished, 40));
}

#[tokio::test]
async fn cancel_of_a_silent_worker_ends_with_its_lease() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let _silent = lab.claim(lab.register("w").await).await;
    lab.alice.cancel(job).await.unwrap();
    lab.tick().await;
    assert_eq!(lab.job(job).await.state, JobState::Cancelling);
    lab.advance(31).await;
    lab.tick().await;
    assert_eq!(lab.job(job).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn cancel_before_planning() {
    let lab = Lab::new().await;
    let job = lab.submitted().await;
    assert!(lab.alice.cancel(job).await.unwrap());
    assert_eq!(lab.job(job).await.state, JobState::Cancelled);
    let planned = lab.scheduler.planned(&lab.term, job, &crate::lab::plan(job)).await.unwrap();
    assert_eq!(planned, nightshift_store::Planned::Gone);
    assert!(!lab.scheduler.rejected(&lab.term, job, "no", None, None).await.unwrap());
    assert!(!lab.scheduler.add_chunk(&lab.term, job, 0, 1, &[1]).await.unwrap());
    assert!(matches!(lab.alice.retry(job, &Only::Failed).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn too_many_failed_items_stop_the_job() {
    let lab = Lab::new().await;
    let job = lab.ready_with(|plan| Plan { n_items: 40, max_failed_items: Some(2), ..plan }).await;
    let worker = lab.register("w").await;
    let (mut first, mut second) = (lab.claim(worker).await, lab.claim(worker).await);
    let two = report(vec![failed(0, "bad"), failed(1, "bad")]);
    assert_eq!(lab.worker.progress(&mut first, &two).await.unwrap(), Verdict::Continue);
    let third = report(vec![failed(4, "bad")]);
    assert_eq!(lab.worker.progress(&mut second, &third).await.unwrap(), Verdict::Cancelled);
    assert_eq!(
        lab.worker.progress(&mut first, &Report::default()).await.unwrap(),
        Verdict::Cancelled
    );
    lab.worker.release(&first, &Report::default()).await.unwrap();
    lab.worker.release(&second, &Report::default()).await.unwrap();
    let view = lab.job(job).await;
    assert_eq!((view.state, view.n_failed), (JobState::Failed, 3));
    assert_eq!(
        view.errors.as_deref(),
        Some("3 items failed, more than limits.max_failed_items = 2")
    );
    assert_eq!(lab.alice.retry(job, &Only::Failed).await.unwrap(), 3);
    lab.run_all(worker).await;
    assert_eq!(lab.job(job).await.state, JobState::Finished);
}

#[tokio::test]
async fn too_many_failed_items_by_dead_shards_stop_the_job() {
    let lab = Lab::new().await;
    let job = lab
        .ready_with(|plan| Plan { n_items: 40, max_attempts: 1, max_failed_items: Some(3), ..plan })
        .await;
    let lease = lab.claim(lab.register("w").await).await;
    lab.worker.fail(&lease, &Report::default(), "out_of_memory", "no memory left").await.unwrap();
    assert_eq!(lab.job(job).await.state, JobState::Failed);
}

#[tokio::test]
async fn listeners_hear_once_that_work_came_and_that_a_job_ended() {
    let lab = Lab::new().await;
    let mut notices =
        Notices::connect(&DatabaseConfig::new(lab.url(Some("lab_worker")))).await.unwrap();
    let job = lab.ready(4, 4).await;
    lab.run_all(lab.register("w").await).await;
    let next = ready_job(&lab).await;
    let mut heard = Vec::new();
    while heard.last() != Some(&Notice::Work(next)) {
        heard.push(notices.next().await.unwrap());
    }
    // Work twice: its items, then its closing.
    assert_eq!(
        heard,
        [Notice::Work(job), Notice::Work(job), Notice::JobEnded(job), Notice::Work(next)]
    );
}

async fn ready_job(lab: &Lab) -> i64 {
    lab.ready(4, 4).await
}

#[tokio::test]
async fn items_are_filtered() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let mut lease = lab.claim(lab.register("w").await).await;
    lab.worker
        .progress(&mut lease, &report(vec![ok(0), failed(1, "a"), failed(2, "b")]))
        .await
        .unwrap();
    let codes = |filter: ItemFilter| {
        let store = lab.alice.clone();
        async move {
            store
                .items(job, &filter, -1, 10)
                .await
                .unwrap()
                .into_iter()
                .map(|i| i.report.index)
                .collect::<Vec<_>>()
        }
    };
    let failed_only =
        ItemFilter { status: Some(nightshift_store::ItemStatus::Failed), error_code: None };
    assert_eq!(codes(failed_only).await, [1, 2]);
    assert_eq!(codes(ItemFilter { status: None, error_code: Some("b".to_owned()) }).await, [2]);
}
