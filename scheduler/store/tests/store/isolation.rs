//! Nobody reaches what is another's. Driven by the catalogue: a new table, view or function without a rule here fails.
//!
//! The world: tenant `default` (alice) and tenant `blue` (bob) each have a job with items, a log, attempts, events and a webhook; worker
//! `lab_worker` holds a lease of bob's; `lab_worker2` and `lab_nobody` have nothing.

use nightshift_store::{Lease, Report, Store, Submission};

use crate::lab::{Lab, all_ok, plan};

/// Readable relations, and which of their rows belong to another tenant than `default`. `JOB` is bob's job.
const RELATIONS: &[(&str, Rows)] = &[
    ("attempt", Rows::Of("job_id = JOB")),
    ("attempt_log", Rows::Of("job_id = JOB")),
    ("attempts", Rows::Of("job_id = JOB")),
    ("document", Rows::Of("tenant_id = (select tenant_id from lab.bobs)")),
    ("event", Rows::Of("job_id = JOB")),
    ("events", Rows::Of("job_id = JOB")),
    ("fingerprint", Rows::Everybodys),
    ("item", Rows::Of("job_id = JOB")),
    ("items", Rows::Of("job_id = JOB")),
    ("job", Rows::Of("id = JOB")),
    ("job_cursor", Rows::Of("job_id = JOB")),
    ("jobs", Rows::Of("id = JOB")),
    ("logs", Rows::Of("job_id = JOB")),
    ("notify", Rows::Of("job_id = JOB")),
    ("outputs", Rows::Of("job_id = JOB")),
    ("schedule", Rows::Of("id = (select schedule_id from lab.bobs)")),
    ("schedules", Rows::Of("id = (select schedule_id from lab.bobs)")),
    ("shard", Rows::Of("job_id = JOB")),
    ("shards", Rows::Of("job_id = JOB")),
    ("share", Rows::Of("tenant_id = (select tenant_id from lab.bobs)")),
    ("specs", Rows::Of("job_id = JOB")),
    ("tenant", Rows::Of("name = 'blue'")),
    ("tenants", Rows::Of("name = 'blue'")),
    ("webhook", Rows::Of("job_id = JOB")),
    ("webhooks", Rows::Of("job_id = JOB")),
    ("worker", Rows::Everybodys),
    ("workers", Rows::Everybodys),
];

#[derive(Clone, Copy)]
enum Rows {
    /// Those that meet this condition are another tenant's.
    Of(&'static str),
    /// They tell nothing of a tenant.
    Everybodys,
}

/// What a call on another's behalf does.
#[derive(Clone, Copy)]
enum Outcome {
    /// An error with this SQLSTATE.
    Error(&'static str),
    /// This answer; the empty text is null.
    Answer(&'static str),
    /// It is about nobody's data: not called.
    Pure,
}
use Outcome::{Answer, Error, Pure};

/// By `lab_user`, about bob's job.
const OF_TENANTS: &[(&str, &str, Outcome)] = &[
    ("artifacts_json(nightshift.artifact[])", "", Pure),
    ("artifacts_of(text,text,bigint,bytea,nightshift.artifact[])", "", Pure),
    ("cancel(bigint)", "cancel(JOB)", Error("NSNOF")),
    ("hold(bigint)", "hold(JOB)", Error("NSNOF")),
    ("hours_of_month(date,double precision)", "", Pure),
    ("is_final(nightshift.job_state)", "", Pure),
    ("measured_ms(text,text)", "", Pure),
    ("my_tenants()", "my_tenants() = (select tenant_id from lab.bobs)", Answer("false")),
    ("pause(bigint)", "pause(JOB)", Error("NSNOF")),
    (
        "pause_schedule(bigint)",
        "pause_schedule((select schedule_id from lab.bobs))",
        Error("NSNOF"),
    ),
    // Of another's job it shows the load alone; `queue.rs` looks at its columns.
    ("queue()", "", Pure),
    ("release(bigint)", "release(JOB)", Error("NSNOF")),
    (
        "remove_schedule(bigint)",
        "remove_schedule((select schedule_id from lab.bobs))",
        Error("NSNOF"),
    ),
    ("resume(bigint)", "resume(JOB)", Error("NSNOF")),
    (
        "resume_schedule(bigint)",
        "resume_schedule((select schedule_id from lab.bobs))",
        Error("NSNOF"),
    ),
    ("retry(bigint,text)", "retry(JOB)", Error("NSNOF")),
    ("submit(jsonb,text,text,boolean)", "submit('{}'::jsonb, 'blue')", Error("NSREF")),
    ("submit(text,text,text,boolean)", "submit('x', 'blue')", Error("NSREF")),
    ("usage_now(double precision)", "", Pure),
    ("versions()", "", Pure),
    ("waits_for(bigint)", "waits_for(JOB)", Answer("")),
    ("way_on(job_state,boolean,boolean,text)", "", Pure),
    ("worker_state(timestamp with time zone,boolean)", "", Pure),
];

/// By `lab_worker2`, with the lease of `lab_worker`.
const OF_WORKERS: &[(&str, &str, Outcome)] = &[
    ("claim(bigint,integer,integer)", "claim(WORKER, 1, 30000)", Error("NSWRK")),
    (
        "fail(bigint,bigint,integer,bigint,text,text,jsonb,text)",
        "fail(LEASE, 'x', 'x')",
        Answer("false"),
    ),
    ("finish(bigint,bigint,integer,bigint,jsonb,text)", "finish(LEASE)", Answer("false")),
    (
        "finished(bigint,bigint,integer,bigint,bigint,integer)",
        "finished(LEASE, -1, 10)",
        Error("NSLST"),
    ),
    ("inputs(bigint,bigint,integer,bigint,bigint,bigint)", "inputs(LEASE, 0, 10)", Error("NSLST")),
    ("job_info(bigint,bigint,integer,bigint)", "job_info(LEASE)", Answer("")),
    ("leave(bigint)", "leave(WORKER)", Answer("false")),
    (
        "progress(bigint,bigint,integer,bigint,jsonb,bigint[],text,jsonb)",
        "progress(LEASE, '[]', '{}', 'mine')",
        Answer("stop"),
    ),
    ("register(integer,integer,text,jsonb,jsonb)", "", Pure),
    ("release(bigint,bigint,integer,bigint,jsonb,text)", "release(LEASE)", Answer("false")),
    (
        "report(bigint,jsonb)",
        r#"report(WORKER, '[{"what": "finish", "job": JOB, "shard": SHARD, "token": TOKEN}]')"#,
        Answer("{stop}"),
    ),
    (
        "report(bigint,jsonb,text[],bigint[],integer[],bigint[],text[],text[],text[],text[],integer[],bigint[],text[],bytea[],bigint[],text[],text[],text[],text[],text[],bigint[],bytea[],integer[],integer[],integer[],jsonb[],jsonb[])",
        r#"report(WORKER, null, '{finish}', '{JOB}', '{SHARD}', '{TOKEN}', '{"{}"}', '{null}', '{null}', '{null}', '{0}',
            null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null)"#,
        Answer("{stop}"),
    ),
    ("versions()", "", Pure),
];

/// By `lab_scheduler`, in a term that is over.
const OF_SCHEDULERS: &[(&str, &str, Outcome)] = &[
    (
        "add_chunk(bigint,bigint,bigint,integer,bytea)",
        "add_chunk(0, JOB, 0, 1, '')",
        Error("NSLDR"),
    ),
    (
        "advance_schedule(bigint,bigint,bigint,bigint,date)",
        "advance_schedule(0, 1, null, 0, '2026-11-26')",
        Error("NSLDR"),
    ),
    ("figures()", "", Pure),
    ("keep_events(bigint)", "keep_events(0)", Error("NSLDR")),
    ("lead(text,integer)", "lead('another', 30000)", Answer("")),
    ("notify_refusal(bigint,bigint,jsonb)", "notify_refusal(0, JOB, '[]')", Error("NSLDR")),
    ("open_windows(bigint,jsonb)", "open_windows(0, '[]')", Error("NSLDR")),
    ("planned(bigint,bigint,jsonb)", "planned(0, JOB, '{}')", Error("NSLDR")),
    ("recur(bigint,bigint,text,text,text,text)", "recur(0, JOB, 'x', 'x', 'wait')", Error("NSLDR")),
    ("rejected(bigint,bigint,text,text,text)", "rejected(0, JOB, 'x')", Error("NSLDR")),
    ("resign(bigint)", "resign(0)", Error("NSLDR")),
    ("schedules_due(bigint)", "schedules_due(0)", Error("NSLDR")),
    ("submitted(bigint,integer)", "submitted(0, 10)", Error("NSLDR")),
    ("tick(bigint)", "tick(0)", Error("NSLDR")),
    ("versions()", "", Pure),
    (
        "webhook_told(bigint,bigint,integer,integer,text)",
        "webhook_told(0, 1, 1, 200, null)",
        Error("NSLDR"),
    ),
    ("webhooks_due(bigint,integer)", "webhooks_due(0, 10)", Error("NSLDR")),
    ("windows_due(bigint)", "windows_due(0)", Error("NSLDR")),
];

/// A job of one tenant with finished items, a log, an attempt and events, a second lease of it that runs, and a schedule.
async fn job_of(lab: &Lab, store: &Store, tenant: &str) -> Lease {
    let submission = Submission {
        spec: format!("of {tenant}"),
        tenant: Some(tenant.to_owned()),
        ..Submission::default()
    };
    let job = store.submit(&submission).await.unwrap();
    let mut plan = plan(job);
    plan.resolved["notify"] =
        serde_json::json!([{"webhook": "https://hooks.test/a", "events": ["started"]}]);
    lab.scheduler.planned(&lab.term, job, &plan).await.unwrap();
    let worker = lab.register("w").await;
    let mut lease = lab.claim(worker).await;
    assert_eq!(lease.job, job);
    let said = Report { log: Some("secret".to_owned()), ..Report::default() };
    lab.worker.progress(&mut lease, &said).await.unwrap();
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    let running = lab.claim(worker).await;
    store.hold(job).await.unwrap();
    let first_run = store.submit(&submission).await.unwrap();
    let made =
        lab.scheduler.recur(&lab.term, first_run, "nightly", "edit", "0 21 * * * UTC", "wait");
    assert!(made.await.unwrap());
    running
}

/// The world, with bob's running lease.
async fn world() -> (Lab, Lease) {
    let lab = Lab::new().await;
    job_of(&lab, &lab.alice, "default").await;
    let lease = job_of(&lab, &lab.bob, "blue").await;
    lab.sql(
        "create table lab.bobs as select id as tenant_id, (select max(id) from nightshift.schedule) as schedule_id
            from nightshift.tenant where name = 'blue';
        grant usage on schema lab to public;
        grant select on lab.bobs to public",
    )
    .await;
    (lab, lease)
}

/// Names of relations, the readable ones of a group or all.
async fn relations(lab: &Lab, readable_by: Option<&str>) -> Vec<String> {
    let condition = readable_by.map_or_else(
        || "true".to_owned(),
        |group| format!("has_any_column_privilege('{group}', c.oid, 'select')"),
    );
    let names = lab
        .text(&format!(
            "select string_agg(relname, ' ' order by relname) from pg_class c
            where relnamespace = 'nightshift'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') and {condition}"
        ))
        .await;
    names.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn every_relation_shows_a_tenant_its_own_rows_only() {
    let (lab, lease) = world().await;
    let readable = relations(&lab, Some("nightshift_tenant")).await;
    let rules: Vec<&str> = RELATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(readable, rules, "each relation that tenants may read has a rule in RELATIONS");
    for (name, rows) in RELATIONS {
        let Rows::Of(theirs) = rows else { continue };
        let theirs = theirs.replace("JOB", &lease.job.to_string());
        let count = async |login: Option<&str>, condition: &str| -> String {
            let query = format!("select count(*)::text from nightshift.{name} where {condition}");
            lab.text_as(login, &query).await.unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let all = count(None, &theirs).await;
        assert_ne!(all, "0", "{name}: the world has no row of bob's in it");
        assert_eq!(count(Some("lab_bob"), &theirs).await, all, "{name}");
        assert_eq!(count(Some("lab_user"), &theirs).await, "0", "{name}");
        assert_ne!(count(Some("lab_user"), "true").await, "0", "{name}");
        assert_eq!(count(Some("lab_nobody"), "true").await, "0", "{name}");
    }
}

#[tokio::test]
async fn every_other_relation_is_closed_and_none_can_be_written() {
    let (lab, _) = world().await;
    let readable = relations(&lab, Some("nightshift_tenant")).await;
    for group in ["nightshift_worker", "nightshift_scheduler"] {
        assert_eq!(relations(&lab, Some(group)).await, [""; 0], "{group}");
    }
    let before = digest(&lab).await;
    for login in ["lab_user", "lab_worker", "lab_scheduler"] {
        for relation in relations(&lab, None).await {
            let column = lab
                .text(&format!(
                    "select attname::text from pg_attribute where attrelid = 'nightshift.{relation}'::regclass and attnum = 1"
                ))
                .await;
            let mut attempts = vec![
                format!("insert into nightshift.{relation} default values"),
                format!("update nightshift.{relation} set {column} = default"),
                format!("delete from nightshift.{relation}"),
                format!("truncate nightshift.{relation}"),
                format!("lock table nightshift.{relation} in exclusive mode"),
                format!(
                    "create trigger t after insert on nightshift.{relation} execute function nightshift.check_move('job')"
                ),
            ];
            if login != "lab_user" || !readable.contains(&relation) {
                attempts.push(format!("select count(*) from nightshift.{relation}"));
            }
            denied(&lab, login, &attempts).await;
        }
        let sequences = lab
            .text("select string_agg(relname, ' ') from pg_class where relnamespace = 'nightshift'::regnamespace and relkind = 'S'")
            .await;
        for sequence in sequences.split(' ') {
            let name = format!("'nightshift.{sequence}'");
            denied(
                &lab,
                login,
                &[
                    format!("select nextval({name})"),
                    format!("select setval({name}, 1)"),
                    format!("select last_value from nightshift.{sequence}"),
                ],
            )
            .await;
        }
    }
    assert_eq!(digest(&lab).await, before);
}

/// All attempts of a login, on one connection: none may succeed, and only for want of a right.
async fn denied(lab: &Lab, login: &str, attempts: &[String]) {
    let attempts: Vec<String> =
        attempts.iter().map(|statement| format!("$s${statement}$s$")).collect();
    // 42501 is a missing right. Some statements do not fit a view or an identity at all (42809, 55000, 428C9).
    lab.sql_as(
        Some(login),
        &format!(
            "do $do$ declare s text; begin
                foreach s in array array[{}] loop
                    begin
                        execute s;
                        raise 'it worked: %', s using errcode = 'P0001';
                    exception when insufficient_privilege or wrong_object_type or object_not_in_prerequisite_state or generated_always then null;
                    end;
                end loop;
            end $do$",
            attempts.join(", ")
        ),
    )
    .await
    .unwrap_or_else(|error| panic!("{login}: {error}"));
}

#[tokio::test]
async fn every_function_refuses_what_is_anothers() {
    let (lab, lease) = world().await;
    let worker = lab.text("select max(id)::text from nightshift.worker").await;
    let fill = |call: &str| {
        call.replace("LEASE", "WORKER, JOB, SHARD, TOKEN")
            .replace("WORKER", &worker)
            .replace("JOB", &lease.job.to_string())
            .replace("SHARD", &lease.shard.to_string())
            .replace("TOKEN", &lease.token.to_string())
    };
    // The rightful owners are not refused: the calls themselves are good.
    let progress = format!("select nightshift.{}", fill("progress(LEASE)"));
    let answer = lab.text_as(Some("lab_worker"), &progress).await.unwrap();
    assert_eq!(answer, "continue");
    let before = digest(&lab).await;
    for (group, login, rules) in [
        ("nightshift_tenant", "lab_user", OF_TENANTS),
        ("nightshift_worker", "lab_worker2", OF_WORKERS),
        ("nightshift_scheduler", "lab_scheduler", OF_SCHEDULERS),
    ] {
        let callable = lab
            .text(&format!(
                "select string_agg(replace(oid::regprocedure::text, 'nightshift.', '') , '; ' order by oid::regprocedure::text collate \"C\") from pg_proc
                where pronamespace = 'nightshift'::regnamespace and has_function_privilege('{group}', oid, 'execute')"
            ))
            .await;
        let names: Vec<String> =
            rules.iter().map(|(name, ..)| name.replace("nightshift.", "")).collect();
        assert_eq!(
            callable.split("; ").collect::<Vec<_>>(),
            names,
            "each function that {group} may call has a rule, in this order"
        );
        for (name, call, outcome) in rules {
            let query = format!("select (nightshift.{})::text", fill(call));
            match outcome {
                Pure => continue,
                Answer(expected) => {
                    let answer = lab.text_as(Some(login), &query).await;
                    assert_eq!(answer.unwrap(), *expected, "{login}: {name}");
                }
                Error(code) => {
                    let error = lab.text_as(Some(login), &query).await.expect_err(name);
                    let found = error.as_database_error().and_then(|e| e.code());
                    assert_eq!(found.as_deref(), Some(*code), "{login}: {name}: {error}");
                }
            }
        }
    }
    assert_eq!(digest(&lab).await, before, "something was written");
}

#[tokio::test]
async fn every_other_function_is_closed() {
    let lab = Lab::new().await;
    for (group, login) in [
        ("nightshift_tenant", "lab_user"),
        ("nightshift_worker", "lab_worker"),
        ("nightshift_scheduler", "lab_scheduler"),
    ] {
        let calls = lab
            .text(&format!(
                "select string_agg(format('select %s(%s)', oid::regproc, (select string_agg('null::' || format_type(t, null), ', ' order by n)
                    from unnest(proargtypes) with ordinality as a (t, n))), E'\\n')
                from pg_proc where pronamespace = 'nightshift'::regnamespace and not has_function_privilege('{group}', oid, 'execute')"
            ))
            .await;
        let calls: Vec<String> = calls.lines().map(str::to_owned).collect();
        assert!(calls.len() > 40, "{group} may call nearly everything");
        denied(&lab, login, &calls).await;
    }
}

/// A digest of all rows of all tables.
async fn digest(lab: &Lab) -> String {
    lab.text(
        "select md5(string_agg(query_to_xml(format('select t::text from nightshift.%I t order by 1', relname), true, true, '')::text, '' order by relname))
        from pg_class where relnamespace = 'nightshift'::regnamespace and relkind = 'r'",
    )
    .await
}
