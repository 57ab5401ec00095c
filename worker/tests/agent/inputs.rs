//! Given pictures: good ones reach the engine, bad ones are errors of their items.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nightshift_engine::image::png;
use nightshift_jobs::InputRow;
use nightshift_store::{ItemStatus, JobState};

use crate::lab::Lab;

fn spec(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: nightshift/v1
kind: dense_prediction
metadata: {{name: {name}}}
input: {{prefix: \"s3://input/{name}/\"{extra}}}
predict: {{targets: [depth, normal], panel: 64x64, fit: pad, restore: input_size, seeds: [0]}}
model: {{name: nano, weights: f32, kv_cache: f32}}
output: {{dest: \"s3://output/{name}/\"}}
"
    )
}

fn picture(width: u32, height: u32) -> Vec<u8> {
    let pixels: Vec<u8> = (0..width * height).flat_map(|n| [n as u8, (n / 7) as u8, 200]).collect();
    png::write(png::Pixels::Rgb8(&pixels), width, height, &[])
}

fn jpeg() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let noise = image::RgbImage::from_fn(200, 150, |x, y| {
        image::Rgb([(x * 7) as u8, (y * 13) as u8, (x * y) as u8])
    });
    noise.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// A PNG whose header promises 60,000 x 60,000 pixels.
fn bomb() -> Vec<u8> {
    let mut bytes = picture(8, 8);
    bytes[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    bytes
}

/// Stores pictures below `s3://input/{name}/` and returns their rows.
async fn store(lab: &Lab, name: &str, pictures: &[(&str, Vec<u8>)]) -> Vec<InputRow> {
    let mut rows = Vec::new();
    for (index, (key, body)) in pictures.iter().enumerate() {
        let uri = format!("s3://input/{name}/{key}");
        lab.put(&uri, body).await;
        let there = lab.objects.head(&uri.parse().unwrap()).await.unwrap().unwrap();
        rows.push(InputRow {
            index: index as u64,
            uri: Some(uri),
            path: Some(key.split('.').next().unwrap().to_owned()),
            etag: Some(there.etag),
            bytes: Some(there.bytes),
            ..InputRow::default()
        });
    }
    rows
}

#[tokio::test]
async fn bad_images_are_failed_items_and_good_ones_are_not_touched_by_them() {
    let lab = Lab::new().await;
    let half = jpeg()[..jpeg().len() / 2].to_vec();
    let bad = [
        ("empty.jpg", Vec::new()),
        ("good.png", picture(100, 50)),
        ("half.jpg", half),
        ("text.png", b"<html>not found</html>".to_vec()),
        ("bomb.png", bomb()),
        ("changed.png", picture(10, 10)),
        ("gone.png", picture(10, 11)),
        ("fine.jpg", jpeg()),
    ];
    let rows = store(&lab, "bad", &bad).await;
    lab.put("s3://input/bad/changed.png", &picture(12, 12)).await;
    lab.objects.delete(&"s3://input/bad/gone.png".parse().unwrap()).await.unwrap();
    let job = lab.job(&spec("bad", ""), &rows).await;
    let worker = lab.worker(2);
    assert_eq!(lab.ended(job).await, JobState::FinishedWithErrors);

    let code =
        |index: i64, code: &str| [(2 * index, code.to_owned()), (2 * index + 1, code.to_owned())];
    let expected = [
        code(0, "not_an_image"),
        code(2, "truncated_image"),
        code(3, "not_an_image"),
        code(4, "too_many_pixels"),
        code(5, "input_changed"),
        code(6, "input_missing"),
    ];
    assert_eq!(lab.codes(job).await, expected.into_iter().flatten().collect());
    assert_eq!(worker.script.finished(), 4);
    assert_eq!(lab.lines("s3://output/bad/_nightshift/errors.jsonl").await.len(), 12);

    let good = lab.items(job).await.into_iter().find(|item| item.report.index == 2).unwrap().report;
    let input = &good.info.unwrap()["input"];
    assert_eq!((&input["width"], &input["height"]), (&100.into(), &50.into()));
    // The prediction lies on the grid of the input.
    let body = lab.get(&format!("s3://output/bad/{}", good.artifacts[0].key)).await;
    let depth = image::load_from_memory(&body).unwrap();
    assert_eq!((depth.width(), depth.height(), depth.color()), (100, 50, image::ColorType::L16));
}

#[tokio::test]
async fn bad_inputs_can_be_skipped() {
    let lab = Lab::new().await;
    let rows = store(&lab, "skip", &[("a.png", picture(9, 9)), ("b.png", b"x".to_vec())]).await;
    let job = lab.job(&spec("skip", ", on_bad_input: skip"), &rows).await;
    let _worker = lab.worker(1);
    assert_eq!(lab.ended(job).await, JobState::Finished);
    let statuses: Vec<_> = lab.items(job).await.iter().map(|item| item.report.status).collect();
    use ItemStatus::{Ok, Skipped};
    assert_eq!(statuses, [Ok, Ok, Skipped, Skipped]);
}

#[tokio::test]
async fn a_decoder_that_dies_or_hangs_costs_its_item_only() {
    let lab = Lab::new().await;
    let script = |name: &str, text: &str| {
        let path = lab.scratch().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let dies = script("dies", "#!/bin/sh\nkill -9 $$\n");
    let hangs = script("hangs", "#!/bin/sh\nexec sleep 1000\n");
    for (name, decoder, code) in
        [("dies", dies, "decoder_died"), ("hangs", hangs, "decoder_timeout")]
    {
        let rows = store(&lab, name, &[("a.png", picture(9, 9))]).await;
        let job = lab.job(&spec(name, ""), &rows).await;
        let mut worker = lab.worker_with(1, |config| {
            config.decoder = decoder;
            config.input.wall = Duration::from_millis(500);
        });
        assert_eq!(lab.ended(job).await, JobState::FinishedWithErrors);
        assert_eq!(lab.codes(job).await.values().collect::<Vec<_>>(), [code, code]);
        worker.kill().await;
    }
}

#[tokio::test]
async fn inputs_outside_of_the_tenants_prefixes_are_not_read() {
    let lab = Lab::new().await;
    let rows = store(&lab, "secret", &[("a.png", picture(9, 9))]).await;
    let job = lab.job(&spec("secret", ""), &rows).await;
    // Another prefix begins like the folder of these.
    let inputs = ["s3://output/".to_owned(), "s3://input/sec".to_owned()];
    lab.admin.set_prefixes("default", &inputs, &inputs[..1]).await.unwrap();
    let _worker = lab.worker(1);
    assert_eq!(lab.ended(job).await, JobState::FinishedWithErrors);
    assert_eq!(lab.codes(job).await.len(), 2);
    assert!(lab.codes(job).await.values().all(|code| code == "input_forbidden"));
}
