//! Where the input rows of a job come from, as one stream in bounded memory.

use nightshift_jobs::{InputRow, InputSpec, JobSpec};
use nightshift_objects::{Error as ObjectsError, Objects};

use crate::duplicates::Duplicates;
use crate::error::InputProblem;
use crate::listing::Listing;
use crate::manifest::Manifest;

/// Why there is no next row.
#[derive(Debug)]
pub enum RowError {
    /// The input is wrong.
    Problem(InputProblem),
    /// The object store failed in a way that may pass, or the input changed while it was read.
    Objects(ObjectsError),
}

impl From<InputProblem> for RowError {
    fn from(problem: InputProblem) -> Self {
        Self::Problem(problem)
    }
}

impl From<ObjectsError> for RowError {
    /// What a person must change is a problem of the input; the rest may pass.
    fn from(error: ObjectsError) -> Self {
        match &error {
            ObjectsError::Unavailable { .. } | ObjectsError::Changed { .. } => Self::Objects(error),
            _ => Self::Problem(InputProblem::Unreadable {
                message: error.to_string(),
            }),
        }
    }
}

enum Source<'a> {
    Inline(std::slice::Iter<'a, InputRow>),
    Manifest(Box<Manifest<'a>>),
    Listing(Box<Listing<'a>>),
}

/// The rows of a job, checked: ids are unique, the limit is kept, an empty input is an error unless it is allowed.
pub struct Rows<'a> {
    source: Source<'a>,
    spec: &'a JobSpec,
    limit: u64,
    given: u64,
    ids: Duplicates,
}

impl<'a> Rows<'a> {
    /// Opens the input of a spec. `objects` is needed by every input but an inline one.
    ///
    /// # Errors
    /// The manifest does not exist or its header is wrong; a glob is none; the object store does not answer.
    ///
    /// # Panics
    /// When `objects` is missing for an input that lies in the object store: a bug of the caller.
    pub async fn open(objects: Option<&Objects>, spec: &'a JobSpec) -> Result<Self, RowError> {
        let objects = || objects.expect("the caller gives a client for inputs in the object store").clone();
        let (source, limit) = match spec.input() {
            InputSpec::Inline { rows } => (Source::Inline(rows.iter()), None),
            input @ InputSpec::Manifest { limit, .. } => {
                (Source::Manifest(Box::new(Manifest::open(&objects(), input).await?)), *limit)
            }
            InputSpec::Prefix {
                uri,
                include,
                exclude,
                limit,
            } => (Source::Listing(Box::new(Listing::of_prefix(objects(), uri, include, exclude)?)), *limit),
            InputSpec::Subjects(subjects) => {
                (Source::Listing(Box::new(Listing::of_subjects(objects(), subjects)?)), subjects.limit)
            }
        };
        Ok(Self {
            source,
            spec,
            limit: limit.unwrap_or(u64::MAX),
            given: 0,
            ids: Duplicates::default(),
        })
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the next row or with the input as a whole.
    pub async fn next(&mut self) -> Result<Option<InputRow>, RowError> {
        if self.given >= self.limit {
            return Ok(None);
        }
        // The number of the row, or in a manifest the line, that an error names.
        let (row, place) = match &mut self.source {
            Source::Inline(rows) => (rows.next().cloned(), self.given),
            Source::Manifest(manifest) => manifest.next(self.given).await?,
            Source::Listing(listing) => (listing.next(self.given).await?, self.given),
        };
        let Some(row) = row else {
            return if self.given == 0 && !self.spec.allow_empty() {
                Err(InputProblem::Empty { input: self.describe() }.into())
            } else {
                Ok(None)
            };
        };
        if let Some(id) = &row.id
            && let Some(first) = self.ids.insert(id, place)
        {
            let manifest = match self.spec.input() {
                InputSpec::Manifest { uri, .. } => Some(uri),
                _ => None,
            };
            return Err(InputProblem::DuplicateId {
                place: manifest.map_or_else(|| format!("row {place}"), |uri| format!("{uri}:{place}")),
                id: id.clone(),
                first: format!("{} {first}", if manifest.is_some() { "line" } else { "row" }),
            }
            .into());
        }
        self.given += 1;
        self.spec.n_items(self.given).map_err(InputProblem::Limit)?;
        Ok(Some(row))
    }

    fn describe(&self) -> String {
        match &self.source {
            Source::Inline(_) => "input.inline".to_owned(),
            Source::Manifest(manifest) => format!("{} (it has no rows)", manifest.uri()),
            Source::Listing(listing) => listing.describe(),
        }
    }
}
