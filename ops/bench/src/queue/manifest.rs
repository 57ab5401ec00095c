//! A manifest of many lines, from its submission until the job is ready: a scheduler in a process of its own lists it from an embedded
//! object store.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nightshift_lab::SCHEDULER;
use nightshift_local::S3Server;
use nightshift_objects::{Objects, Put};
use nightshift_store::{JobState, Submission};
use serde_json::{Value, json};

use super::figures::{Asked, Figures};
use super::lab::Lab;

const BUCKET: &str = "bench";
/// How long any manifest may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures a manifest of `lines` lines, after one of a tenth: what its scheduler then takes more is what grows with the lines.
pub(super) async fn run(figures: &mut Figures, lines: u64) -> anyhow::Result<Value> {
    let lab = Lab::start().await?;
    lab.scheduler.resign(&lab.term).await?;
    let folder = tempfile::tempdir()?;
    let s3 = S3Server::start(folder.path(), None).await?;
    let objects = super::lab::objects(&s3).await?;
    objects.create_bucket(BUCKET).await?;
    let scheduler = Scheduler::start(&lab, &s3)?;
    let tenth = (lines / 10).max(1);
    list(&lab, &objects, tenth).await?;
    let small = scheduler.peak_rss_bytes()?;
    let seconds = list(&lab, &objects, lines).await?.as_secs_f64();
    let peak = scheduler.peak_rss_bytes()?;
    drop(scheduler);
    lab.stop().await?;
    s3.stop().await;
    #[expect(clippy::cast_precision_loss, reason = "lines and bytes of a process")]
    let (share, grew) = (lines as f64 / 1e6, (peak - small) as f64 / 1e6);
    figures.add("manifest_seconds", seconds, "s", Asked::AtMost(20.0 * share));
    figures.add("manifest_rss_growth", grew, "MB", Asked::AtMost(10.0));
    Ok(json!({
        "lines": lines,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "peak_rss_bytes": peak,
        "peak_rss_bytes_of_a_tenth": small,
    }))
}

/// From the submission of a job over so many lines until it is ready.
async fn list(lab: &Lab, objects: &Objects, lines: u64) -> anyhow::Result<Duration> {
    let uri = format!("s3://{BUCKET}/{lines}.jsonl");
    let mut body = String::new();
    for line in 0..lines {
        writeln!(
            body,
            r#"{{"id":"row-{line:08}","prompt":"number {line} of many pictures of a lighthouse at dusk"}}"#
        )?;
    }
    objects.put(&uri.parse()?, body.into(), &Put::default()).await?;
    let submission = Submission {
        spec: spec(&uri),
        tenant: Some("bench-0".to_owned()),
        ..Submission::default()
    };
    let begin = Instant::now();
    let job = lab.user.submit(&submission).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let view = lab.user.job(job).await?;
        match view.state {
            JobState::Submitted => anyhow::ensure!(
                begin.elapsed() < PATIENCE,
                "the manifest of {lines} lines is not listed yet"
            ),
            JobState::Ready => {
                let counted = view.n_items.unwrap_or(0);
                anyhow::ensure!(
                    u64::try_from(counted)? == lines,
                    "{lines} lines came to {counted} items"
                );
                return Ok(begin.elapsed());
            }
            state => anyhow::bail!("the job is {state:?}: {:?}", view.errors),
        }
    }
}

fn spec(manifest: &str) -> String {
    format!(
        "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: manifest}}\n\
         model: {{name: bench, weights: int4, kv_cache: bf16}}\ninput: {{manifest: \"{manifest}\"}}\n\
         generate: {{size: 64x64, seeds: [1]}}\noutput: {{dest: \"s3://bench/{{{{ job.id }}}}/\"}}\n"
    )
}

/// A scheduler of this program; killed when dropped.
struct Scheduler(Child);

impl Scheduler {
    fn start(lab: &Lab, s3: &S3Server) -> anyhow::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("scheduler")
            .env("NIGHTSHIFT_DATABASE_URL", &lab.listening(SCHEDULER).url)
            .env("AWS_ENDPOINT_URL_S3", s3.endpoint())
            .env("AWS_ACCESS_KEY_ID", s3.access_key())
            .env("AWS_SECRET_ACCESS_KEY", s3.secret_key())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("the scheduler does not start")?;
        Ok(Self(child))
    }

    /// The most memory that it ever had.
    fn peak_rss_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kilobytes = kilobytes.context("the scheduler has ended")?;
        Ok(kilobytes.trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
