//! `submit`: a spec becomes a job; its id is all that standard output gets.

use std::io::Write;
use std::path::Path;

use nightshift_store::{Store, Submission};

use super::wait;
use crate::cli::SubmitArgs;
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::spec_file::SpecFile;
use crate::ui::Ui;

/// Submits the spec, and waits when asked to.
///
/// # Errors
/// An invalid spec, one that this build cannot run, and what the store refuses.
pub async fn run(context: Context, args: SubmitArgs) -> anyhow::Result<Exit> {
    let mut changes = args.set.clone();
    changes.extend(args.name.iter().map(|name| format!("metadata.name={}", yaml_text(name))));
    let spec = read(context.ui, &args.file, &changes)?;
    let store = connect::store(&context.config, "nightshift submit").await?;
    let submission = Submission {
        spec: spec.text,
        tenant: args.tenant.or_else(|| context.config.get("tenant").map(str::to_owned)),
        idempotency_key: args.idempotency_key,
        hold: args.hold,
    };
    let job = submit(&store, &submission).await?;
    // Told before waiting, so that an interrupted script still has the id.
    let mut out = std::io::stdout();
    writeln!(out, "{job}")?;
    out.flush()?;
    if !args.wait {
        return Ok(Exit::Ok);
    }
    wait::until_over(context.ui, &store, job, None).await
}

/// Reads, changes and checks a spec; warnings are shown.
///
/// # Errors
/// Mistakes of the spec, or features that this build lacks, in the words of `validate`.
pub fn read(ui: Ui, path: &Path, changes: &[String]) -> Result<SpecFile, Failure> {
    let mut file = SpecFile::read(path)?;
    file.set(changes)?;
    let parsed = file.parse()?;
    for warning in &parsed.warnings {
        ui.note(&warning.render(&file.name, &file.text));
    }
    match nightshift_scheduler::cannot_run(&file.name, &file.text, &parsed) {
        Some(words) => Err(Failure::new(Exit::Usage, words)),
        None => Ok(file),
    }
}

/// Submits once more when the answer was lost, if that cannot make a second job.
///
/// # Errors
/// Those of the store.
async fn submit(store: &Store, submission: &Submission) -> Result<i64, nightshift_store::Error> {
    match store.submit(submission).await {
        Err(error) if error.is_retryable() && submission.idempotency_key.is_some() => {
            store.submit(submission).await
        }
        result => result,
    }
}

/// A text as a YAML scalar in quotes.
fn yaml_text(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}
