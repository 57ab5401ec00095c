//! What refuses for a while (the store, the destination, the worker's own machine) fails no item and costs no attempt.

use std::time::Duration;

use nightshift_engine::image::png;
use nightshift_jobs::InputRow;
use nightshift_store::{AttemptOutcome, JobState};

use crate::gateway::Gateway;
use crate::lab::{Lab, Worker, pictures, until};

/// No attempt failed or was lost, every item is ok.
async fn unharmed(lab: &Lab, job: i64, items: usize) {
    let view = lab.user.job(job).await.unwrap();
    assert_eq!((view.n_failed, view.n_skipped), (0, 0), "{view:?}");
    assert_eq!(lab.items(job).await.len(), items);
    for attempt in lab.user.attempts(job, 100).await.unwrap() {
        let fine = [Some(AttemptOutcome::Finished), Some(AttemptOutcome::Released)];
        assert!(fine.contains(&attempt.outcome), "{attempt:?}");
    }
}

async fn behind(lab: &Lab, gateway: &Gateway, slots: usize) -> Worker {
    lab.worker_through(&gateway.endpoint(), slots, |_| ()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_refuses_for_a_while_costs_nothing() {
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let refusals = [
        ("denied", "403 Forbidden", "AccessDenied"),
        ("busy", "503 Service Unavailable", "ServiceUnavailable"),
        ("full", "507 Insufficient Storage", "InsufficientStorage"),
        ("cloudy", "520 Unknown Error", "Unknown"),
        ("digest", "400 Bad Request", "BadDigest"),
        ("bucket", "404 Not Found", "NoSuchBucket"),
    ];
    let mut jobs = Vec::new();
    for (name, status, code) in refusals {
        let path = format!("/output/{name}/data/");
        gateway.refuse("PUT", &path, status, code);
        jobs.push((lab.job(&pictures(name, ""), &[]).await, path));
    }
    // One for each shard: a shard that waits keeps its slots.
    let mut workers = Vec::new();
    for _ in 0..2 * refusals.len() {
        workers.push(behind(&lab, &gateway, 4).await);
    }
    for (_, path) in &jobs {
        until(&format!("{path} is refused"), || async {
            (gateway.refused(path) >= 6).then_some(())
        })
        .await;
    }
    let told = until("the worker tells", || async {
        let workers = lab.user.workers().await.ok()?;
        let told = workers.iter().map(|worker| worker.health["troubles"].to_string());
        let told: String = told.collect();
        told.contains("AccessDenied").then_some(told)
    })
    .await;
    assert!(told.contains(r#""bucket":"output""#) && told.contains(r#""doing":"write""#), "{told}");
    for (job, path) in &jobs {
        assert!(lab.items(*job).await.is_empty());
        gateway.heal(path);
    }
    for (job, _) in jobs {
        assert_eq!(lab.ended(job).await, JobState::Finished);
        unharmed(&lab, job, 6).await;
    }
    until("nothing is told any more", || async {
        let workers = lab.user.workers().await.ok()?;
        let told = |health: &serde_json::Value| health["troubles"].to_string().contains("bucket");
        (!workers.iter().any(|worker| told(&worker.health))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_destination_that_refuses_at_the_beginning_or_at_the_end_costs_nothing() {
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    for (name, method, path) in [
        ("plan", "PUT", "/output/plan/_nightshift/plan.json"),
        ("list", "GET", "prefix=list"),
        ("table", "PUT", "/output/table/metadata.parquet"),
        ("success", "PUT", "/output/success/_nightshift/_SUCCESS"),
    ] {
        let _worker = behind(&lab, &gateway, 4).await;
        gateway.refuse(method, path, "403 Forbidden", "AccessDenied");
        let job = lab.job(&pictures(name, ""), &[]).await;
        until(path, || async { (gateway.refused(path) >= 4).then_some(()) }).await;
        assert!(!lab.user.job(job).await.unwrap().state.is_final());
        gateway.heal(path);
        assert_eq!(lab.ended(job).await, JobState::Finished, "{path}");
        unharmed(&lab, job, 6).await;
    }
}

fn predictions(name: &str) -> String {
    format!(
        "apiVersion: nightshift/v1
kind: dense_prediction
metadata: {{name: {name}}}
input: {{prefix: \"s3://input/{name}/\", on_bad_input: skip}}
predict: {{targets: [depth], panel: 64x64, seeds: [0]}}
model: {{name: nano, weights: f32, kv_cache: f32}}
output: {{dest: \"s3://output/{name}/\"}}
"
    )
}

async fn inputs(lab: &Lab, name: &str, n: u32) -> Vec<InputRow> {
    let mut rows = Vec::new();
    for index in 0..n {
        let pixels: Vec<u8> = (0..300).map(|n| (n * (index + 1)) as u8).collect();
        let uri = format!("s3://input/{name}/{index}.png");
        lab.put(&uri, &png::write(png::Pixels::Rgb8(&pixels), 10, 10, &[])).await;
        let (uri, path) = (Some(uri), Some(index.to_string()));
        rows.push(InputRow { index: index.into(), uri, path, ..InputRow::default() });
    }
    rows
}

#[tokio::test]
async fn what_all_inputs_meet_is_no_bad_input() {
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let _worker = behind(&lab, &gateway, 2).await;
    for (name, status, code) in
        [("hidden", "403 Forbidden", "AccessDenied"), ("nowhere", "404 Not Found", "NoSuchBucket")]
    {
        let rows = inputs(&lab, name, 3).await;
        let path = format!("/input/{name}/");
        for method in ["GET", "HEAD"] {
            gateway.refuse(method, &path, status, code);
        }
        let job = lab.job(&predictions(name), &rows).await;
        until(&path, || async { (gateway.refused(&path) >= 8).then_some(()) }).await;
        assert!(lab.items(job).await.is_empty(), "nobody is skipped");
        gateway.heal(&path);
        assert_eq!(lab.ended(job).await, JobState::Finished);
        unharmed(&lab, job, 3).await;
    }
    // One that alone is refused is a bad input: some stores say so of what does not exist.
    let rows = inputs(&lab, "one", 3).await;
    for method in ["GET", "HEAD"] {
        gateway.refuse(method, "/input/one/0.png", "403 Forbidden", "AccessDenied");
    }
    let job = lab.job(&predictions("one"), &rows).await;
    assert_eq!(lab.ended(job).await, JobState::Finished);
    assert_eq!(lab.codes(job).await.into_iter().collect::<Vec<_>>(), [(0, "input_denied".into())]);
}

#[tokio::test]
async fn a_machine_in_trouble_gives_its_work_back() {
    let lab = Lab::new().await;
    let rows = inputs(&lab, "machine", 3).await;
    let job = lab.job(&predictions("machine"), &rows).await;
    // The program is not there (replaced, deleted), and the folder for spooled files is none.
    let (decoder, spool) = (lab.scratch().join("decoder"), lab.scratch().join("no-folder"));
    std::fs::write(&spool, "a file").unwrap();
    let (program, folder) = (decoder.clone(), spool.clone());
    let _worker = lab.worker_with(2, |config| {
        config.decoder = program;
        config.spool = folder;
    });
    let released = async |kind: &str, least: usize| {
        until(&format!("{kind}: {least} leases were given back"), || async {
            let attempts = lab.user.attempts(job, 100).await.ok()?;
            let given_back = |outcome| outcome == Some(AttemptOutcome::Released);
            (attempts.iter().filter(|a| given_back(a.outcome)).count() >= least).then_some(())
        })
        .await;
    };
    released("no decoder", 2).await;
    assert!(lab.items(job).await.is_empty());
    let workers = lab.user.workers().await.unwrap();
    assert!(workers[0].health["machine"].to_string().contains("cannot start"), "{workers:?}");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_nightshift-decode-image"), &decoder).unwrap();
    until("the items are there", || async { (lab.items(job).await.len() == 3).then_some(()) })
        .await;
    let before = lab.user.attempts(job, 100).await.unwrap().len();
    released("no spool", before + 1).await;
    std::fs::remove_file(&spool).unwrap();
    assert_eq!(lab.ended(job).await, JobState::Finished);
    unharmed(&lab, job, 3).await;
    let told = || async {
        let workers = lab.user.workers().await.ok()?;
        workers[0].health["machine"].is_null().then_some(())
    };
    // It says so with its next report.
    let next = lab.job(&pictures("next", ""), &[]).await;
    assert_eq!(lab.ended(next).await, JobState::Finished);
    until("the machine is well", told).await;
}

/// A refusal that stays is no reason to stay when asked to go.
#[tokio::test]
async fn a_worker_ends_in_time_while_the_store_refuses() {
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let path = "/output/leave/data/";
    gateway.refuse("PUT", path, "403 Forbidden", "AccessDenied");
    let job = lab.job(&pictures("leave", ""), &[]).await;
    let mut worker = lab
        .worker_through(&gateway.endpoint(), 2, |config| config.grace = Duration::from_secs(1))
        .await;
    until(path, || async { (gateway.refused(path) >= 2).then_some(()) }).await;
    worker.handle.signal();
    tokio::time::timeout(Duration::from_secs(6), worker.ended()).await.unwrap().unwrap();
    assert!(lab.items(job).await.is_empty());
    gateway.heal(path);
    let _other = lab.worker(2);
    assert_eq!(lab.ended(job).await, JobState::Finished);
    unharmed(&lab, job, 6).await;
}
