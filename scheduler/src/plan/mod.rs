//! From a spec's text to a plan: parse, look at the inputs, count.

pub(crate) mod chunk;
mod destination;
mod duplicates;
mod lines;
mod listing;
mod manifest;
mod policy;
mod row_error;
mod rows;

use nightshift_jobs::{
    Cron, InputRow, InputSpec, ItemLimit, JobSpec, JobVars, MaxFailed, OnBadInput, OnExisting,
    Parsed, is_allowed,
};
use nightshift_objects::Objects;
use nightshift_store::{LeaderTerm, Plan, Planned, Refusal, Store, Submitted, signed};
use tokio::sync::watch;

use crate::error::{InputProblem, PlanError};

use chunk::{Chunk, Chunker};
use policy::policy_of;
use row_error::RowError;
use rows::Rows;

/// The name that mistakes of a stored spec are shown with.
const STORED_NAME: &str = "spec.yaml";

/// What a spec's inputs look like, without storing anything.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Number of input rows.
    pub n_rows: u64,
    /// Number of items.
    pub n_items: u64,
    /// Bytes of the listed input objects; 0 when the sizes are not known.
    pub input_bytes: u64,
    /// The first rows.
    pub first: Vec<InputRow>,
}

/// Reads the whole input of a spec and keeps the first `keep` rows. `objects` is needed by every input but an inline one.
///
/// # Errors
/// [`PlanError::Rejected`] for a problem of the input, [`PlanError::Objects`] when the object store does not answer.
pub async fn survey(
    objects: Option<&Objects>,
    name: &str,
    text: &str,
    parsed: &Parsed,
    keep: usize,
) -> Result<Survey, PlanError> {
    let located = |error| locate(name, text, error);
    let spec = &parsed.spec;
    let mut rows = Rows::open(objects, parsed).await.map_err(located)?;
    let mut survey = Survey { n_rows: 0, n_items: 0, input_bytes: 0, first: Vec::new() };
    while let Some(row) = rows.next().await.map_err(located)? {
        survey.n_rows += 1;
        survey.input_bytes += row.bytes.unwrap_or(0);
        if survey.first.len() < keep {
            survey.first.push(row);
        }
    }
    survey.n_items =
        spec.n_items(survey.n_rows).map_err(|error| located(too_many(parsed, &error)))?;
    Ok(survey)
}

/// Why a valid spec cannot be run by this build; `None` when it can.
#[must_use]
pub fn cannot_run(name: &str, text: &str, parsed: &Parsed) -> Option<String> {
    if parsed.cannot_run.is_empty() {
        return None;
    }
    let words: Vec<String> =
        parsed.cannot_run.iter().map(|missing| missing.render(name, text)).collect();
    Some(words.join("\n\n"))
}

/// Makes a submitted job ready, or returns why it cannot be. Starting again after an interruption starts from the first row.
///
/// `term` holds the leader's newest term: a long snapshot outlives many of them.
///
/// # Errors
/// See [`PlanError`]; only [`PlanError::Rejected`] is final for the job.
pub async fn plan_job(
    store: &Store,
    objects: &Objects,
    term: &watch::Receiver<LeaderTerm>,
    job: &Submitted,
) -> Result<(), PlanError> {
    let text = &job.spec_text;
    let parsed = nightshift_jobs::parse(STORED_NAME, text)
        .map_err(|errors| PlanError::Rejected(errors.to_string()))?;
    if let Some(words) = cannot_run(STORED_NAME, text, &parsed) {
        return Err(PlanError::Rejected(words));
    }
    if let Some(cron) = parsed.spec.running().cron.clone()
        && !job.scheduled
    {
        return recur(store, term, job.job, &parsed, cron).await;
    }
    let located = |error| locate(STORED_NAME, text, error);
    let refused = |refusal: Refusal| located(self::refused(&parsed, refusal).into());
    let spec = &parsed.spec;
    let vars = JobVars {
        job_id: job.job,
        run_date: job.run_date.clone(),
        run_index: u64::try_from(job.run_index).unwrap_or(0),
    };
    let dest = spec.dest(&vars).map_err(|error| {
        let (place, message) = ("output.dest".to_owned(), error.to_string());
        refused(Refusal { place, message, hint: None })
    })?;
    check_prefixes(job, &parsed, &dest).map_err(|problem| located(problem.into()))?;
    if !spec.notify().is_empty() {
        let entries = serde_json::to_value(spec.notify()).expect("texts are plain data");
        let now = term.borrow().clone();
        if let Some(refusal) = store.notify_refusal(&now, job.job, &entries).await? {
            return Err(refused(refusal));
        }
    }
    if let Some(refusal) = destination::refusal(objects, &dest, spec.on_existing()).await {
        return Err(refused(refusal));
    }

    let n_rows = snapshot(store, objects, term, job.job, &parsed, located).await?;
    let n_items = spec.n_items(n_rows).map_err(|error| located(too_many(&parsed, &error)))?;
    let plan = plan_of(&parsed, text, dest, n_rows, n_items);
    let now = term.borrow().clone();
    match store.planned(&now, job.job, &plan).await? {
        Planned::Ready => Ok(()),
        Planned::Gone => Err(PlanError::Gone),
        Planned::Refused(refusal) => Err(refused(refusal)),
    }
}

/// Makes a schedule of the job. It is planned when its first run is due: inputs are listed then.
async fn recur(
    store: &Store,
    term: &watch::Receiver<LeaderTerm>,
    job: i64,
    parsed: &Parsed,
    cron: Cron,
) -> Result<(), PlanError> {
    let rule = parsed.spec.running().when_still_running.as_str();
    let now = term.borrow().clone();
    let cron = String::from(cron);
    let (name, kind) = (parsed.spec.name(), parsed.spec.kind().as_str());
    match store.recur(&now, job, name, kind, &cron, rule).await? {
        true => Ok(()),
        false => Err(PlanError::Gone),
    }
}

/// Stores the rows in chunks and returns their number.
async fn snapshot(
    store: &Store,
    objects: &Objects,
    term: &watch::Receiver<LeaderTerm>,
    job: i64,
    parsed: &Parsed,
    located: impl Fn(RowError) -> PlanError,
) -> Result<u64, PlanError> {
    let add = async |chunk: Chunk| -> Result<(), PlanError> {
        let now = term.borrow().clone();
        let n_rows = i32::try_from(chunk.n_rows).expect("a chunk has at most 1,000 rows");
        match store.add_chunk(&now, job, signed(chunk.first_row), n_rows, &chunk.data).await? {
            true => Ok(()),
            false => Err(PlanError::Gone),
        }
    };
    let mut rows = Rows::open(Some(objects), parsed).await.map_err(&located)?;
    let mut chunker = Chunker::default();
    let mut n_rows = 0;
    while let Some(row) = rows.next().await.map_err(&located)? {
        n_rows += 1;
        if let Some(chunk) = chunker.push(&row) {
            add(chunk).await?;
        }
    }
    if let Some(chunk) = chunker.finish() {
        add(chunk).await?;
    }
    Ok(n_rows)
}

fn plan_of(parsed: &Parsed, text: &str, dest: String, n_rows: u64, n_items: u64) -> Plan {
    let spec = &parsed.spec;
    let warnings: Vec<String> =
        parsed.warnings.iter().map(|warning| warning.render(STORED_NAME, text)).collect();
    let allowed = |limit: MaxFailed| signed(limit.allowed(n_items));
    Plan {
        name: spec.name().to_owned(),
        kind: spec.kind().as_str().to_owned(),
        labels: serde_json::to_value(spec.labels()).expect("labels are texts"),
        resolved: serde_json::to_value(spec).expect("a spec is plain data"),
        warnings: warnings.join("\n\n"),
        dest,
        on_existing: match spec.on_existing() {
            OnExisting::Refuse => "refuse",
            OnExisting::Resume => "resume",
            OnExisting::Overwrite => "overwrite",
        }
        .to_owned(),
        inputs: input_uri(spec).into_iter().collect(),
        model_key: spec.model().key(),
        allow_mixed: spec.running().allow_mixed,
        priority: spec.priority(),
        n_rows: signed(n_rows),
        n_items: signed(n_items),
        shard_items: spec
            .shard_items()
            .map(|n| i32::try_from(n.clamp(1, 100_000)).expect("clamped")),
        max_attempts: i32::try_from(spec.max_attempts().clamp(1, 1_000)).expect("clamped"),
        max_failed_items: match spec.on_bad_input() {
            // The store stops a job over its failed items; here the first one is too many.
            OnBadInput::FailJob => Some(0),
            OnBadInput::Skip | OnBadInput::FailItem => spec.max_failed_items().map(allowed),
        },
        policy: policy_of(spec.running()),
    }
}

/// What the scheduler itself reads: the manifest or the prefix.
fn input_uri(spec: &JobSpec) -> Option<String> {
    match spec.input() {
        InputSpec::Inline { .. } => None,
        InputSpec::Manifest { uri, .. } | InputSpec::Prefix { uri, .. } => Some(uri.clone()),
        InputSpec::Subjects(subjects) => Some(subjects.uri.clone()),
    }
}

/// The store checks this too, but only after the inputs were read; and what a tenant may not read is not read for it.
fn check_prefixes(job: &Submitted, parsed: &Parsed, dest: &str) -> Result<(), InputProblem> {
    let refuse = |uri: &str, prefixes: &[String]| {
        let mut diagnostic = parsed.places.not_allowed(uri);
        let list = if prefixes.is_empty() { "none".to_owned() } else { prefixes.join(", ") };
        diagnostic.help = Some(format!("allowed for tenant {}: {list}", job.tenant));
        InputProblem::from(diagnostic)
    };
    match input_uri(&parsed.spec) {
        Some(uri) if !is_allowed(&uri, &job.input_prefixes) => {
            Err(refuse(&uri, &job.input_prefixes))
        }
        _ if !is_allowed(dest, &job.dest_prefixes) => Err(refuse(dest, &job.dest_prefixes)),
        _ => Ok(()),
    }
}

/// A refusal, located at the part of the spec that it is about.
fn refused(parsed: &Parsed, refusal: Refusal) -> InputProblem {
    let mut diagnostic = match refusal.place.as_str() {
        "input" => parsed.places.input_unreadable(parsed.spec.input(), ""),
        "schedule.after" => parsed.places.no_such_job(),
        "notify" => parsed.places.notify_refused(),
        _ => parsed.places.dest_not_writable("", ""),
    };
    diagnostic.code = "plan::refused".to_owned();
    diagnostic.message = refusal.message;
    diagnostic.help = refusal.hint;
    diagnostic.into()
}

fn too_many(parsed: &Parsed, error: &ItemLimit) -> RowError {
    InputProblem::from(parsed.places.too_many_items(error)).into()
}

fn locate(name: &str, text: &str, error: RowError) -> PlanError {
    match error {
        RowError::Objects(error) => PlanError::Objects(error),
        RowError::Disk(error) => PlanError::Disk(error),
        RowError::Problem(problem) => PlanError::Rejected(problem.render(name, text)),
    }
}
