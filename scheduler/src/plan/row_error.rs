//! Why the next row cannot be read, and how that is reported.

use nightshift_jobs::{InputSpec, Parsed};
use nightshift_objects::Error as ObjectsError;

use crate::error::InputProblem;

/// Why the next row cannot be read.
#[derive(Debug)]
pub(crate) enum RowError {
    /// The input is wrong.
    Problem(InputProblem),
    /// The object store failed in a way that may pass, or the input changed while it was read.
    Objects(ObjectsError),
    /// The ids of a manifest cannot be written to the temporary folder.
    Disk(std::io::Error),
}

impl From<InputProblem> for RowError {
    fn from(problem: InputProblem) -> Self {
        Self::Problem(problem)
    }
}

/// What a person must change is a problem of the input; the rest may pass.
pub(crate) fn classify(parsed: &Parsed, error: ObjectsError) -> RowError {
    match &error {
        // Wrong credentials and a wrong endpoint are ours, not the job's.
        ObjectsError::Unavailable { .. }
        | ObjectsError::Misdirected { .. }
        | ObjectsError::Changed { .. }
        | ObjectsError::Unauthenticated { .. } => RowError::Objects(error),
        _ => unreadable(parsed, &error.to_string()),
    }
}

/// A diagnostic at the spec's input.
pub(crate) fn unreadable(parsed: &Parsed, words: &str) -> RowError {
    let input = parsed.spec.input();
    // The diagnostic names the input itself.
    let words = match input {
        InputSpec::Manifest { uri, .. } | InputSpec::Prefix { uri, .. } => {
            words.strip_prefix(uri.as_str()).unwrap_or(words)
        }
        _ => words,
    };
    InputProblem::from(parsed.places.input_unreadable(input, words.trim_start())).into()
}
