//! Manifests of thousands of lines, through a real scheduler and object store.

use std::fmt::Write as _;

use nightshift_store::JobState;
use nightshift_tests::{System, psql};

const LINES: usize = 2_345;

fn spec(dest: &str) -> String {
    format!(
        "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: many}}\ninput: {{manifest: s3://lab/many.jsonl}}\n\
         generate: {{size: 32x32, seeds: [1, 2]}}\nmodel: {{name: tiny, weights: f32, kv_cache: f32}}\noutput: {{dest: \"{dest}\"}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_stored_in_chunks_of_a_thousand_rows() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let mut lines = String::new();
    for line in 0..LINES {
        writeln!(lines, r#"{{"id":"row-{line}","prompt":"number {line}"}}"#).unwrap();
    }
    system.put("many.jsonl", lines).await;
    let job = system.submit(&spec("s3://lab/many/")).await;
    let ready = |view: &nightshift_store::JobView| view.state == JobState::Ready;
    let view = system.until(job, "it is planned", ready).await;
    assert_eq!(view.n_items, Some(2 * LINES as i64));
    let sql = |query: &str| psql(&system.database.url(), query);
    let chunks = sql("select first_row, n_rows from nightshift.input_chunk order by 1");
    assert_eq!(chunks, "0|1000\n1000|1000\n2000|345");
    // Nothing is written for an item before it is claimed.
    let rows = sql(
        "select (select count(*) from nightshift.shard), (select count(*) from nightshift.item)",
    );
    assert_eq!(rows, "0|0");
    let written = sql("select count(*), count(distinct xmin::text) from nightshift.input_chunk");
    assert_eq!(written, "3|3", "each chunk is a transaction of its own");
}
