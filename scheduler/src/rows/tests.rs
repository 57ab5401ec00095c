use nightshift_local::S3Server;
use nightshift_objects::{Put, StoreConfig};

use super::*;

const SPEC: &str = "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {name: test}\ninput: {manifest: s3://inputs/x.jsonl}\n\
    generate: {size: 64x64, seeds: [1]}\noutput: {dest: s3://outputs/x/}\n";

/// How many rows a manifest of these lines has, or the words of what is wrong, with room for four ids in memory.
async fn read(lines: &[&str]) -> Result<u64, String> {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start(folder.path(), None).await.unwrap();
    let objects = Objects::connect(StoreConfig {
        endpoint: Some(server.endpoint()),
        access_key_id: Some(server.access_key().to_owned()),
        secret_access_key: Some(server.secret_key().to_owned()),
        ..StoreConfig::default()
    })
    .await
    .unwrap();
    objects.create_bucket("inputs").await.unwrap();
    let uri = "s3://inputs/x.jsonl".parse().unwrap();
    let body = lines.join("\n").into();
    objects.put(&uri, body, &Put::default()).await.unwrap();
    let parsed = nightshift_jobs::parse("spec.yaml", SPEC).unwrap();
    let mut rows = Rows::open(Some(&objects), &parsed).await.map_err(told)?;
    rows.ids = Some(Duplicates::with_room(4));
    while rows.next().await.map_err(told)?.is_some() {}
    Ok(rows.given)
}

fn told(error: RowError) -> String {
    match error {
        RowError::Problem(problem) => problem.render("spec.yaml", SPEC),
        RowError::Objects(error) => error.to_string(),
        RowError::Disk(error) => error.to_string(),
    }
}

#[tokio::test]
async fn an_id_is_known_again_however_far_above_it_stood() {
    let with_ids: Vec<String> = (1..=20)
        .map(|line| format!(r#"{{"id": "row-{line}", "prompt": "a"}}"#))
        .collect();
    let mut lines: Vec<&str> = with_ids.iter().map(String::as_str).collect();
    assert_eq!(read(&lines).await, Ok(20));
    lines[17] = &with_ids[2];
    let words = read(&lines).await.unwrap_err();
    assert!(words.contains("x.jsonl:18:1"), "{words}");
    assert!(
        words.contains("id \"row-3\" was already used on line 3"),
        "{words}"
    );
    lines[4] = &with_ids[3];
    let words = read(&lines).await.unwrap_err();
    assert!(
        words.contains("id \"row-4\" was already used on line 4"),
        "{words}"
    );
}

#[tokio::test]
async fn a_row_without_an_id_is_known_by_its_content() {
    let prompts: Vec<String> = (1..=20)
        .map(|line| format!(r#"{{"prompt": "number {line}"}}"#))
        .collect();
    let mut lines: Vec<&str> = prompts.iter().map(String::as_str).collect();
    assert_eq!(read(&lines).await, Ok(20));
    lines[19] = &prompts[0];
    let words = read(&lines).await.unwrap_err();
    assert!(
        words.contains("this row is the same as the one on line 1"),
        "{words}"
    );
}
