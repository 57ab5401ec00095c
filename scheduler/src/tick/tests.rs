//! The scheduler against a real Postgres and a real object store.

use std::net::SocketAddr;

use bytes::Bytes;
use nightshift_lab::{Database, SCHEDULER, USER};
use nightshift_local::S3Server;
use nightshift_objects::{Put, S3Uri, StoreConfig};
use nightshift_store::{JobState, JobView, Submission};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::plan::chunk;

const PATIENCE: Duration = Duration::from_secs(30);

/// A migrated database, an object store with the bucket `inputs`, and the logins of a system. No scheduler runs yet.
struct Lab {
    folder: tempfile::TempDir,
    user: Store,
    objects: Objects,
    s3: Option<S3Server>,
    addr: SocketAddr,
    /// Dropped after the connections.
    database: Database,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StoreError>>,
}

impl Lab {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::fresh().await;
        let admin = database.admin().await;
        let everything = ["s3://".to_owned()];
        admin.set_prefixes("default", &["s3://inputs/".to_owned()], &everything).await.unwrap();
        let s3 = S3Server::start(&folder.path().join("s3"), None).await.unwrap();
        let objects = Objects::connect(StoreConfig {
            endpoint: Some(s3.endpoint()),
            access_key_id: Some(s3.access_key().to_owned()),
            secret_access_key: Some(s3.secret_key().to_owned()),
            retry_budget: Duration::from_millis(300),
            ..StoreConfig::default()
        })
        .await
        .unwrap();
        objects.create_bucket("inputs").await.unwrap();
        objects.create_bucket("outputs").await.unwrap();
        let addr = s3.addr();
        let user = database.store(USER).await;
        Self { user, folder, objects, s3: Some(s3), addr, database }
    }

    async fn start(&self, holder: &str) -> Running {
        let mut config = Config::new(holder);
        config.tick = Duration::from_millis(20);
        let scheduler =
            Scheduler::new(self.database.store(SCHEDULER).await, self.objects.clone(), config);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(scheduler.run(async {
            let _ = stopped.await;
        }));
        Running { stop, task }
    }

    async fn put(&self, key: &str, body: impl Into<Bytes>) {
        self.put_at(&format!("s3://inputs/{key}"), body).await;
    }

    async fn put_at(&self, uri: &str, body: impl Into<Bytes>) {
        let uri: S3Uri = uri.parse().unwrap();
        self.objects.put(&uri, body.into(), &Put::default()).await.unwrap();
    }

    async fn submit(&self, spec: &str) -> i64 {
        let submission = Submission { spec: spec.to_owned(), ..Submission::default() };
        self.user.submit(&submission).await.unwrap()
    }

    /// Submits, and waits until the scheduler has made up its mind.
    async fn planned(&self, spec: &str) -> JobView {
        let job = self.submit(spec).await;
        self.until_planned(job).await
    }

    async fn until_planned(&self, job: i64) -> JobView {
        let end = Instant::now() + PATIENCE;
        loop {
            let view = self.user.job(job).await.unwrap();
            if view.state != JobState::Submitted {
                return view;
            }
            assert!(Instant::now() < end, "job {job} is still submitted");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

fn text_to_image(name: &str, input: &str) -> String {
    format!(
        "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: {name}}}\ninput: {input}\n\
         generate: {{size: 64x64, seeds: [1, 2]}}\nmodel: {{name: tiny, weights: f32, kv_cache: f32}}\n\
         output: {{dest: \"s3://outputs/{{{{ job.name }}}}/\"}}\n"
    )
}

fn depth(name: &str, input: &str) -> String {
    format!(
        "apiVersion: nightshift/v1\nkind: dense_prediction\nmetadata: {{name: {name}}}\ninput: {input}\n\
         predict: {{targets: [depth], panel: 64x64, seeds: [0]}}\nmodel: {{name: tiny, weights: f32, kv_cache: f32}}\n\
         output: {{dest: \"s3://outputs/{{{{ job.name }}}}/\"}}\n"
    )
}

fn counts(view: &JobView) -> (JobState, Option<i64>, Option<i64>) {
    (view.state, view.n_rows, view.n_items)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_specs_become_ready() {
    let lab = Lab::new().await;
    let scheduler = lab.start("one").await;

    let view = lab.planned(&text_to_image("inline", "{inline: [{prompt: a}, {prompt: b}]}")).await;
    assert_eq!(counts(&view), (JobState::Ready, Some(2), Some(4)), "{view:?}");
    assert_eq!(view.dest.as_deref(), Some("s3://outputs/inline/"));
    assert_eq!(view.model_key.as_deref(), Some("tiny/f32/f32"));

    let lines: String =
        (0..2_345).map(|n| format!("{{\"id\":\"r{n}\",\"prompt\":\"number {n}\"}}\n")).collect();
    lab.put("many.jsonl", lines).await;
    let view = lab.planned(&text_to_image("many", "{manifest: s3://inputs/many.jsonl}")).await;
    assert_eq!(counts(&view), (JobState::Ready, Some(2_345), Some(4_690)), "{view:?}");

    lab.put("some.csv", "name,caption\na,\"one, two\"\nb,\"over\ntwo lines\"\nc,three\n").await;
    let input = "{manifest: s3://inputs/some.csv, columns: {prompt: caption, id: name}, limit: 2}";
    let view = lab.planned(&text_to_image("some", input)).await;
    assert_eq!(counts(&view), (JobState::Ready, Some(2), Some(4)), "{view:?}");

    for key in
        ["rooms/b.jpg", "rooms/a.png", "rooms/thumbs/a.png", "rooms/notes.md", "roomservice/c.jpg"]
    {
        lab.put(key, "not looked at").await;
    }
    let input = "{prefix: s3://inputs/rooms/, include: [\"**/*.jpg\", \"**/*.png\"], exclude: [\"**/thumbs/**\"]}";
    let spec = depth("rooms", input);
    let view = lab.planned(&spec).await;
    assert_eq!(counts(&view), (JobState::Ready, Some(2), Some(2)), "{view:?}");
    let parsed = nightshift_jobs::parse("x", &spec).unwrap();
    let survey = crate::survey(Some(&lab.objects), "x", &spec, &parsed, 10).await.unwrap();
    let paths: Vec<&str> = survey.first.iter().filter_map(|row| row.path.as_deref()).collect();
    assert_eq!((paths, survey.n_items), (vec!["a", "b"], 2));
    assert_eq!(survey.first[0].uri.as_deref(), Some("s3://inputs/rooms/a.png"));
    assert!(survey.first[0].etag.is_some() && survey.input_bytes == 26);

    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_specs_are_rejected_with_words() {
    let lab = Lab::new().await;
    let scheduler = lab.start("one").await;
    lab.put("bad.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\n").await;
    lab.put("twice.csv", "id,prompt\na,x\nb,y\na,z\n").await;
    lab.put("columns.csv", "id,prompt\na,x\n").await;
    lab.put("rooms/notes.md", "text").await;
    let manifest = |file: &str| format!("{{manifest: \"s3://inputs/{file}\"}}");
    let typo = "{manifest: s3://inputs/columns.csv, columns: {prompt: promt}}";
    let specs = [
        text_to_image("mistake", "{inline: [{prompt: a}]}").replace("seeds", "seed"),
        text_to_image("line", &manifest("bad.jsonl")),
        text_to_image("twice", &manifest("twice.csv")),
        text_to_image("column", typo),
        text_to_image("missing", &manifest("none.jsonl")),
        depth("empty", "{prefix: s3://inputs/rooms/, include: [\"**/*.jpg\"]}"),
        text_to_image("foreign", "{manifest: s3://elsewhere/x.jsonl}"),
        text_to_image("limit", "{inline: [{prompt: a}, {prompt: b}]}") + "limits: {max_items: 3}\n",
        text_to_image("later", "{inline: [{prompt: a}]}") + "sampler: {top_p: 0.9}\n",
    ];
    let mut told = String::new();
    for spec in &specs {
        let view = lab.planned(spec).await;
        assert_eq!(view.state, JobState::Rejected, "{view:?}");
        told.push_str(&view.errors.unwrap());
        told.push_str("\n---\n");
    }
    insta::assert_snapshot!(told);

    // The same words as `validate`.
    let spec = specs.last().unwrap();
    let parsed = nightshift_jobs::parse("spec.yaml", spec).unwrap();
    assert!(told.contains(&crate::cannot_run("spec.yaml", spec, &parsed).unwrap()));

    let first = lab.planned(&text_to_image("owner", "{inline: [{prompt: a}]}")).await;
    let second = lab.planned(&text_to_image("owner", "{inline: [{prompt: b}]}")).await;
    assert_eq!((first.state, second.state), (JobState::Ready, JobState::Rejected));
    let words = second.errors.unwrap();
    assert!(words.contains(&format!("belongs to job {}", first.id)), "{words}");
    assert!(words.starts_with("spec.yaml:7:16: output.dest: ") && words.contains('^'), "{words}");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_is_looked_at_before_anything_is_planned() {
    let lab = Lab::new().await;
    let scheduler = lab.start("one").await;
    let spec = |name: &str| text_to_image(name, "{inline: [{prompt: a}]}");
    let rejected = async |spec: &str| {
        let view = lab.planned(spec).await;
        assert_eq!(view.state, JobState::Rejected, "{view:?}");
        assert_eq!(view.kind.as_deref(), Some("text_to_image"));
        (view.name.unwrap(), view.errors.unwrap())
    };
    let (name, words) = rejected(&spec("nowhere").replace("s3://outputs", "s3://absent")).await;
    assert_eq!(name, "nowhere");
    assert_eq!(
        words,
        "spec.yaml:7:16: output.dest: bucket absent does not exist\n\
         7 | output: {dest: \"s3://absent/{{ job.name }}/\"}\n\
         \u{20} |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n\
         help: create it, or change output.dest"
    );

    // What a job of this database wrote that was pruned, or one of another database.
    lab.put_at(
        "s3://outputs/held/_nightshift/plan.json",
        r#"{"owner": {"job": 77, "name": "older"}}"#,
    )
    .await;
    let (_, words) = rejected(&spec("held")).await;
    assert!(words.contains("job 77 (older)"), "{words}");
    assert!(words.contains("output.on_existing"), "{words}");
    for how in ["resume", "overwrite"] {
        let how = format!("output: {{on_existing: {how}, ");
        let view = lab.planned(&spec("held").replace("output: {", &how)).await;
        assert_eq!(view.state, JobState::Ready, "{view:?}");
        lab.user.cancel(view.id).await.unwrap();
    }
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_that_is_away_delays_and_rejects_nothing() {
    let mut lab = Lab::new().await;
    lab.put("a.jsonl", "{\"prompt\":\"a\"}\n").await;
    lab.s3.take().unwrap().stop().await;
    let scheduler = lab.start("one").await;
    let waiting = lab.submit(&text_to_image("waiting", "{manifest: s3://inputs/a.jsonl}")).await;
    // Others are planned meanwhile, and when one is, the waiting one was looked at too.
    let other = lab.planned(&text_to_image("other", "{inline: [{prompt: a}]}")).await;
    assert_eq!(other.state, JobState::Ready);
    assert_eq!(lab.user.job(waiting).await.unwrap().state, JobState::Submitted);
    lab.s3 = Some(S3Server::start(&lab.folder.path().join("s3"), Some(lab.addr)).await.unwrap());
    assert_eq!(counts(&lab.until_planned(waiting).await), (JobState::Ready, Some(1), Some(2)));
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_was_interrupted_begins_again_and_one_scheduler_leads() {
    let lab = Lab::new().await;
    let lines: String = (0..1_500).map(|n| format!("{{\"prompt\":\"number {n}\"}}\n")).collect();
    lab.put("a.jsonl", lines).await;
    let job = lab.submit(&text_to_image("job", "{manifest: s3://inputs/a.jsonl}")).await;

    // A scheduler that stored other rows than will be found later, and died.
    let dead = lab.database.store(SCHEDULER).await;
    let term = dead.lead("dead", Duration::from_secs(1)).await.unwrap().unwrap();
    let mut chunker = chunk::Chunker::default();
    let row = |index| nightshift_jobs::InputRow { index, ..nightshift_jobs::InputRow::default() };
    for index in 0..2_000 {
        if let Some(chunk) = chunker.push(&row(index)) {
            let first = i64::try_from(chunk.first_row).unwrap();
            assert!(dead.add_chunk(&term, job, first, 1_000, &chunk.data).await.unwrap());
        }
    }
    let (one, two) = (lab.start("one").await, lab.start("two").await);
    assert_eq!(counts(&lab.until_planned(job).await), (JobState::Ready, Some(1_500), Some(3_000)));
    let late = dead.add_chunk(&term, job, 0, 1_000, &[]).await;
    assert!(matches!(late, Err(StoreError::NotLeader)), "{late:?}");

    // Whichever leads gives leadership back when it stops, and the other goes on.
    one.stop().await;
    let view = lab.planned(&text_to_image("next", "{inline: [{prompt: a}]}")).await;
    assert_eq!(view.state, JobState::Ready);
    two.stop().await;
}
