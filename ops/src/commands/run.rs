//! `run`: specs to pictures on this machine alone; nothing is left running.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nightshift_jobs::ModelSpec;
use nightshift_objects::{Put, S3Uri};
use nightshift_store::{JobFilter, JobState, JobView, Submission};

use super::{sheet, submit, wait};
use crate::cli::RunArgs;
use crate::config::worker::{parse_format, worker_config};
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::local::{BUCKET, Options, System};
use crate::spec_file::SpecFile;
use crate::ui::Progress;

const POLL: Duration = Duration::from_millis(200);

/// Runs the specs and says where the results are.
///
/// # Errors
/// Mistakes of the specs, what keeps the system from starting, or why it broke.
pub async fn run(context: Context, args: RunArgs) -> anyhow::Result<Exit> {
    let specs: Vec<SpecFile> = args
        .files
        .iter()
        .map(|path| submit::read(context.ui, path, &args.set))
        .collect::<Result<_, _>>()?;
    let copies: Vec<(PathBuf, String)> =
        args.put.iter().map(|text| parse_put(text)).collect::<Result<_, _>>()?;
    let mut worker = worker_config(&context.config)?;
    offer(&mut worker, &specs)?;

    let mut system = tokio::select! {
        system = System::start(&context, Options { s3_port: 0, worker }) => system?,
        () = connect::interrupted() => return Ok(Exit::Interrupted),
    };
    let result = run_all(&context, &args, &mut system, &specs, &copies).await;
    let stopped = system.stop(connect::interrupted()).await;
    let exit = result?;
    stopped?;
    Ok(exit)
}

async fn run_all(
    context: &Context,
    args: &RunArgs,
    system: &mut System,
    specs: &[SpecFile],
    copies: &[(PathBuf, String)],
) -> anyhow::Result<Exit> {
    for (path, key) in copies {
        put(system, path, key).await?;
    }
    let older = JobFilter {
        states: JobState::ALL.iter().copied().filter(|state| !state.is_final()).collect(),
        ..JobFilter::default()
    };
    let older = system.store.jobs(&older, 1_000).await?.len();
    if older > 0 {
        context
            .ui
            .note(&format!("{older} older jobs of this folder are not over; they continue too"));
    }
    let mut jobs = Vec::new();
    for spec in specs {
        let submission = Submission { spec: spec.text.clone(), ..Submission::default() };
        let job = system.store.submit(&submission).await.with_context(|| spec.name.clone())?;
        context.ui.note(&format!("{}: job {job}", spec.name));
        jobs.push(job);
    }
    let mut exit = Exit::Ok;
    for job in jobs {
        let Some(view) = over(context, system, job).await? else {
            let data = system.data.display();
            context
                .ui
                .note(&format!("the jobs are kept; `nightshift --data {data} up` continues them"));
            return Ok(Exit::Interrupted);
        };
        exit = worse(exit, wait::exit_of(view.state));
        report(context, args, system, &view).await?;
    }
    Ok(exit)
}

/// Waits for a job; `None` when interrupted.
async fn over(context: &Context, system: &mut System, job: i64) -> anyhow::Result<Option<JobView>> {
    let mut progress = Progress::new(context.ui, format!("job {job}"));
    let store = system.store.clone();
    let broken = system.broken();
    let interrupted = connect::interrupted();
    tokio::pin!(broken, interrupted);
    loop {
        let view = store.job(job).await?;
        wait::tell(&mut progress, &view);
        if view.state.is_final() {
            progress.finish();
            return Ok(Some(view));
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            error = &mut broken => return Err(error),
            () = &mut interrupted => {
                progress.finish();
                return Ok(None);
            }
        }
    }
}

/// Says on standard output where the results of a job are.
async fn report(
    context: &Context,
    args: &RunArgs,
    system: &System,
    view: &JobView,
) -> anyhow::Result<()> {
    wait::tell_end(context.ui, view);
    let Some(dest) = &view.dest else {
        return Ok(());
    };
    let folder = system.folder_of(dest);
    let mut lines = vec![("s3", dest.clone()), ("folder", folder.display().to_string())];
    for name in ["metadata.parquet", "metadata.jsonl"] {
        let path = folder.join(name);
        if path.exists() {
            lines.push(("metadata", path.display().to_string()));
        }
    }
    if let Some(dir) = &args.sheets
        && view.n_ok > 0
    {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let path = dir.join(format!("{}-{}.png", view.id, view.name.as_deref().unwrap_or("job")));
        sheet::write(&system.store, &system.objects, view.id, &path, sheet::Shape::default())
            .await?;
        lines.push(("sheet", path.display().to_string()));
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "job {} {} {}", view.id, view.name.as_deref().unwrap_or("-"), view.state)?;
    for (name, value) in lines {
        writeln!(out, "  {name:<9} {value}")?;
    }
    Ok(())
}

/// The worker offers what the specs ask for, and nothing else: loading a model takes time and memory.
fn offer(worker: &mut nightshift_worker::Config, specs: &[SpecFile]) -> Result<(), Failure> {
    let mut models = BTreeSet::new();
    let mut formats = BTreeSet::new();
    for spec in specs {
        let parsed = spec.parse()?;
        let model: &ModelSpec = parsed.spec.model();
        models.insert(model.name.clone());
        formats.insert(format!("{}/{}", model.weights, model.kv_cache));
    }
    worker.models = models.into_iter().collect();
    let known = |text: &String| parse_format(text).expect("specs and engine name the same formats");
    worker.formats = formats.iter().map(known).collect();
    Ok(())
}

/// `PATH=KEY`.
fn parse_put(text: &str) -> Result<(PathBuf, String), Failure> {
    let (path, key) = text
        .split_once('=')
        .filter(|(path, key)| !path.is_empty() && !key.is_empty())
        .ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("--put {text}: expected PATH=KEY, such as photos=inputs/photos"),
            )
        })?;
    Ok((PathBuf::from(path), key.trim_end_matches('/').to_owned()))
}

/// Copies a file, or all files of a folder and of those in it, below the key.
async fn put(system: &System, path: &Path, key: &str) -> anyhow::Result<()> {
    let mut files = Vec::new();
    collect(path, key.to_owned(), &mut files)?;
    files.sort();
    if files.is_empty() {
        let message = format!("--put {}: the folder has no files", path.display());
        return Err(Failure::new(Exit::NotFound, message).into());
    }
    for (path, key) in files {
        let body =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let uri = S3Uri { bucket: BUCKET.to_owned(), key };
        system.objects.put(&uri, body.into(), &Put::default()).await?;
    }
    Ok(())
}

/// The files at a path, and the key of each.
fn collect(path: &Path, key: String, files: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
    let at = || format!("cannot read {}", path.display());
    if !path.is_dir() {
        files.push((path.to_owned(), key));
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(at)? {
        let entry = entry.with_context(at)?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            let path = entry.path();
            Failure::new(
                Exit::Usage,
                format!("--put {}: the name is not UTF-8, as keys are", path.display()),
            )
        })?;
        collect(&entry.path(), format!("{key}/{name}"), files)?;
    }
    Ok(())
}

/// The exit code that says more: a failed job before a cancelled one before failed items.
fn worse(a: Exit, b: Exit) -> Exit {
    let rank = |exit| match exit {
        Exit::Ok => 0,
        Exit::ItemsFailed => 1,
        Exit::JobCancelled => 2,
        _ => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_job_decides() {
        assert_eq!(worse(Exit::Ok, Exit::ItemsFailed), Exit::ItemsFailed);
        assert_eq!(worse(Exit::JobFailed, Exit::ItemsFailed), Exit::JobFailed);
        assert_eq!(worse(Exit::JobCancelled, Exit::Ok), Exit::JobCancelled);
    }

    #[test]
    fn a_copy_has_a_path_and_a_key() {
        assert_eq!(parse_put("a/b=c/d/").unwrap(), (PathBuf::from("a/b"), "c/d".to_owned()));
        for bad in ["a", "=b", "a="] {
            assert_eq!(parse_put(bad).unwrap_err().exit, Exit::Usage);
        }
    }
}
