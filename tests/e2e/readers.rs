//! A finished destination, downloaded as it is, opens with Pillow, pyarrow and Hugging Face datasets.

use std::path::Path;
use std::process::Command;

use nightshift_store::JobState;
use nightshift_tests::{System, specs};

/// Where `ops/test` put a Python that has the packages of `tests/readers/requirements.txt`.
const PYTHON_VARIABLE: &str = "NIGHTSHIFT_READERS_PYTHON";

#[tokio::test(flavor = "multi_thread")]
async fn other_people_s_readers_open_a_destination() {
    let Ok(python) = std::env::var(PYTHON_VARIABLE) else {
        eprintln!(
            "skipped: {PYTHON_VARIABLE} is not set; ./ops/test installs the readers and sets it"
        );
        return;
    };
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let _worker = system.worker("worker", 2);
    for name in ["chelsea.png", "coffee.jpg", "clock.jpg"] {
        system.put(&format!("in/{name}"), crate::kinds::photo(name)).await;
    }
    let jobs = [
        (specs::prompts("words", 4, "s3://lab/words/"), "words/", 4),
        (specs::depth("depth", "s3://lab/in/", "s3://lab/depth/"), "depth/", 3),
    ];
    for (spec, prefix, rows) in jobs {
        let job = system.submit(&spec).await;
        assert_eq!(system.wait(job).await.state, JobState::Finished);
        let copy = system.folder.path().join("copy").join(prefix);
        system.download(prefix, &copy).await;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/read.py");
        let output = Command::new(&python).arg(script).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(found["rows"], rows, "{found}");
        assert_eq!(found["dataset_rows"], rows, "{found}");
        let columns = found["columns"].to_string();
        for column in [
            "file_name",
            "text",
            "item_id",
            "seed",
            "sha256",
            "prompt",
            "model_id",
            "fingerprint",
            "status",
        ] {
            assert!(columns.contains(&format!("\"{column}\"")), "no column {column} in {columns}");
        }
    }
}
