//! Bad pictures are failed items with a code; the job finishes with errors, and nothing crashes or grows.

use std::collections::BTreeMap;

use nightshift_store::{ItemStatus, JobState};
use nightshift_tests::{System, specs};

use crate::kinds::photo;

/// A PNG header that announces 60,000 x 60,000 pixels of one bit, with a valid checksum and no data to speak of.
fn huge_png() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 60_000, 60_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let writer = encoder.write_header().unwrap();
    drop(writer);
    bytes
}

/// Largest resident set of a process so far, in MiB.
fn peak_mib(process: &nightshift_tests::Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pictures_fail_by_code_and_the_rest_is_made() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let mut worker = system.worker("worker", 2);
    let coffee = photo("coffee.jpg");
    system.put("in/1-good.jpg", coffee.clone()).await;
    system.put("in/2-empty.jpg", Vec::new()).await;
    system.put("in/3-half.jpg", coffee[..coffee.len() / 2].to_vec()).await;
    system.put("in/4-text.png", "this is not a picture\n".as_bytes().to_vec()).await;
    system.put("in/5-huge.png", huge_png()).await;
    system.put("in/6-good.png", photo("chelsea.png")).await;

    let job = system.submit(&specs::depth("bad", "s3://lab/in/", "s3://lab/bad/")).await;
    let view = system.wait(job).await;
    assert_eq!(view.state, JobState::FinishedWithErrors, "{view:?}");
    let codes: BTreeMap<i64, Option<String>> = system
        .items(job)
        .await
        .into_iter()
        .map(|row| (row.index, (row.status != ItemStatus::Ok).then(|| row.error_code.unwrap())))
        .collect();
    let code = |text: &str| Some(text.to_owned());
    assert_eq!(
        codes.into_values().collect::<Vec<_>>(),
        [
            None,
            code("not_an_image"),
            code("truncated_image"),
            code("not_an_image"),
            code("too_many_pixels"),
            None
        ]
    );
    assert!(worker.runs(), "the worker lives");
    assert!(peak_mib(&worker) < 500, "the worker grew to {} MiB", peak_mib(&worker));

    let waited = system.command("lab_user", &["wait", &job.to_string()]).status().unwrap();
    assert_eq!(waited.code(), Some(1), "wait says that items failed");
    let errors =
        String::from_utf8(system.read("bad/_nightshift/errors.jsonl").await.unwrap()).unwrap();
    assert_eq!(errors.lines().count(), 4, "{errors}");
    assert!(errors.contains("too_many_pixels"), "{errors}");
    assert!(system.read("bad/_nightshift/_SUCCESS").await.is_some(), "all items are final");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_items_alone_are_retried_when_their_input_is_mended() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let worker = system.worker("worker", 2);
    system.put("in/1.jpg", photo("coffee.jpg")).await;
    system.put("in/list.jsonl", "{\"id\":\"a\",\"image\":\"s3://lab/in/1.jpg\"}\n{\"id\":\"b\",\"image\":\"s3://lab/in/2.jpg\"}\n").await;
    let spec = specs::depth("mended", "s3://lab/in/", "s3://lab/mended/").replace(
        "prefix: \"s3://lab/in/\"",
        "manifest: \"s3://lab/in/list.jsonl\", columns: {image: image, id: id}",
    );
    let job = system.submit(&spec).await;
    let view = system.wait(job).await;
    assert_eq!(
        (view.state, view.n_ok, view.n_failed),
        (JobState::FinishedWithErrors, 1, 1),
        "{view:?}"
    );

    system.put("in/2.jpg", photo("coffee.jpg")).await;
    let retried = system.command("lab_user", &["retry", &job.to_string()]).status().unwrap();
    assert!(retried.success());
    let view = system.until(job, "the job finishes", |view| view.state == JobState::Finished).await;
    assert_eq!((view.n_ok, view.n_failed), (2, 0));
    assert_eq!(
        worker.output().matches("picture drawn").count(),
        2,
        "the good item was not drawn again"
    );
    let metadata = system.read("mended/_nightshift/manifest.jsonl").await.unwrap();
    assert_eq!(String::from_utf8(metadata).unwrap().lines().count(), 2);
}
