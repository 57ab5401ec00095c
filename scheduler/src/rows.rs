//! Where the input rows of a job come from, as one stream in bounded memory.

use nightshift_jobs::{InputRow, InputSpec, Parsed, plan_errors};
use nightshift_objects::{Error as ObjectsError, Objects};

use crate::duplicates::{Duplicates, ROOM};
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
    /// The temporary folder does not take the ids of a manifest.
    Disk(std::io::Error),
}

impl From<InputProblem> for RowError {
    fn from(problem: InputProblem) -> Self {
        Self::Problem(problem)
    }
}

enum Source<'a> {
    Inline(std::slice::Iter<'a, InputRow>),
    Manifest(Box<Manifest<'a>>),
    Listing(Box<Listing>),
}

/// The rows of a job, checked: ids are unique, limits are kept, an empty input is an error unless it is allowed.
pub struct Rows<'a> {
    source: Source<'a>,
    parsed: &'a Parsed,
    objects: Option<Objects>,
    limit: u64,
    given: u64,
    /// `None`: all were compared.
    ids: Option<Duplicates>,
}

impl<'a> Rows<'a> {
    /// Opens the input of a spec. `client` is needed by every input but an inline one.
    ///
    /// # Errors
    /// The manifest does not exist or its header is wrong; the object store does not answer.
    ///
    /// # Panics
    /// When `client` is missing for an input that lies in the object store: a bug of the caller.
    pub async fn open(client: Option<&Objects>, parsed: &'a Parsed) -> Result<Self, RowError> {
        let objects = || {
            client
                .expect("the caller gives a client for inputs in the object store")
                .clone()
        };
        let (source, limit) = match parsed.spec.input() {
            InputSpec::Inline { rows } => (Source::Inline(rows.iter()), None),
            InputSpec::Manifest { limit, .. } => (
                Source::Manifest(Box::new(Manifest::open(&objects(), parsed).await?)),
                *limit,
            ),
            InputSpec::Prefix {
                uri,
                include,
                exclude,
                limit,
            } => {
                let listing = Listing::new(objects(), uri, include, exclude, None);
                (
                    Source::Listing(Box::new(
                        listing.map_err(|words| unreadable(parsed, &words))?,
                    )),
                    *limit,
                )
            }
            InputSpec::Subjects(subjects) => {
                let (include, exclude) = (&subjects.include, &subjects.exclude);
                let listing = Listing::new(
                    objects(),
                    &subjects.uri,
                    include,
                    exclude,
                    Some(subjects.max_references),
                );
                (
                    Source::Listing(Box::new(
                        listing.map_err(|words| unreadable(parsed, &words))?,
                    )),
                    subjects.limit,
                )
            }
        };
        Ok(Self {
            source,
            parsed,
            objects: client.cloned(),
            limit: limit.unwrap_or(u64::MAX),
            given: 0,
            ids: Some(Duplicates::with_room(ROOM)),
        })
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the next row or with the input as a whole.
    pub async fn next(&mut self) -> Result<Option<InputRow>, RowError> {
        if self.given >= self.limit {
            self.compare_ids().await?;
            return Ok(None);
        }
        let spec = &self.parsed.spec;
        // Besides the row its line, where there are lines.
        let (row, line) = match &mut self.source {
            Source::Inline(rows) => (rows.next().cloned(), None),
            Source::Manifest(manifest) => match manifest.next(self.given).await? {
                Some((row, line)) => (Some(row), Some(line)),
                None => (None, None),
            },
            Source::Listing(listing) => {
                let row = listing
                    .next(self.given)
                    .await
                    .map_err(|error| classify(self.parsed, error))?;
                (row, None)
            }
        };
        let Some(row) = row else {
            self.compare_ids().await?;
            let seen = match &self.source {
                Source::Listing(listing) => listing.seen(),
                _ => 0,
            };
            return match self.given == 0 && !spec.allow_empty() {
                true => Err(
                    InputProblem::from(self.parsed.places.empty_input(spec.input(), seen)).into(),
                ),
                false => Ok(None),
            };
        };
        // Ids of inline rows were compared when the spec was read; keys of objects differ by nature.
        if let (Some(line), InputSpec::Manifest { uri, .. }) = (line, spec.input())
            && let Some(ids) = &mut self.ids
            && let Some(first) = ids.insert(&row.row_id(), line).map_err(RowError::Disk)?
        {
            return Err(duplicate(uri, &row, line, first).into());
        }
        self.given += 1;
        let limit = |error| InputProblem::from(self.parsed.places.too_many_items(&error));
        spec.n_items(self.given).map_err(limit)?;
        Ok(Some(row))
    }
}

impl Rows<'_> {
    /// At the end: whether an id stands in two places that were far apart. The row is read again for its words.
    async fn compare_ids(&mut self) -> Result<(), RowError> {
        let ids = self.ids.take().map(Duplicates::finish).transpose();
        let (Some(Some((first, second))), Some(objects), InputSpec::Manifest { uri, .. }) = (
            ids.map_err(RowError::Disk)?,
            &self.objects,
            self.parsed.spec.input(),
        ) else {
            return Ok(());
        };
        let mut manifest = Manifest::open(objects, self.parsed).await?;
        let mut index = 0;
        while let Some((row, line)) = manifest.next(index).await? {
            if line == second {
                return Err(duplicate(uri, &row, second, first).into());
            }
            index += 1;
        }
        // It is shorter by now: somebody changed it.
        Err(duplicate(uri, &InputRow::default(), second, first).into())
    }
}

/// What a person must change is a problem of the input; the rest may pass.
pub(crate) fn classify(parsed: &Parsed, error: ObjectsError) -> RowError {
    match &error {
        ObjectsError::Unavailable { .. } | ObjectsError::Changed { .. } => RowError::Objects(error),
        _ => unreadable(parsed, &error.to_string()),
    }
}

fn unreadable(parsed: &Parsed, words: &str) -> RowError {
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

fn duplicate(uri: &str, row: &InputRow, line: u64, first: u64) -> InputProblem {
    let at = |line: u64| usize::try_from(line).unwrap_or(usize::MAX);
    let diagnostic = match &row.id {
        Some(id) => plan_errors::duplicate_id(at(line), id, at(first)),
        None => plan_errors::duplicate_row(at(line), at(first)),
    };
    InputProblem::Manifest {
        uri: uri.to_owned(),
        diagnostic: Box::new(diagnostic),
    }
}

#[cfg(test)]
mod tests;
