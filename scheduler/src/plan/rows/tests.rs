use nightshift_local::S3Server;
use nightshift_objects::{Put, StoreConfig};

use super::*;

const SPEC: &str = "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {name: test}\ninput: {manifest: s3://inputs/x.jsonl}\n\
    generate: {size: 64x64, seeds: [1]}\noutput: {dest: s3://outputs/x/}\n";

/// An object store with these objects in the bucket `inputs`.
async fn store_of(objects_in: &[(&str, String)]) -> (Objects, S3Server, tempfile::TempDir) {
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
    for (key, body) in objects_in {
        let uri = format!("s3://inputs/{key}").parse().unwrap();
        let body = body.clone().into();
        objects.put(&uri, body, &Put::default()).await.unwrap();
    }
    (objects, server, folder)
}

/// How many rows a manifest of these lines has, or the words of what is wrong, with room for four ids in memory.
async fn read(lines: &[&str]) -> Result<u64, String> {
    let (objects, _server, _folder) = store_of(&[("x.jsonl", lines.join("\n"))]).await;
    count(&objects, SPEC).await
}

async fn count(objects: &Objects, spec: &str) -> Result<u64, String> {
    let parsed = nightshift_jobs::parse("spec.yaml", spec).unwrap();
    let mut rows = Rows::open(Some(objects), &parsed).await.map_err(told)?;
    for seen in [&mut rows.ids, &mut rows.keys] {
        *seen = seen.as_ref().map(|_| Duplicates::with_room(4));
    }
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
    let with_ids: Vec<String> =
        (1..=20).map(|line| format!(r#"{{"id": "row-{line}", "prompt": "a"}}"#)).collect();
    let mut lines: Vec<&str> = with_ids.iter().map(String::as_str).collect();
    assert_eq!(read(&lines).await, Ok(20));
    lines[17] = &with_ids[2];
    let words = read(&lines).await.unwrap_err();
    assert!(words.contains("x.jsonl:18:1"), "{words}");
    assert!(words.contains("id \"row-3\" was already used on line 3"), "{words}");
    lines[4] = &with_ids[3];
    let words = read(&lines).await.unwrap_err();
    assert!(words.contains("id \"row-4\" was already used on line 4"), "{words}");
}

#[tokio::test]
async fn a_row_without_an_id_is_known_by_its_content() {
    let prompts: Vec<String> =
        (1..=20).map(|line| format!(r#"{{"prompt": "number {line}"}}"#)).collect();
    let mut lines: Vec<&str> = prompts.iter().map(String::as_str).collect();
    assert_eq!(read(&lines).await, Ok(20));
    lines[19] = &prompts[0];
    let words = read(&lines).await.unwrap_err();
    assert!(words.contains("this row is the same as the one on line 1"), "{words}");
}

#[tokio::test]
async fn a_key_that_several_rows_give_is_found_however_far_apart_they_are() {
    let named = SPEC.replace(
        "dest: s3://outputs/x/",
        "dest: s3://outputs/x/, name: \"{{ row.name }}.{{ ext }}\"",
    );
    let names = |repeated: &[usize]| {
        let line = |n: usize| {
            let name = if repeated.contains(&n) { 3 } else { n };
            format!(r#"{{"id": "row-{n}", "prompt": "a", "name": "n{name}"}}"#)
        };
        (1..=20).map(line).collect::<Vec<_>>().join("\n")
    };
    for (repeated, items) in [(&[5][..], 2), (&[17], 2), (&[9, 17, 20], 4)] {
        let (objects, _server, _folder) = store_of(&[("x.jsonl", names(repeated))]).await;
        let words = count(&objects, &named).await.unwrap_err();
        let wanted = format!("output.name gives the same key for {items} items (e.g. \"n3.png\")");
        assert!(words.contains(&wanted), "{repeated:?}: {words}");
        assert_eq!(count(&objects, SPEC).await, Ok(20));
    }
    let (objects, _server, _folder) = store_of(&[("x.jsonl", names(&[]))]).await;
    assert_eq!(count(&objects, &named).await, Ok(20));
}

#[tokio::test]
async fn objects_that_differ_in_their_extension_alone_need_it_in_the_name() {
    let spec = |name: &str| {
        format!(
            "apiVersion: nightshift/v1\nkind: dense_prediction\nmetadata: {{name: test}}\ninput: {{prefix: s3://inputs/}}\n\
             predict: {{targets: [depth], panel: 64x64}}\noutput: {{dest: s3://outputs/x/, name: \"{name}_{{{{ map }}}}.{{{{ ext }}}}\"}}\n"
        )
    };
    let files = ["a.png", "b.png", "a.jpg"].map(|key| (key, String::new()));
    let (objects, _server, _folder) = store_of(&files).await;
    let words = count(&objects, &spec("{{ input.stem }}")).await.unwrap_err();
    assert!(
        words.contains("the same key for 2 items (e.g. \"a_depth.png\")")
            && words.contains("help: add {{ input.file }}"),
        "{words}"
    );
    assert_eq!(count(&objects, &spec("{{ input.file }}")).await, Ok(3));
}
