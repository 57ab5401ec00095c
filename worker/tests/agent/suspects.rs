//! Items that take their worker with them: found out, run alone, and failed; everything else is made.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nightshift_store::{
    AttemptOutcome, AttemptView, DatabaseConfig, JobState, LogLine, Plan, Policy, Registration,
    Report, ShardState, Store, Verdict,
};

use crate::lab::{Lab, MODEL, until, until_count};

/// Four prompts in one shard, the last as given.
fn four(name: &str, last: &str) -> String {
    let prompts = (0..4).map(|i| match i {
        3 => format!("    - {{id: r3, prompt: \"{last}\"}}\n"),
        _ => format!("    - {{id: r{i}, prompt: \"picture {i}\"}}\n"),
    });
    let rows: String = prompts.collect();
    format!(
        "apiVersion: nightshift/v1
kind: text_to_image
metadata: {{name: {name}}}
input:
  inline:
{rows}generate: {{size: 64x64, seeds: {{start: 1}}}}
model: {{name: nano, weights: f32, kv_cache: f32}}
output: {{dest: \"s3://output/{name}/\", name: \"{{{{ row.id }}}}.{{{{ ext }}}}\"}}
"
    )
}

fn at_once(plan: Plan) -> Plan {
    Plan { policy: Policy { backoff_ms: Some(0), ..Policy::default() }, ..plan }
}

fn process(lab: &Lab) -> Child {
    let s3 = lab.s3.as_ref().unwrap();
    Command::new(env!("CARGO_BIN_EXE_nightshift-scripted-worker"))
        .args([&lab.worker_url(), &s3.endpoint()])
        .args([s3.access_key(), s3.secret_key()])
        .arg(lab.scratch())
        .arg(env!("CARGO_BIN_EXE_nightshift-decode-image"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn an_item_that_kills_every_worker_fails_and_all_others_are_made() {
    let lab = Lab::new().await;
    let job = lab.job_with(&four("poison", "abort!"), &[], at_once).await;
    // A supervisor: a worker that died is started again.
    let mut worker = process(&lab);
    let mut deaths = 0;
    let state = until("the job ends", || {
        if let Some(status) = worker.try_wait().unwrap() {
            assert_eq!(status.signal(), Some(6), "{status}");
            deaths += 1;
            worker = process(&lab);
        }
        async { Some(lab.user.job(job).await.ok()?.state).filter(|state| state.is_final()) }
    })
    .await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(state, JobState::FinishedWithErrors);
    let codes: Vec<_> = lab.codes(job).await.into_iter().collect();
    assert_eq!(codes, [(3, "kills_worker".to_owned())]);
    assert_eq!(lab.items(job).await.len(), 4);
    assert_eq!(lab.keys("s3://output/poison/data/").await.len(), 3);
    let attempts = lab.user.attempts(job, 100).await.unwrap();
    let lost = |attempt: &&AttemptView| attempt.outcome == Some(AttemptOutcome::Lost);
    let lost = attempts.iter().filter(lost).count();
    assert_eq!(lost, deaths, "{attempts:?}");
    // Three that are held against it, after one of which nobody could know what was in the engine.
    assert!((3..=4).contains(&deaths), "{attempts:?}");
    let logs = lab.user.logs(job, None, 0).await.unwrap();
    let alone = |line: &&LogLine| line.text.contains("item 3 runs alone");
    assert_eq!(logs.iter().filter(alone).count(), 1, "{logs:?}");
}

#[tokio::test]
async fn an_item_that_is_to_be_alone_shares_the_engine_with_nobody() {
    let lab = Lab::new().await;
    let job = lab.job_with(&four("suspect", "suspect"), &[], at_once).await;
    // Two attempts are lost by somebody who says that the last item was in its engine.
    let database = DatabaseConfig::new(lab.worker_url());
    let store = Store::connect(&database).await.unwrap();
    let registration = Registration {
        name: "dying".to_owned(),
        models: [(MODEL.to_owned(), format!("{:064x}", 0x5c21_97ed))].into(),
        info: serde_json::json!({}),
    };
    let dying = store.register(&registration).await.unwrap();
    for _ in 0..2 {
        let mut lease = until("the shard can be claimed", || async {
            let claimed = store.claim(dying, 1, Duration::from_millis(200)).await;
            claimed.unwrap().pop()
        })
        .await;
        assert!(lease.alone.is_empty());
        let report = Report { in_flight: vec![3], ..Report::default() };
        let verdict = store.progress(&mut lease, &report).await.unwrap();
        assert_eq!(verdict, Verdict::Continue);
        until("the lease is lost", || async {
            let shards = lab.user.open_shards(job).await.unwrap();
            (shards[0].state == ShardState::Waiting).then_some(())
        })
        .await;
    }

    let worker = lab.worker(4);
    worker.script.allow(1);
    until("one is made and two are in their slots", || async {
        let view = lab.user.job(job).await.unwrap();
        ((view.n_ok, view.n_in_flight) == (1, 2)).then_some(())
    })
    .await;
    until_count("they entered", 3, || worker.script.admitted()).await;
    assert_eq!(
        worker.script.admitted(),
        3,
        "slots are free, and it waits for the others to leave theirs"
    );
    worker.script.open();
    assert_eq!(lab.ended(job).await, JobState::Finished);
    assert_eq!(worker.script.beside("suspect"), 0);
    assert!(worker.script.beside("picture") >= 1, "the others shared it");
}
