//! Why a job cannot be planned: now, or at all.

use nightshift_jobs::{Diagnostic, SpecErrors};

/// Something wrong with a job's input or destination that the text of its spec does not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputProblem {
    /// The diagnostics point at the spec.
    Spec(Vec<Diagnostic>),
    /// The diagnostic points at a line of a manifest.
    Manifest {
        /// `s3://bucket/key`.
        uri: String,
        /// Line and column are the manifest's.
        diagnostic: Box<Diagnostic>,
    },
}

impl InputProblem {
    /// The problem in the form of all mistakes. `name` and `text` are the spec's.
    #[must_use]
    pub fn render(&self, name: &str, text: &str) -> String {
        match self {
            Self::Spec(diagnostics) => SpecErrors::new(name, text, diagnostics.clone()).to_string(),
            // The manifest's line is not shown: it may be very long, and it is another person's data.
            Self::Manifest { uri, diagnostic } => diagnostic.render(uri, ""),
        }
    }
}

impl From<Diagnostic> for InputProblem {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Spec(vec![diagnostic])
    }
}

/// Why a job could not be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec, its input or its destination are wrong: show this text to the user. Trying again does not help.
    #[error("{0}")]
    Rejected(String),
    /// The object store did not answer, or the input changed while it was read: try again later.
    #[error(transparent)]
    Objects(nightshift_objects::Error),
    /// The ids of a manifest cannot be written to the scheduler's temporary folder: try again later.
    #[error("cannot write the ids of the manifest to the temporary folder: {0}")]
    Disk(std::io::Error),
    /// The database did not answer, or another scheduler leads.
    #[error(transparent)]
    Store(#[from] nightshift_store::Error),
    /// The job is not `submitted` any more: nothing is left to do.
    #[error("the job is no longer waiting")]
    Gone,
}
