//! Whole jobs: what stands at the destination, and what happens at one that is in use.

use nightshift_objects::sha256_hex;
use nightshift_store::{ItemStatus, JobState};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;

use crate::lab::{Lab, pictures};

#[tokio::test]
async fn a_small_job_leaves_a_whole_destination() {
    let lab = Lab::new().await;
    let job = lab.job(&pictures("small", ""), &[]).await;
    let worker = lab.worker(2);
    assert_eq!(lab.ended(job).await, JobState::Finished);

    let items = lab.items(job).await;
    assert_eq!(items.len(), 6);
    assert_eq!(worker.script.finished(), 6);
    for item in &items {
        assert_eq!(item.report.status, ItemStatus::Ok);
        let artifact = &item.report.artifacts[0];
        let body = lab.get(&format!("s3://output/small/{}", artifact.key)).await;
        let sha256 = sha256_hex(&body);
        assert_eq!((body.len() as i64, sha256), (artifact.bytes, artifact.sha256.clone()));
        assert!(item.report.gpu_ms.is_some() && item.report.tokens == Some(64));
    }
    let manifest = lab.lines("s3://output/small/_nightshift/manifest.jsonl").await;
    assert_eq!(manifest.len(), 6);
    assert_eq!(manifest[0]["key"], "data/cat_0.png");
    assert_eq!(lab.lines("s3://output/small/_nightshift/items.jsonl").await.len(), 6);
    assert!(lab.lines("s3://output/small/_nightshift/errors.jsonl").await.is_empty());
    let success = lab.lines("s3://output/small/_nightshift/_SUCCESS").await;
    assert_eq!(success[0]["items"]["ok"], 6);
    assert_eq!(
        lab.get("s3://output/small/_nightshift/spec.yaml").await,
        pictures("small", "").into_bytes()
    );

    let table = bytes::Bytes::from(lab.get("s3://output/small/metadata.parquet").await);
    let reader = SerializedFileReader::new(table).unwrap();
    let names: Vec<_> = reader
        .metadata()
        .file_metadata()
        .schema()
        .get_fields()
        .iter()
        .map(|f| f.name().to_owned())
        .collect();
    let column = |name: &str| names.iter().position(|n| n == name).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[3].get_string(column("file_name")).unwrap(), "data/fog_0.png");
    assert_eq!(rows[3].get_string(column("text")).unwrap(), "fog, später");
    assert_eq!(rows[3].get_long(column("width")).unwrap(), 64);

    let log = lab.user.logs(job, None, 0).await.unwrap();
    let log: String = log.into_iter().map(|line| line.text).collect();
    assert!(log.contains("item 3 ok data/fog_0.png"), "{log}");
    let health = lab.user.workers().await.unwrap()[0].health.clone();
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    let pace = &health["item_ms"][job.to_string()];
    assert!(pace.as_f64() >= Some(1.0), "{health}");
}

#[tokio::test]
async fn the_same_spec_makes_the_same_bytes_elsewhere() {
    let lab = Lab::new().await;
    let one = lab.job(&pictures("one", ""), &[]).await;
    let two = lab.job(&pictures("two", ""), &[]).await;
    let _worker = lab.worker(3);
    assert_eq!(
        (lab.ended(one).await, lab.ended(two).await),
        (JobState::Finished, JobState::Finished)
    );
    let first = lab.get("s3://output/one/data/fog_1.png").await;
    assert_eq!(first, lab.get("s3://output/two/data/fog_1.png").await);
    let texts = nightshift_engine::image::png::read_texts(&first);
    let text = |key: &str| texts.iter().find(|text| text.key == key).unwrap().value.clone();
    assert!(text("parameters").starts_with("fog, später\nSeed: "), "{}", text("parameters"));
    let facts: serde_json::Value = serde_json::from_str(&text("nightshift")).unwrap();
    assert_eq!(
        facts["prompt"],
        "Generate an image of 64x64 according to the following prompt:\nfog, später"
    );
}

#[tokio::test]
async fn the_models_window_of_coupled_decoding_is_recorded() {
    let lab = Lab::new().await;
    let spec = |name: &str, window: &str| {
        pictures(name, ", metadata: {sidecar: jsonl}")
            + &format!("sampler: {{decoding: coupled, window: {window}}}\n")
    };
    let _worker = lab.worker(2);
    for (name, window, recorded) in [("models", "auto", 24), ("own", "7", 7)] {
        let job = lab.job(&spec(name, window), &[]).await;
        assert_eq!(lab.ended(job).await, JobState::Finished);
        let info = lab.items(job).await[0].report.info.clone().unwrap();
        assert_eq!(info["window"], recorded);
        let table = lab.lines(&format!("s3://output/{name}/metadata.jsonl")).await;
        assert_eq!(table[0]["window"], recorded.to_string());
        let picture = lab.get(&format!("s3://output/{name}/data/cat_0.png")).await;
        let texts = nightshift_engine::image::png::read_texts(&picture);
        let facts = texts.iter().find(|text| text.key == "nightshift").unwrap();
        let facts: serde_json::Value = serde_json::from_str(&facts.value).unwrap();
        assert_eq!(facts["sampler"]["window"]["fixed"], recorded);
    }
}

#[tokio::test]
async fn a_destination_of_another_job_is_refused_resumed_or_overwritten() {
    let lab = Lab::new().await;
    let worker = lab.worker(2);
    let first = lab.job(&pictures("shared", ""), &[]).await;
    assert_eq!(lab.ended(first).await, JobState::Finished);

    // The database refuses this at planning; the worker must not rely on it (another database, another bucket's copy).
    let plan = lab.lines("s3://output/shared/_nightshift/_SUCCESS").await;
    assert_eq!(plan.len(), 1);
    let resume = pictures("shared", ", on_existing: resume");
    let second = lab.job(&resume, &[]).await;
    assert_eq!(lab.ended(second).await, JobState::Finished);
    assert_eq!(worker.script.finished(), 6, "everything was adopted");

    let other = resume
        .replace("a cat", "a dog")
        .replace("resume", "overwrite")
        .replace("images_per_prompt: 3", "images_per_prompt: 1");
    let third = lab.job(&other, &[]).await;
    assert_eq!(lab.ended(third).await, JobState::Finished);
    let keys = lab.keys("s3://output/shared/data/").await;
    assert_eq!(
        keys,
        ["shared/data/cat_0.png", "shared/data/fog_0.png"],
        "what the manifest no longer names is gone"
    );
    let fresh = lab.job(&pictures("fresh", ""), &[]).await;
    assert_eq!(lab.ended(fresh).await, JobState::Finished);
    assert_eq!(
        lab.get("s3://output/fresh/data/fog_0.png").await.len(),
        lab.get("s3://output/shared/data/fog_0.png").await.len()
    );
}

#[tokio::test]
async fn a_foreign_plan_stops_the_job_and_a_foreign_object_its_item() {
    let lab = Lab::new().await;
    lab.put(
        "s3://output/taken/_nightshift/plan.json",
        b"{\"owner\":{\"job\":77,\"name\":\"older\"}}",
    )
    .await;
    lab.put("s3://output/mine/data/cat_1.png", b"a picture of somebody").await;
    let taken = lab
        .job_with(&pictures("taken", ""), &[], |plan| nightshift_store::Plan {
            max_attempts: 1,
            ..plan
        })
        .await;
    let mine = lab.job(&pictures("mine", ""), &[]).await;
    let _worker = lab.worker(2);
    assert_eq!(lab.ended(mine).await, JobState::FinishedWithErrors);
    assert_eq!(lab.codes(mine).await, [(1, "key_conflict".to_owned())].into());
    assert_eq!(lab.get("s3://output/mine/data/cat_1.png").await, b"a picture of somebody");
    lab.ended(taken).await;
    assert!(
        lab.codes(taken).await.values().all(|code| code == "dest_taken"),
        "{:?}",
        lab.codes(taken).await
    );
    assert_eq!(lab.keys("s3://output/taken/data/").await.len(), 0);
    let message = lab.items(taken).await[0].report.error_message.clone().unwrap();
    assert!(message.contains("job 77 (older)"), "{message}");
}

#[tokio::test]
async fn a_retried_job_makes_only_what_failed() {
    let lab = Lab::new().await;
    let spec = pictures("again", "").replace("a cat", "refuse! a cat");
    let job = lab.job(&spec, &[]).await;
    let worker = lab.worker(2);
    assert_eq!(lab.ended(job).await, JobState::FinishedWithErrors);
    assert_eq!(lab.lines("s3://output/again/_nightshift/errors.jsonl").await.len(), 3);
    assert_eq!(lab.codes(job).await.len(), 3);
    assert_eq!(worker.script.finished(), 3);
    assert_eq!(lab.user.retry(job, &nightshift_store::Only::Failed).await.unwrap(), 3);
    assert_eq!(lab.ended(job).await, JobState::FinishedWithErrors);
    assert_eq!(worker.script.finished(), 3, "what was ok is not made again");
    assert_eq!(lab.lines("s3://output/again/_nightshift/_SUCCESS").await[0]["items"]["failed"], 3);
}

#[tokio::test]
async fn a_panic_of_the_engine_fails_its_item_and_the_second_ends_the_worker() {
    let lab = Lab::new().await;
    let one = pictures("one", "")
        .replace("a cat", "panic! a cat")
        .replace("images_per_prompt: 3", "images_per_prompt: 1");
    let job = lab.job(&one, &[]).await;
    let mut worker = lab.worker(1);
    assert_eq!(lab.ended(job).await, JobState::FinishedWithErrors);
    assert_eq!(lab.codes(job).await, [(0, "engine_panic".to_owned())].into());
    let many = pictures("many", "").replace("a cat", "panic! a cat");
    lab.job(&many, &[]).await;
    let ended = worker.ended().await;
    assert!(matches!(ended, Err(nightshift_worker::WorkerError::EngineDied)), "{ended:?}");
}
