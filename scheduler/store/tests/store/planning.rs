//! Leadership, plans, destinations and prefixes.

use std::time::Duration;

use nightshift_store::{Error, JobState, Only, Plan, Planned, Refusal, Submission};

use crate::lab::{Lab, plan};

async fn planned(lab: &Lab, change: impl FnOnce(Plan) -> Plan) -> (i64, Planned) {
    let job = lab.submitted().await;
    let answer = lab.scheduler.planned(&lab.term, job, &change(plan(job))).await.unwrap();
    (job, answer)
}

fn words(answer: &Planned) -> String {
    match answer {
        Planned::Refused(Refusal { message, hint: Some(hint), .. }) => format!("{message}; {hint}"),
        Planned::Refused(refusal) => refusal.message.clone(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn one_leads_at_a_time_and_an_old_term_is_refused() {
    let lab = Lab::new().await;
    let job = lab.submitted().await;
    let ttl = Duration::from_secs(10);
    assert!(lab.scheduler.lead("other", ttl).await.unwrap().is_none());
    assert_eq!(
        lab.scheduler.lead("test", ttl).await.unwrap().unwrap().term,
        lab.term.term,
        "a renewal keeps the term"
    );
    assert_eq!(lab.scheduler.submitted(&lab.term, 10).await.unwrap().len(), 1);
    lab.advance(10).await;
    let old = &lab.term;
    assert!(matches!(lab.scheduler.tick(old).await, Err(Error::NotLeader)), "the term ran out");
    let new = lab.scheduler.lead("other", ttl).await.unwrap().unwrap();
    assert!(new.term > old.term);
    assert!(lab.scheduler.lead("test", ttl).await.unwrap().is_none());
    assert!(matches!(lab.scheduler.submitted(old, 1).await, Err(Error::NotLeader)));
    assert!(matches!(lab.scheduler.add_chunk(old, job, 0, 1, &[1]).await, Err(Error::NotLeader)));
    assert!(matches!(lab.scheduler.planned(old, job, &plan(job)).await, Err(Error::NotLeader)));
    assert!(matches!(
        lab.scheduler.rejected(old, job, "x", None, None).await,
        Err(Error::NotLeader)
    ));
    assert!(matches!(lab.scheduler.tick(old).await, Err(Error::NotLeader)));
    lab.scheduler.resign(&new).await.unwrap();
    assert!(matches!(lab.scheduler.tick(&new).await, Err(Error::NotLeader)));
    assert!(lab.scheduler.lead("test", ttl).await.unwrap().unwrap().term > new.term);
}

#[tokio::test]
async fn a_rejected_job_carries_its_errors() {
    let lab = Lab::new().await;
    let job = lab.submitted().await;
    assert_eq!(lab.job(job).await.reason.as_deref(), Some("waits to be planned"));
    assert!(
        lab.scheduler
            .rejected(&lab.term, job, "spec.yaml:3:5: unknown key", Some("mine"), None)
            .await
            .unwrap()
    );
    let view = lab.job(job).await;
    assert_eq!(
        (view.state, view.errors.as_deref()),
        (JobState::Rejected, Some("spec.yaml:3:5: unknown key"))
    );
    assert_eq!((view.name.as_deref(), view.kind), (Some("mine"), None));
    assert!(!lab.scheduler.rejected(&lab.term, job, "again", None, None).await.unwrap());
    assert!(!lab.alice.cancel(job).await.unwrap());
}

#[tokio::test]
async fn a_repeated_plan_changes_nothing() {
    let lab = Lab::new().await;
    let (job, answer) = planned(&lab, |plan| plan).await;
    assert_eq!(answer, Planned::Ready);
    assert_eq!(lab.scheduler.planned(&lab.term, job, &plan(job)).await.unwrap(), Planned::Gone);
    assert_eq!(lab.scheduler.submitted(&lab.term, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn chunks_must_hold_all_rows_and_start_again_from_zero() {
    let lab = Lab::new().await;
    let job = lab.submitted().await;
    for (first_row, n_rows) in [(0, 700), (700, 300), (0, 1000), (1000, 1)] {
        assert!(
            lab.scheduler.add_chunk(&lab.term, job, first_row, n_rows, &[1, 2, 3]).await.unwrap()
        );
    }
    let with = |n_rows| Plan { n_rows, n_items: n_rows, ..plan(job) };
    let error = lab.scheduler.planned(&lab.term, job, &with(1000)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the chunks of job {job} hold 1001 rows up to row 1001, its plan says 1000")
    );
    assert_eq!(lab.scheduler.planned(&lab.term, job, &with(1001)).await.unwrap(), Planned::Ready);
}

#[tokio::test]
async fn a_destination_that_overlaps_another_jobs_is_refused_by_name() {
    let lab = Lab::new().await;
    let (first, _) =
        planned(&lab, |plan| Plan { dest: "s3://b/data/set/".to_owned(), ..plan }).await;
    for (dest, why) in [
        ("s3://b/data/set/", "equal"),
        ("s3://b/data/set/x/", "below"),
        ("s3://b/data/", "above"),
        ("s3://b/", "far above"),
    ] {
        let (_, answer) = planned(&lab, |plan| Plan { dest: dest.to_owned(), ..plan }).await;
        let words = words(&answer);
        assert!(words.starts_with(&format!("output.dest: {dest} overlaps s3://b/data/set/, which belongs to job {first} (job-{first}), state ready")), "{why}: {words}");
    }
    for dest in ["s3://b/data/settle/", "s3://b/data/se/", "s3://c/data/set/", "s3://b/other/"] {
        let (_, answer) = planned(&lab, |plan| Plan { dest: dest.to_owned(), ..plan }).await;
        assert_eq!(answer, Planned::Ready, "{dest}");
    }
}

#[tokio::test]
async fn a_finished_jobs_destination_moves_only_when_asked() {
    let lab = Lab::new().await;
    let dest = "s3://b/set/".to_owned();
    let at = |on_existing: &str| {
        let (dest, on_existing) = (dest.clone(), on_existing.to_owned());
        move |plan| Plan { dest, on_existing, n_items: 4, ..plan }
    };
    let (first, _) = planned(&lab, at("refuse")).await;
    let (_, while_active) = planned(&lab, at("overwrite")).await;
    assert!(words(&while_active).contains("state ready; wait for it"), "an active job keeps it");
    lab.run_all(lab.register("w").await).await;
    let (_, refused) = planned(&lab, at("refuse")).await;
    assert!(
        words(&refused)
            .contains("state finished; choose another destination or set output.on_existing")
    );
    let (second, moved) = planned(&lab, at("resume")).await;
    assert_eq!(moved, Planned::Ready);
    assert_eq!(
        lab.text("select id::text from nightshift.job where owns_dest").await,
        second.to_string()
    );
    let events: Vec<_> = lab.alice.events(Some(first), 0, 100).await.unwrap();
    assert_eq!(events.last().unwrap().what, "destination_moved");
}

#[tokio::test]
async fn retry_of_a_job_that_lost_its_destination_is_refused() {
    let lab = Lab::new().await;
    let (first, _) =
        planned(&lab, |plan| Plan { dest: "s3://b/set/".to_owned(), n_items: 1, ..plan }).await;
    let worker = lab.register("w").await;
    let lease = lab.claim(worker).await;
    lab.worker
        .finish(&lease, &crate::lab::report(vec![crate::lab::failed(0, "bad")]))
        .await
        .unwrap();
    lab.run_all(worker).await;
    let take =
        |plan| Plan { dest: "s3://b/set/".to_owned(), on_existing: "overwrite".to_owned(), ..plan };
    let (second, _) = planned(&lab, take).await;
    let error = lab.alice.retry(first, &Only::Failed).await.unwrap_err();
    assert!(error.to_string().contains(&format!("belongs to job {second}")), "{error}");
    assert_eq!(lab.job(first).await.n_failed, 1, "a refused retry takes nothing back");
}

#[tokio::test]
async fn rejected_and_untouched_cancelled_jobs_own_nothing() {
    let lab = Lab::new().await;
    let dest = |plan| Plan { dest: "s3://b/set/".to_owned(), ..plan };
    let (first, _) = planned(&lab, dest).await;
    lab.alice.cancel(first).await.unwrap();
    let (second, answer) = planned(&lab, dest).await;
    assert_eq!(answer, Planned::Ready, "cancelled before any item");
    let mut lease = lab.claim(lab.register("w").await).await;
    lab.worker.progress(&mut lease, &crate::lab::report(vec![crate::lab::ok(0)])).await.unwrap();
    lab.alice.cancel(second).await.unwrap();
    lab.worker.release(&lease, &nightshift_store::Report::default()).await.unwrap();
    let (_, answer) = planned(&lab, dest).await;
    assert!(words(&answer).contains("state cancelled"), "it wrote there");
}

#[tokio::test]
async fn a_destination_of_another_tenant_is_refused_without_naming_the_job() {
    let lab = Lab::new().await;
    let dest = |plan| Plan { dest: "s3://b/set/".to_owned(), n_items: 0, ..plan };
    let (_, _) = planned(&lab, dest).await;
    lab.run_all(lab.register("w").await).await;
    let submission = Submission {
        spec: "x".to_owned(),
        tenant: Some("blue".to_owned()),
        ..Submission::default()
    };
    let job = lab.bob.submit(&submission).await.unwrap();
    let greedy =
        Plan { dest: "s3://b/set/".to_owned(), on_existing: "overwrite".to_owned(), ..plan(job) };
    let answer = lab.scheduler.planned(&lab.term, job, &greedy).await.unwrap();
    assert_eq!(
        words(&answer),
        "output.dest: s3://b/set/ overlaps the destination of a job of another tenant"
    );
}

#[tokio::test]
async fn locations_outside_of_the_tenants_prefixes_are_refused() {
    let lab = Lab::new().await;
    let only = |prefix: &str| vec![prefix.to_owned()];
    lab.admin.set_prefixes("default", &only("s3://in/a"), &only("s3://out/")).await.unwrap();
    let cases = [
        ("s3://out/x/", "s3://in/a/list.jsonl", true),
        ("s3://out/x/", "s3://in/a", true),
        ("s3://out/x/", "s3://in/ab/list.jsonl", false),
        ("s3://out/x/../../y/", "s3://in/a/", false),
        ("s3://output/x/", "s3://in/a/", false),
        ("s3://out/x/", "https://in/a/", false),
    ];
    for (n, (dest, input, allowed)) in cases.into_iter().enumerate() {
        let dest = if allowed { format!("s3://out/{n}/") } else { dest.to_owned() };
        let (_, answer) =
            planned(&lab, |plan| Plan { dest, inputs: vec![input.to_owned()], ..plan }).await;
        assert_eq!(answer == Planned::Ready, allowed, "{answer:?}");
    }
    lab.admin.set_prefixes("default", &[], &[]).await.unwrap();
    let (_, answer) = planned(&lab, |plan| plan).await;
    assert!(words(&answer).ends_with("no destination is allowed yet"));
    let error = lab.admin.set_prefixes("default", &only("bucket/x"), &[]).await.unwrap_err();
    assert!(matches!(error, Error::Refused { hint: Some(_), .. }), "{error}");
}
