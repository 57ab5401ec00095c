//! Checks a destination before anything is planned, so that the job is refused once instead of each of its items.

use std::time::Duration;

use nightshift_jobs::OnExisting;
use nightshift_objects::{Error, Objects, S3Uri};
use nightshift_store::Refusal;
use serde_json::Value;

/// The file in which every job records that it owns the destination.
const OWNER: &str = "_nightshift/plan.json";
/// More than a worker ever writes to that file.
const OWNER_BYTES_MAX: u64 = 1 << 20;
/// A store that is silent for this long is left to the workers: other jobs wait for the planner's few places.
const PATIENCE: Duration = Duration::from_secs(4);

/// Why a new job may not write to a destination.
///
/// What the scheduler may not read, and a store that does not answer, is not a reason to refuse: the workers have their own credentials.
pub(crate) async fn refusal(objects: &Objects, dest: &str, how: OnExisting) -> Option<Refusal> {
    let refusal = |message: String, hint: &str| {
        let (place, hint) = ("output.dest".to_owned(), Some(hint.to_owned()));
        Some(Refusal { place, message: format!("output.dest: {message}"), hint })
    };
    let place: S3Uri = dest.parse().ok()?;
    let owner_of = place.join(OWNER);
    let Ok(found) =
        tokio::time::timeout(PATIENCE, objects.get(&owner_of, OWNER_BYTES_MAX, None)).await
    else {
        tracing::debug!(dest, "the destination's store does not answer");
        return None;
    };
    match found {
        Err(Error::NotFound { hint: Some(_), .. }) => refusal(
            format!("bucket {} does not exist", place.bucket),
            "create it, or change output.dest",
        ),
        Ok(plan) if how == OnExisting::Refuse => refusal(
            format!("{dest} already holds the results of {}", owner(&plan.body)),
            "choose another destination or set output.on_existing to resume or overwrite",
        ),
        Ok(_) | Err(Error::NotFound { .. }) => None,
        Err(error) => {
            tracing::debug!(dest, %error, "cannot look at the destination");
            None
        }
    }
}

/// The owner's name for messages. A job of another database may have the same number.
fn owner(plan: &[u8]) -> String {
    let plan: Value = serde_json::from_slice(plan).unwrap_or_default();
    let owner = &plan["owner"];
    match (&owner["job"], owner["name"].as_str()) {
        (Value::Number(job), Some(name)) => format!("job {job} ({name})"),
        _ => "another job".to_owned(),
    }
}
