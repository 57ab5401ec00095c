//! All six kinds in their simplest form, and the promise that bytes do not depend on how the work was done.

use std::collections::BTreeMap;
use std::path::Path;

use nightshift_store::{ItemStatus, JobState};
use nightshift_tests::{System, specs};

/// Photographs under free licences.
pub(crate) fn photo(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("photographs");
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The example that this build runs for a kind, with inputs and destination in the bucket of the tests.
fn example(kind: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/specs");
    let text = std::fs::read_to_string(folder.join(format!("small_{kind}.yaml"))).unwrap();
    let text = text
        .replace("s3://nightshift/quickstart/", "s3://lab/in/")
        .replace("s3://nightshift/subjects/", "s3://lab/in/subjects/")
        .replace("s3://nightshift/", "s3://lab/out/");
    text.replace("{name: nano}", "{name: tiny, weights: f32, kv_cache: f32}")
}

/// Role -> width, height of the pictures of a job that are stored as PNG.
fn sizes(job: &[(String, Vec<u8>)]) -> BTreeMap<String, (u32, u32)> {
    job.iter()
        .map(|(role, bytes)| {
            let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
            (role.clone(), (reader.info().width, reader.info().height))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_runs() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let _worker = system.worker("worker", 2);
    for folder in ["scenes", "maps", "subjects/cat"] {
        system.put(&format!("in/{folder}/chelsea.png"), photo("chelsea.png")).await;
        system.put(&format!("in/{folder}/coffee.jpg"), photo("coffee.jpg")).await;
    }
    let kinds = [
        ("text_to_image", vec!["image"]),
        ("image_pairs", vec!["image", "map"]),
        ("subject_set", vec!["image"]),
        ("edit", vec!["image"]),
        ("controllable", vec!["control", "image"]),
        ("dense_prediction", vec!["map"]),
    ];
    for (kind, roles) in kinds {
        let job = system.submit(&example(kind)).await;
        let view = system.wait(job).await;
        let rows = system.items(job).await;
        assert_eq!(view.state, JobState::Finished, "{kind}: {view:?}\n{rows:?}");
        assert_eq!(view.kind.as_deref(), Some(kind));
        let dest = view.dest.unwrap();
        let dest = dest.strip_prefix("s3://lab/").unwrap();
        let mut pictures = Vec::new();
        for row in &rows {
            assert_eq!(row.status, ItemStatus::Ok, "{kind}: {row:?}");
            for artifact in &row.artifacts {
                let bytes = system.read(&format!("{dest}{}", artifact.key)).await.unwrap();
                pictures.push((artifact.role.clone(), bytes));
            }
        }
        let sizes = sizes(&pictures);
        let found: Vec<&str> =
            sizes.keys().map(String::as_str).filter(|role| *role != "joint").collect();
        assert_eq!(found, roles, "{kind}");
        for name in [
            "spec.yaml",
            "plan.json",
            "manifest.jsonl",
            "items.jsonl",
            "errors.jsonl",
            "stats.json",
            "_SUCCESS",
        ] {
            assert!(
                system.read(&format!("{dest}_nightshift/{name}")).await.is_some(),
                "{kind}: no {name}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_spec_gives_the_same_bytes_however_it_is_worked() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let mut sums = Vec::new();
    for (run, slots, threads) in [(1, 1, "1"), (2, 3, "2")] {
        let mut command = system.command("lab_worker", &["worker", "--slots", &slots.to_string()]);
        let mut worker = nightshift_tests::Process::start(
            &format!("worker-{run}"),
            system.folder.path(),
            command.env("NIGHTSHIFT_WORKER_THREADS", threads),
        );
        let dest = format!("s3://lab/same-{run}/");
        let job = system.submit(&specs::sized_prompts("same", 4, "64x64", &dest)).await;
        assert_eq!(system.wait(job).await.state, JobState::Finished);
        let rows = system.items(job).await;
        sums.push(rows.iter().map(|row| row.artifacts[0].sha256.clone()).collect::<Vec<_>>());
        worker.kill();
    }
    assert_eq!(sums[0].len(), 4);
    assert_eq!(sums[0], sums[1]);
    let distinct: std::collections::BTreeSet<_> = sums[0].iter().collect();
    assert_eq!(distinct.len(), 4, "different prompts give different pictures");
}

/// Pixels of a stored PNG.
fn pixels(bytes: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_format_and_decoder_runs_and_jacobi_draws_what_sequential_draws() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let _worker = system.worker("worker", 2);
    let mut drawn = BTreeMap::new();
    for (name, model, decoding) in [
        ("plain", "weights: f32, kv_cache: f32", "sequential"),
        ("windows", "weights: f32, kv_cache: f32", "jacobi"),
        ("defaults", "", "jacobi"),
        ("small", "weights: bf16, kv_cache: int8", "coupled"),
    ] {
        let spec = specs::sized_prompts(name, 2, "64x64", &format!("s3://lab/{name}/"))
            .replace("weights: f32, kv_cache: f32", model)
            .replace("model: {", &format!("sampler: {{decoding: {decoding}}}\nmodel: {{"))
            .replace("tiny, }", "tiny}");
        let job = system.submit(&spec).await;
        let view = system.wait(job).await;
        assert_eq!(view.state, JobState::Finished, "{name}: {view:?}");
        let mut pictures = Vec::new();
        for row in system.items(job).await {
            let key = format!("{name}/{}", row.artifacts[0].key);
            pictures.push(pixels(&system.read(&key).await.unwrap()));
        }
        drawn.insert(name, pictures);
    }
    assert_eq!(drawn["plain"], drawn["windows"]);
    assert_ne!(drawn["plain"], drawn["defaults"], "4-bit weights are other weights");
}
