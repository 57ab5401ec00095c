//! Who may touch what: each attempt is tried with the real login.

use nightshift_store::{
    DatabaseConfig, Error, ItemFilter, JobFilter, LoginKind, Only, Store, Submission,
};

use crate::lab::{Lab, all_ok, plan};

/// A job of tenant blue with finished items, an attempt, a log and events.
async fn job_of_bob(lab: &Lab) -> i64 {
    let submission = Submission {
        spec: "secret".to_owned(),
        tenant: Some("blue".to_owned()),
        ..Submission::default()
    };
    let job = lab.bob.submit(&submission).await.unwrap();
    lab.scheduler.planned(&lab.term, job, &plan(job)).await.unwrap();
    let mut lease = lab.claim(lab.register("w").await).await;
    let said = nightshift_store::Report {
        log: Some("secret".to_owned()),
        ..nightshift_store::Report::default()
    };
    lab.worker.progress(&mut lease, &said).await.unwrap();
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    job
}

#[tokio::test]
async fn a_tenant_sees_its_own_rows_only() {
    let lab = Lab::new().await;
    let job = job_of_bob(&lab).await;
    let mine = lab.ready(4, 4).await;
    let ids = |store: Store| async move {
        store
            .jobs(&JobFilter::default(), 10)
            .await
            .unwrap()
            .into_iter()
            .map(|j| j.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(lab.alice.clone()).await, [mine]);
    assert_eq!(ids(lab.bob.clone()).await, [job]);
    assert!(matches!(lab.alice.job(job).await, Err(Error::NotFound { .. })));
    assert!(matches!(lab.alice.spec_text(job).await, Err(Error::NotFound { .. })));
    assert!(lab.alice.items(job, &ItemFilter::default(), -1, 10).await.unwrap().is_empty());
    assert!(lab.alice.outputs(job, -1, 10).await.unwrap().is_empty());
    assert!(lab.alice.events(Some(job), 0, 10).await.unwrap().is_empty());
    assert!(lab.alice.logs(job, None, 0).await.unwrap().is_empty());
    assert!(lab.alice.open_shards(job).await.unwrap().is_empty());
    assert!(lab.alice.attempts(job, 10).await.unwrap().is_empty());
    assert_eq!(lab.bob.items(job, &ItemFilter::default(), -1, 10).await.unwrap().len(), 4);
    assert_eq!(lab.bob.logs(job, None, 0).await.unwrap().len(), 1);
    let leak = format!("do $$ begin if nightshift.waits_for({job}) is not null or exists (select from nightshift.job_cursor where job_id = {job})
        then raise 'leak'; end if; end $$");
    lab.sql_as(Some("lab_user"), &leak).await.unwrap();
}

#[tokio::test]
async fn a_tenant_cannot_act_on_anothers_job() {
    let lab = Lab::new().await;
    let job = job_of_bob(&lab).await;
    let before = lab.text("select md5(j::text) from nightshift.job j").await;
    assert!(matches!(lab.alice.cancel(job).await, Err(Error::NotFound { .. })));
    assert!(matches!(lab.alice.pause(job).await, Err(Error::NotFound { .. })));
    assert!(matches!(lab.alice.resume(job).await, Err(Error::NotFound { .. })));
    assert!(matches!(lab.alice.hold(job).await, Err(Error::NotFound { .. })));
    assert!(matches!(lab.alice.unhold(job).await, Err(Error::NotFound { .. })));
    assert!(matches!(lab.alice.retry(job, &Only::Failed).await, Err(Error::NotFound { .. })));
    assert_eq!(before, lab.text("select md5(j::text) from nightshift.job j").await);
}

#[tokio::test]
async fn nobody_may_write_a_table_and_workers_and_schedulers_may_not_even_read_one() {
    let lab = Lab::new().await;
    let relations = lab
        .text("select string_agg(relname, ' ') from pg_class where relnamespace = 'nightshift'::regnamespace and relkind in ('r', 'p', 'v')")
        .await;
    assert!(relations.split(' ').count() > 20);
    for relation in relations.split(' ') {
        for login in ["lab_worker", "lab_scheduler"] {
            denied(&lab, login, &format!("select * from nightshift.{relation}")).await;
        }
        for login in ["lab_user", "lab_worker", "lab_scheduler"] {
            denied(&lab, login, &format!("delete from nightshift.{relation}")).await;
            denied(&lab, login, &format!("insert into nightshift.{relation} default values")).await;
        }
    }
    for hidden in ["member", "input_chunk", "leader", "event_rest", "legal_move"] {
        denied(&lab, "lab_user", &format!("select * from nightshift.{hidden}")).await;
    }
}

async fn denied(lab: &Lab, login: &str, statement: &str) {
    let error = lab.sql_as(Some(login), statement).await.expect_err(statement);
    let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
    // 42501 insufficient_privilege; a view that cannot be written at all says 55000.
    assert!(
        code == "42501" || (code == "55000" && !statement.starts_with("select")),
        "{login}: {statement}: {error}"
    );
}

#[tokio::test]
async fn each_kind_of_login_has_its_own_functions() {
    let lab = Lab::new().await;
    let job = lab.ready(4, 4).await;
    let worker = lab.register("w").await;
    let lease = lab.claim(worker).await;
    for store in [&lab.worker, &lab.scheduler] {
        assert!(matches!(
            store.submit(&Submission { spec: "x".to_owned(), ..Submission::default() }).await,
            Err(Error::Denied { .. })
        ));
        assert!(matches!(store.cancel(job).await, Err(Error::Denied { .. })));
    }
    for store in [&lab.alice, &lab.scheduler] {
        assert!(matches!(
            store.claim(worker, 1, crate::lab::LEASE).await,
            Err(Error::Denied { .. })
        ));
        assert!(matches!(store.finish(&lease, &all_ok(&lease)).await, Err(Error::Denied { .. })));
    }
    for store in [&lab.alice, &lab.worker] {
        assert!(matches!(store.tick(&lab.term).await, Err(Error::Denied { .. })));
        assert!(matches!(
            store.rejected(&lab.term, job, "x", None, None).await,
            Err(Error::Denied { .. })
        ));
    }
    for login in ["lab_user", "lab_worker", "lab_scheduler"] {
        denied(&lab, login, "select nightshift.clock()").await;
        denied(&lab, login, "select nightshift.create_login('worker', 'x', 'x')").await;
        denied(&lab, login, "select nightshift.set_prefixes('default', '{s3://}', '{s3://}')")
            .await;
        denied(&lab, login, "set role nightshift_owner").await;
        denied(&lab, login, "create table nightshift.mine (a int)").await;
    }
}

#[tokio::test]
async fn one_login_may_be_made_from_several_places_at_once() {
    let lab = Lab::new().await;
    let name = format!("store_crowd_{}", std::process::id());
    let made: Vec<_> = (0..6)
        .map(|_| {
            let (admin, name) = (lab.admin.clone(), name.clone());
            tokio::spawn(
                async move { admin.create_login(LoginKind::Worker, &name, "x", None).await },
            )
        })
        .collect();
    for made in made {
        made.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn logins_are_made_with_care() {
    let lab = Lab::new().await;
    let make = async |kind, name: &str, tenant: Option<&str>| {
        lab.admin.create_login(kind, name, "x", tenant).await
    };
    for (kind, name, tenant) in [
        (LoginKind::Tenant, "store_carol", None),
        (LoginKind::Worker, "store_carol", Some("default")),
        (LoginKind::Worker, "Robert'); drop table", None),
        (LoginKind::Worker, "nightshift_owner", None),
        (LoginKind::Worker, "lab_user", None),
        (LoginKind::Worker, "pg_monitor", None),
    ] {
        let error = make(kind, name, tenant).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{name}: {error}");
    }
    let wrong = lab.url(Some("lab_user")).replace(":test@", ":wrong@");
    let error = Store::connect(&DatabaseConfig::new(wrong)).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    let config = DatabaseConfig {
        acquire_timeout_ms: 300,
        ..DatabaseConfig::new("postgres://x@127.0.0.1:1/x")
    };
    let error = Store::connect(&config).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    for url in ["what", "mysql://x@127.0.0.1/x"] {
        let error = Store::connect(&DatabaseConfig::new(url)).await.unwrap_err();
        assert!(
            matches!(&error, Error::BadConfig { message } if message.contains("postgres://")),
            "{url}: {error:?}"
        );
    }
    let elsewhere = lab.url(Some("lab_user")) + "_of_nobody";
    let error = Store::connect(&DatabaseConfig::new(elsewhere)).await.unwrap_err();
    assert!(error.is_retryable() && format!("{error:?}").contains("does not exist"), "{error:?}");
}

#[tokio::test]
async fn no_password_is_sent_as_it_is_typed() {
    let lab = Lab::new().await;
    lab.sql(
        "create schema if not exists lab; create table lab.sent (password text);
        create or replace function nightshift.create_login(kind text, name text, password text, tenant text default null) returns void
            language sql as 'insert into lab.sent values (password)'",
    )
    .await;
    let (kind, password) = (LoginKind::Worker, "a password like no other");
    let made = lab.admin.create_login(kind, "w", password, None).await;
    made.unwrap();
    let sent = lab.text("select password from lab.sent").await;
    assert!(sent.starts_with("SCRAM-SHA-256$4096:"), "{sent}");
    assert!(!sent.contains(password), "{sent}");
}
