//! Ways in: submit, idempotency keys, tenants, versions.

use nightshift_store::{Error, JobState, PROTOCOL, Registration, SCHEMA, Store, Submission};

use crate::lab::{Lab, MODEL};

fn spec(text: &str) -> Submission {
    Submission { spec: text.to_owned(), ..Submission::default() }
}

async fn refusal(store: &Store, submission: &Submission) -> (String, String, String) {
    match store.submit(submission).await.unwrap_err() {
        Error::Refused { message, detail, hint } => {
            (message, detail.unwrap_or_default(), hint.unwrap_or_default())
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn from_plain_sql_as_text_and_as_json() {
    let lab = Lab::new().await;
    let alice = Some("lab_user");
    lab.sql_as(alice, "select nightshift.submit($$kind: text_to_image\nmetadata: {name: a}$$)")
        .await
        .unwrap();
    lab.sql_as(alice, "select nightshift.submit('{\"kind\": \"edit\"}'::jsonb, hold => true, idempotency_key => 'k')").await.unwrap();
    lab.sql_as(alice, "select nightshift.submit(spec => 'x', tenant => 'default')").await.unwrap();
    let jobs = lab.alice.jobs(&nightshift_store::JobFilter::default(), 10).await.unwrap();
    assert_eq!(jobs.len(), 3);
    assert!(jobs.iter().all(|j| j.state == JobState::Submitted
        && j.submitted_by == "lab_user"
        && j.tenant == "default"));
    assert_eq!(lab.alice.spec_text(jobs[1].id).await.unwrap(), "{\"kind\": \"edit\"}");
    assert_eq!((jobs[1].held, jobs[1].idempotency_key.as_deref()), (true, Some("k")));
}

#[tokio::test]
async fn an_idempotency_key_returns_the_first_job_or_refuses_another_spec() {
    let lab = Lab::new().await;
    let keyed =
        |text: &str| Submission { idempotency_key: Some("night-1".to_owned()), ..spec(text) };
    let first = lab.alice.submit(&keyed("a: 1")).await.unwrap();
    assert_eq!(lab.alice.submit(&keyed("a: 1")).await.unwrap(), first);
    let (message, detail, hint) = refusal(&lab.alice, &keyed("a: 2")).await;
    assert_eq!(message, "idempotency key night-1 was used with another spec");
    assert_eq!(detail, format!("that was job {first}"));
    assert_eq!(hint, "use another key, or submit exactly the same text");
    // Keys of another tenant are other keys; no key is never the same key.
    let blue = Submission { tenant: Some("blue".to_owned()), ..keyed("a: 2") };
    assert_ne!(lab.bob.submit(&blue).await.unwrap(), first);
    assert_ne!(
        lab.alice.submit(&spec("a: 1")).await.unwrap(),
        lab.alice.submit(&spec("a: 1")).await.unwrap()
    );
}

#[tokio::test]
async fn a_held_submission_is_planned_but_not_claimed() {
    let lab = Lab::new().await;
    let job = lab.alice.submit(&Submission { hold: true, ..spec("x") }).await.unwrap();
    lab.scheduler.planned(&lab.term, job, &crate::lab::plan(job)).await.unwrap();
    let worker = lab.register("w").await;
    assert!(lab.worker.claim(worker, 1, crate::lab::LEASE).await.unwrap().is_empty());
    lab.alice.unhold(job).await.unwrap();
    assert_eq!(lab.claim(worker).await.job, job);
}

#[tokio::test]
async fn tenants_are_named_when_it_is_not_clear() {
    let lab = Lab::new().await;
    let (message, detail, hint) = refusal(&lab.bob, &spec("x")).await;
    assert_eq!(message, "login lab_bob belongs to several tenants");
    assert_eq!(detail, "tenants: blue, green");
    assert_eq!(hint, "say which: nightshift.submit(..., tenant => 'blue')");
    let foreign = Submission { tenant: Some("default".to_owned()), ..spec("x") };
    let (message, detail, _) = refusal(&lab.bob, &foreign).await;
    assert_eq!(message, "login lab_bob does not belong to tenant default");
    assert_eq!(detail, "tenants: blue, green");
    let nobody =
        Store::connect(&nightshift_store::DatabaseConfig::new(lab.url(Some("lab_nobody"))))
            .await
            .unwrap();
    assert_eq!(refusal(&nobody, &spec("x")).await.0, "login lab_nobody belongs to no tenant");
}

#[tokio::test]
async fn empty_and_huge_specs_are_refused() {
    let lab = Lab::new().await;
    assert_eq!(refusal(&lab.alice, &spec(" \n\t")).await.0, "the spec is empty");
    let (message, _, hint) = refusal(&lab.alice, &spec(&"x".repeat(1_048_577))).await;
    assert_eq!(message, "the spec has 1048577 bytes, more than 1 MiB");
    assert!(hint.contains("input.manifest"));
}

#[tokio::test]
async fn versions_that_do_not_fit_are_refused_in_words() {
    let lab = Lab::new().await;
    let versions = lab.worker.check_versions().await.unwrap();
    assert_eq!((versions.protocol, versions.schema), (PROTOCOL, SCHEMA));
    let registration = Registration {
        name: "w".to_owned(),
        models: [(MODEL.to_owned(), "f".to_owned())].into(),
        info: serde_json::json!({}),
    };
    let set = |protocol: i32, oldest: i32, schema: i32| {
        format!("create or replace function nightshift.versions(out protocol int, out protocol_oldest int, out schema int)
            language sql immutable as $$ select {protocol}, {oldest}, {schema} $$")
    };
    lab.sql(&set(9, 8, SCHEMA)).await;
    let too_old = format!(
        "this worker is too old: it speaks protocol {PROTOCOL}, the database needs 8 or newer"
    );
    for (error, message) in [
        (lab.worker.register(&registration).await.unwrap_err(), too_old.clone()),
        (lab.worker.check_versions().await.unwrap_err(), too_old.replace("worker", "program")),
    ] {
        assert!(
            matches!(&error, Error::VersionMismatch { hint, .. } if hint.starts_with("install ")),
            "{error:?}"
        );
        assert_eq!(error.to_string(), message);
    }
    lab.sql(&set(PROTOCOL, PROTOCOL, SCHEMA - 1)).await;
    let error = lab.worker.register(&registration).await.unwrap_err();
    assert!(
        matches!(&error, Error::VersionMismatch { hint, .. } if hint.contains("nightshift migrate")),
        "{error:?}"
    );
    assert!(error.to_string().starts_with("the database is too old for this worker"));
    // Migrations expand first: a newer schema serves an older program.
    lab.sql(&set(PROTOCOL, PROTOCOL, SCHEMA + 1)).await;
    lab.worker.register(&registration).await.unwrap();
    lab.worker.check_versions().await.unwrap();
}

#[tokio::test]
async fn a_database_that_was_never_migrated_says_so() {
    let lab = Lab::new().await;
    lab.sql("drop schema nightshift cascade").await;
    let error = lab.worker.check_versions().await.unwrap_err();
    assert!(
        matches!(&error, Error::VersionMismatch { hint, .. } if hint.contains("nightshift migrate")),
        "{error:?}"
    );
}

#[tokio::test]
async fn migrate_twice_and_at_once() {
    let lab = Lab::new().await;
    lab.sql("create database lab_two").await;
    let url = lab.url(None);
    let url = format!("{}/lab_two", url.rsplit_once('/').unwrap().0);
    let (a, b) = tokio::join!(nightshift_store::migrate(&url), nightshift_store::migrate(&url));
    a.unwrap();
    b.unwrap();
    nightshift_store::migrate(&url).await.unwrap();
    lab.sql("drop database lab_two").await;
}

#[tokio::test]
async fn a_text_is_kept_once_for_a_tenant_and_shared_with_no_other() {
    let lab = Lab::new().await;
    for text in ["one", "one", "two"] {
        lab.alice.submit(&spec(text)).await.unwrap();
    }
    let of_blue = Submission { tenant: Some("blue".to_owned()), ..spec("one") };
    let bobs = lab.bob.submit(&of_blue).await.unwrap();
    let count = |what: &str| format!("select count({what})::text from nightshift.document");
    assert_eq!(lab.text(&count("*")).await, "3");
    assert_eq!(lab.text(&count("distinct body")).await, "2");
    assert_eq!(lab.bob.spec_text(bobs).await.unwrap(), "one");
}
