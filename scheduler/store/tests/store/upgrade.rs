//! A database of an earlier schema, with jobs in it, becomes one of today.

use std::path::Path;

use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

use crate::lab::Lab;

/// The last schema in which jobs held their own texts.
const EARLIER: i64 = 30;

/// A job of each kind that the tables tell apart: rejected, ready, submitted, and two of them with the same text.
const JOBS: &str = r#"
    select nightshift.set_prefixes('default', '{}', '{s3://out/}');
    select nightshift.submit('one'), nightshift.submit('one'), nightshift.submit('two');
    select nightshift.rejected(nightshift.lead('test', 600000), 1, 'bad');
    select nightshift.planned(nightshift.lead('test', 600000), 2, '{"name": "j", "kind": "edit", "labels": {}, "resolved": {"kind": "edit"},
        "warnings": "", "dest": "s3://out/2/", "on_existing": "refuse", "inputs": [], "model_key": "m/int4/bf16", "allow_mixed": false,
        "priority": 50, "n_rows": 0, "n_items": 10, "shard_items": 1, "max_attempts": 3}')"#;

#[tokio::test]
async fn jobs_of_an_earlier_schema_stay_what_they_are() {
    let lab = Lab::new().await;
    lab.sql("create database lab_earlier").await;
    let url = lab.url(None);
    let url = format!("{}/lab_earlier", url.rsplit_once('/').unwrap().0);
    let mut earlier = PgConnection::connect(&url).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let mut migrator = Migrator::new(folder).await.unwrap();
    (migrator.migrations.to_mut()).retain(|migration| migration.version <= EARLIER);
    migrator.run(&mut earlier).await.unwrap();
    sqlx::raw_sql(JOBS).execute(&mut earlier).await.unwrap();

    nightshift_store::migrate(&url).await.unwrap();

    let jobs: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', j.id, j.state, j.priority, s.spec_text, s.resolved, c.open) from nightshift.jobs j
            join nightshift.specs s on s.job_id = j.id left join nightshift.job_cursor c on c.job_id = j.id order by j.id",
    )
    .fetch_all(&mut earlier)
    .await
    .unwrap();
    let expected =
        ["1 rejected 0 one", r#"2 ready 50 one {"kind": "edit"} t"#, "3 submitted 0 two"];
    assert_eq!(jobs, expected);
    earlier.close().await.unwrap();
    lab.sql("drop database lab_earlier").await;
}
