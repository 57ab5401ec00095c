//! Databases of earlier releases become ones of today: each release has a dump beside this file, with jobs in every state.
//!
//! `NIGHTSHIFT_WRITE_RELEASE=1` makes [`this_release_can_be_dumped_and_upgraded`] write that of the current one.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::read::GzDecoder;
use flate2::{Compression, write::GzEncoder};
use nightshift_store::{
    DatabaseConfig, Error, File, JobState, Only, Plan, Report, SCHEMA, Schema, Store, migrate,
    migrate_to,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::lab::{LEASE, Lab, all_ok, failed, ok, report};

/// What people read of jobs, in a fixed order.
const JOBS: &str = "select string_agg(concat_ws(' ', id, name, state, held, n_items, n_ok, n_failed, round, errors, reason), E'\\n' order by id) from nightshift.jobs";
const ITEMS: &str =
    "select string_agg(to_jsonb(i)::text, E'\\n' order by job_id, index) from nightshift.items i";

/// A database beside that of the lab; gone when it is dropped by name.
struct Beside<'a> {
    lab: &'a Lab,
    url: String,
}

impl<'a> Beside<'a> {
    async fn new(lab: &'a Lab, name: &str) -> Self {
        let ours = lab.url(None);
        let (cluster, database) = ours.rsplit_once('/').unwrap();
        let name = format!("{database}_{name}");
        lab.sql(&format!("create database {name}")).await;
        Self { lab, url: format!("{cluster}/{name}") }
    }

    async fn run(&self, statements: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let statements = AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn text(&self, query: &str) -> String {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let query = AssertSqlSafe(query.to_owned());
        let text: Option<String> =
            sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        text.unwrap_or_default()
    }

    /// The catalogue as text: see `catalogue.sql`.
    async fn catalogue(&self) -> Vec<String> {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let lines = sqlx::query_scalar(include_str!("catalogue.sql"))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        lines
    }

    async fn store(&self, login: &str) -> Store {
        let (_, database) = self.url.rsplit_once('/').unwrap();
        let url = self.lab.url(Some(login));
        let (server, _) = url.rsplit_once('/').unwrap();
        Store::connect(&DatabaseConfig::new(format!("{server}/{database}"))).await.unwrap()
    }

    async fn drop(self) {
        let (_, name) = self.url.rsplit_once('/').unwrap();
        self.lab.sql(&format!("drop database {name} with (force)")).await;
    }
}

/// Jobs in every state, with leases, failed items, a held one and a schedule.
async fn jobs_in_every_state(lab: &Lab) {
    let worker = lab.register("w").await;
    lab.ready(3, 2).await;
    lab.run_all(worker).await;
    let with_errors = lab.ready(4, 4).await;
    let lease = lab.claim(worker).await;
    let items = vec![ok(0), failed(1, "bad_input"), ok(2), failed(3, "bad_input")];
    lab.worker.finish(&lease, &report(items)).await.unwrap();
    lab.run_all(worker).await;
    assert_eq!(lab.job(with_errors).await.state, JobState::FinishedWithErrors);
    let failing = lab.ready_with(|plan| Plan { n_items: 1, max_attempts: 1, ..plan }).await;
    let lease = lab.claim(worker).await;
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    let close = lab.claim(worker).await;
    lab.worker
        .fail(&close, &Report::default(), "denied", "the bucket refuses writes")
        .await
        .unwrap();
    assert_eq!(lab.job(failing).await.state, JobState::Failed);
    let cancelled = lab.submitted().await;
    lab.alice.cancel(cancelled).await.unwrap();
    let rejected = lab.submitted().await;
    lab.scheduler
        .rejected(&lab.term, rejected, "no such kind", Some("r"), Some("edit"))
        .await
        .unwrap();
    lab.submitted().await;
    let scheduled = lab.submitted().await;
    let recur = format!(
        "select nightshift.recur({}, {scheduled}, 'nightly', '0 3 * * *', 'wait', 'edit')",
        lab.term.term
    );
    lab.sql_as(Some("lab_scheduler"), &recur).await.unwrap();
    // Later ones go first, so that each claim takes the job that was just made.
    let urgent = |priority| move |plan| Plan { priority, n_items: 10, ..plan };
    lab.ready_with(urgent(1)).await;
    let lease = lab.claim(worker).await;
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    lab.claim(worker).await;
    let cancelling = lab.ready_with(urgent(2)).await;
    lab.claim(worker).await;
    lab.alice.cancel(cancelling).await.unwrap();
    lab.ready_with(|plan| Plan { priority: 3, n_items: 4, ..plan }).await;
    let lease = lab.claim(worker).await;
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    let paused = lab.ready(2, 2).await;
    lab.alice.pause(paused).await.unwrap();
    let held = lab.ready(2, 2).await;
    lab.alice.hold(held).await.unwrap();
    let states = lab
        .text(
            "select string_agg(distinct state::text, ' ' order by state::text) from nightshift.job",
        )
        .await;
    let mut all: Vec<_> = JobState::ALL.iter().map(|state| state.as_str()).collect();
    all.sort_unstable();
    assert_eq!(states, all.join(" "), "a job in every state");
}

/// All jobs of [`jobs_in_every_state`] go on to their ends.
async fn everything_goes_on(database: &Beside<'_>) {
    let scheduler = database.store("lab_scheduler").await;
    // The leader of that time is gone, or its term still runs, or nobody ever led.
    database.run("update nightshift.leader set leads_until = '-infinity'").await;
    let term = scheduler.lead("upgraded", Duration::from_secs(3600)).await.unwrap().unwrap();
    database.run("update nightshift.shard set leased_until = nightshift.clock() - interval '1 minute' where state = 'leased'").await;
    let (worker, alice) = (database.store("lab_worker").await, database.store("lab_user").await);
    for (state, step) in [("paused", "resume"), ("failed", "retry"), ("ready", "release")] {
        let jobs = database.text(&format!("select string_agg(id::text, ' ') from nightshift.job where state = '{state}' and (state <> 'ready' or held)")).await;
        for job in jobs.split(' ').map(|id| id.parse().unwrap()) {
            match step {
                "resume" => alice.resume(job).await.map(drop),
                "retry" => alice.retry(job, &Only::Failed).await.map(drop),
                _ => alice.unhold(job).await.map(drop),
            }
            .unwrap();
        }
    }
    scheduler.tick(&term).await.unwrap();
    let registration = nightshift_store::Registration {
        name: "later".to_owned(),
        models: [(crate::lab::MODEL.to_owned(), "f00d".to_owned())].into(),
        info: serde_json::json!({}),
    };
    let id = worker.register(&registration).await.unwrap();
    database.run("set search_path = nightshift; update shard set ready_at = clock() where state = 'waiting'; select mark_job(id) from job").await;
    while let Some(lease) = worker.claim(id, 1, LEASE).await.unwrap().pop() {
        worker.finish(&lease, &all_ok(&lease)).await.unwrap();
        scheduler.tick(&term).await.unwrap();
    }
    let states = database.text("select string_agg(state || ' ' || n, ', ' order by state::text) from (select state, count(*) as n from nightshift.job group by 1) s").await;
    assert_eq!(states, "cancelled 2, finished 6, finished_with_errors 1, rejected 1, submitted 2");
}

/// The schema as the next release might have it: one column more, a function with another argument, one view changed.
struct Next {
    tables: Vec<(String, String)>,
    functions: Vec<(String, String)>,
    views: Vec<(String, String)>,
    upgrades: Vec<(String, String)>,
}

impl Next {
    fn new() -> Self {
        let owned = |files: &[File<'_>]| -> Vec<(String, String)> {
            files.iter().map(|file| (file.name.to_owned(), file.sql.to_owned())).collect()
        };
        let now = Schema::CURRENT;
        let mut next = Self {
            tables: owned(now.tables),
            functions: owned(now.functions),
            views: owned(now.views),
            upgrades: owned(now.upgrades),
        };
        let change = |files: &mut [(String, String)], name: &str, from: &str, to: &str| {
            let (_, sql) = files.iter_mut().find(|(other, _)| other == name).unwrap();
            assert!(sql.contains(from), "{name} has {from:?}");
            *sql = sql.replacen(from, to, 1);
        };
        const COMMENT: &str = "comment on column tenant.colour is 'Colour in charts.';\n";
        change(
            &mut next.tables,
            "02_tenant",
            "secret_names text[] not null default '{}'\n",
            "secret_names text[] not null default '{}',\n    colour text not null default 'grey'\n",
        );
        change(
            &mut next.tables,
            "02_tenant",
            "alter table tenant enable",
            &format!("{COMMENT}alter table tenant enable"),
        );
        change(
            &mut next.functions,
            "claim",
            "function leave(worker bigint)",
            "function leave(worker bigint, why text default null)",
        );
        change(
            &mut next.functions,
            "claim",
            "comment on function leave(bigint) is\n    'A worker",
            "comment on function leave(bigint, text) is\n    'Some worker",
        );
        change(
            &mut next.functions,
            "claim",
            "grant execute on function leave(bigint)",
            "grant execute on function leave(bigint, text)",
        );
        let number = next.upgrades.len() + 2;
        next.upgrades.push((
            format!("{number:04}_colour"),
            format!("set local role nightshift_owner;\nset local search_path = nightshift, pg_temp;\nalter table tenant add column if not exists colour text not null default 'grey';\n{COMMENT}drop function if exists leave(bigint);\nreset search_path;\nreset role;\n"),
        ));
        next
    }

    async fn migrate(&self, url: &str) -> Result<(), Error> {
        let files = |of: &[(String, String)]| -> Vec<File<'static>> {
            of.iter()
                .map(|(name, sql)| File { name: name.clone().leak(), sql: sql.clone().leak() })
                .collect()
        };
        let (tables, functions, views, upgrades) = (
            files(&self.tables),
            files(&self.functions),
            files(&self.views),
            files(&self.upgrades),
        );
        let schema =
            Schema { tables: &tables, functions: &functions, views: &views, upgrades: &upgrades };
        migrate_to(url, schema).await
    }
}

fn releases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/releases")
}

/// `psql` or `pg_dump`, fed with a text.
fn client(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feed = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    drop(feed.join().unwrap());
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The whole database as statements. Lines that older clients do not know, or that name versions, are left out.
fn dump(url: &str) -> String {
    let dump = client("pg_dump", &["--no-sync", url], "");
    let mut kept = String::new();
    for line in dump.lines().filter(|line| {
        !line.starts_with("\\restrict")
            && !line.starts_with("\\unrestrict")
            && !line.starts_with("--")
            && !line.starts_with("SET transaction_timeout")
    }) {
        writeln!(kept, "{line}").unwrap();
    }
    kept
}

async fn restore(database: &Beside<'_>, dump: &str) {
    client("psql", &["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &database.url], dump);
    // Logins belong to the cluster; those of the lab have the same names.
    database.run("analyze").await;
}

/// A dump becomes a database of today, and of tomorrow; nothing that people read changes, and its jobs go on.
async fn upgrades(lab: &Lab, name: &str, dump: &str) {
    let next = Next::new();
    for (release, tomorrow) in [("today", false), ("tomorrow", true)] {
        let old = Beside::new(lab, &format!("{name}_{release}")).await;
        restore(&old, dump).await;
        let before = (old.text(JOBS).await, old.text(ITEMS).await);
        let fresh = Beside::new(lab, &format!("{name}_{release}_fresh")).await;
        for url in [&old.url, &fresh.url] {
            match tomorrow {
                true => next.migrate(url).await.unwrap(),
                false => migrate(url).await.unwrap(),
            }
        }
        let (is, should) = (old.catalogue().await, fresh.catalogue().await);
        let differ: Vec<_> = is
            .iter()
            .filter(|line| !should.contains(line))
            .chain(should.iter().filter(|line| !is.contains(line)))
            .collect();
        assert!(differ.is_empty(), "{name} upgraded to {release} is not a fresh one: {differ:#?}");
        assert_eq!((old.text(JOBS).await, old.text(ITEMS).await), before, "{name} to {release}");
        // Once more, by the same program and by hand: nothing changes.
        let marks = "select string_agg(m::text, ' ' order by number) from nightshift.migration m";
        let marked = old.text(marks).await;
        match tomorrow {
            true => next.migrate(&old.url).await.unwrap(),
            false => migrate(&old.url).await.unwrap(),
        }
        assert_eq!(old.text(marks).await, marked, "{name}: nothing was applied again");
        for (_, sql) in
            next.upgrades.iter().take(if tomorrow { usize::MAX } else { next.upgrades.len() - 1 })
        {
            old.run(&format!("begin; {sql}; commit")).await;
        }
        // Dropped functions would be back only if an upgrade undid what the release has.
        assert_eq!(old.catalogue().await, is, "{name}: each upgrade runs twice without effect");
        everything_goes_on(&old).await;
        if tomorrow {
            let error = migrate(&old.url).await.unwrap_err();
            let words = format!(
                "the database was migrated by a newer nightshift: it has upgrade {:04}_colour, and this program knows {SCHEMA}",
                SCHEMA + 1
            );
            assert_eq!(error.to_string(), words);
            let mut edited = Next::new();
            edited.upgrades.last_mut().unwrap().1.push_str("-- edited\n");
            let error = edited.migrate(&old.url).await.unwrap_err();
            assert!(error.to_string().ends_with("is not the one of this program"), "{error}");
        }
        old.drop().await;
        fresh.drop().await;
    }
}

#[tokio::test]
async fn this_release_can_be_dumped_and_upgraded() {
    let lab = Lab::new().await;
    jobs_in_every_state(&lab).await;
    // As a user's database is: without the lab's clock.
    let foundation =
        Schema::CURRENT.functions.iter().find(|file| file.name == "foundation").unwrap();
    lab.sql(&format!("begin; {} commit; drop schema lab cascade", foundation.sql)).await;
    let dump = dump(&lab.url(None));
    if std::env::var_os("NIGHTSHIFT_WRITE_RELEASE").is_some() {
        std::fs::create_dir_all(releases()).unwrap();
        let file = std::fs::File::create(releases().join(format!("{SCHEMA:04}.sql.gz"))).unwrap();
        let mut gz = GzEncoder::new(file, Compression::best());
        gz.write_all(dump.as_bytes()).unwrap();
        gz.finish().unwrap();
    }
    upgrades(&lab, "this", &dump).await;
}

#[tokio::test]
async fn every_release_can_be_upgraded() {
    let lab = Lab::new().await;
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(releases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(!found.is_empty(), "{} holds the dumps of releases", releases().display());
    for path in found {
        let mut dump = String::new();
        GzDecoder::new(std::fs::File::open(&path).unwrap()).read_to_string(&mut dump).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        upgrades(&lab, &format!("release_{}", &name[..4]), &dump).await;
    }
}

#[tokio::test]
async fn what_cannot_hold_the_schema_is_refused_in_words() {
    let lab = Lab::new().await;
    let refusal = async |name: &str, options: &str, statements: &str| {
        let ours = lab.url(None);
        let (cluster, database) = ours.rsplit_once('/').unwrap();
        let name = format!("{database}_{name}");
        lab.sql(&format!("create database {name} {options}")).await;
        let database = Beside { lab: &lab, url: format!("{cluster}/{name}") };
        database.run(statements).await;
        let error = migrate(&database.url).await.unwrap_err();
        database.drop().await;
        error.to_string()
    };
    assert_eq!(
        refusal(
            "latin",
            "encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0",
            "select 1"
        )
        .await,
        "this database has the encoding LATIN1, and nightshift needs UTF8"
    );
    assert_eq!(
        refusal("foreign", "", "create schema nightshift; create table nightshift.job (id int)")
            .await,
        "this database has a schema `nightshift` that nightshift did not make"
    );
    let before = "create schema nightshift; create function nightshift.versions(out protocol int, out protocol_oldest int, out schema int)
        language sql as $$ select 1, 1, 41 $$";
    assert_eq!(
        refusal("before", "", before).await,
        "this database was made by a nightshift from before the first release and cannot be upgraded"
    );
}
