//! The input rows of a job as one stream, in bounded memory.

use nightshift_jobs::{InputRow, InputSpec, Parsed, places};
use nightshift_objects::Objects;

use super::duplicates::{Duplicates, ROOM};
use super::listing::Listing;
use super::manifest::Manifest;
use super::row_error::{RowError, classify, unreadable};
use crate::error::InputProblem;

enum Source<'a> {
    Inline(std::slice::Iter<'a, InputRow>),
    Manifest(Box<Manifest<'a>>),
    Listing(Box<Listing>),
}

/// The rows of a job, checked: ids and keys are unique, limits are kept, an empty input is an error unless it is allowed.
pub(crate) struct Rows<'a> {
    source: Source<'a>,
    parsed: &'a Parsed,
    objects: Option<Objects>,
    limit: u64,
    given: u64,
    /// `None`: they differ by nature, or all were compared.
    ids: Option<Duplicates>,
    /// The same for the keys of results.
    keys: Option<Duplicates>,
    /// A key that two rows gave.
    same_key: Option<String>,
}

impl<'a> Rows<'a> {
    /// Opens the input of a spec. `client` is needed by every input but an inline one.
    ///
    /// # Errors
    /// The manifest does not exist or its header is wrong; the object store does not answer.
    ///
    /// # Panics
    /// When `client` is missing for an input that lies in the object store: a bug of the caller.
    pub(crate) async fn open(
        client: Option<&Objects>,
        parsed: &'a Parsed,
    ) -> Result<Self, RowError> {
        let objects =
            || client.expect("the caller gives a client for inputs in the object store").clone();
        let (source, limit) = match parsed.spec.input() {
            InputSpec::Inline { rows } => (Source::Inline(rows.iter()), None),
            InputSpec::Manifest { limit, .. } => {
                (Source::Manifest(Box::new(Manifest::open(&objects(), parsed).await?)), *limit)
            }
            InputSpec::Prefix { uri, include, exclude, limit } => {
                let listing = Listing::new(objects(), uri, include, exclude, None);
                (
                    Source::Listing(Box::new(listing.map_err(|words| unreadable(parsed, &words))?)),
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
                    Source::Listing(Box::new(listing.map_err(|words| unreadable(parsed, &words))?)),
                    subjects.limit,
                )
            }
        };
        // Ids and keys of inline rows were compared when the spec was read; uris of objects differ by nature.
        let ids = matches!(source, Source::Manifest(_));
        let keys = !matches!(source, Source::Inline(_)) && !parsed.spec.names_rows();
        let room = if ids && keys { ROOM / 2 } else { ROOM };
        Ok(Self {
            source,
            parsed,
            objects: client.cloned(),
            limit: limit.unwrap_or(u64::MAX),
            given: 0,
            ids: ids.then(|| Duplicates::with_room(room)),
            keys: keys.then(|| Duplicates::with_room(room)),
            same_key: None,
        })
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the next row or with the input as a whole.
    pub(crate) async fn next(&mut self) -> Result<Option<InputRow>, RowError> {
        let next = match self.given < self.limit {
            true => self.read().await?,
            false => None,
        };
        let spec = &self.parsed.spec;
        let Some((row, line)) = next else {
            self.compare_distant().await?;
            let seen = match &self.source {
                Source::Listing(listing) => listing.seen(),
                _ => 0,
            };
            return match self.given == 0 && !spec.allow_empty() {
                true => {
                    Err(InputProblem::from(self.parsed.places.empty_input(spec.input(), seen))
                        .into())
                }
                false => Ok(None),
            };
        };
        if let (Some(line), Some(ids), InputSpec::Manifest { uri, .. }) =
            (line, &mut self.ids, spec.input())
            && let Some(first) = ids.insert(&row.row_id(), line).map_err(RowError::Disk)?
        {
            return Err(duplicate(uri, &row, line, first).into());
        }
        if self.same_key.is_none()
            && let Some(keys) = &mut self.keys
            && let Some(key) = spec.first_key(&row)
        {
            let first = keys.insert(&key, row.index).map_err(RowError::Disk)?;
            self.same_key = first.map(|_| key);
        }
        let limit = |error| InputProblem::from(self.parsed.places.too_many_items(&error));
        spec.n_items(self.given).map_err(limit)?;
        Ok(Some(row))
    }

    /// The next row, unchecked, and its line number if the input has lines.
    async fn read(&mut self) -> Result<Option<(InputRow, Option<u64>)>, RowError> {
        let next = match &mut self.source {
            Source::Inline(rows) => rows.next().cloned().map(|row| (row, None)),
            Source::Manifest(manifest) => {
                let next = manifest.next(self.given).await?;
                next.map(|(row, line)| (row, Some(line)))
            }
            Source::Listing(listing) => {
                let next = listing.next(self.given).await;
                let row = next.map_err(|error| classify(self.parsed, error))?;
                row.map(|row| (row, None))
            }
        };
        self.given += u64::from(next.is_some());
        Ok(next)
    }

    /// Checks at the end whether an id or a key occurs twice, however far apart. The input is read again to name the places.
    async fn compare_distant(&mut self) -> Result<(), RowError> {
        let spec = &self.parsed.spec;
        let distant = |seen: Option<Duplicates>| {
            let found = seen.map(Duplicates::finish).transpose();
            found.map(Option::flatten).map_err(RowError::Disk)
        };
        if let (Some((first, second)), InputSpec::Manifest { uri, .. }) =
            (distant(self.ids.take())?, spec.input())
        {
            let mut rows = Self::open(self.objects.as_ref(), self.parsed).await?;
            // If that line is gone, the manifest was changed meanwhile.
            let mut repeated = InputRow::default();
            while let Some((row, line)) = rows.read().await? {
                if line == Some(second) {
                    repeated = row;
                    break;
                }
            }
            return Err(duplicate(uri, &repeated, second, first).into());
        }
        let same_key = match (self.same_key.take(), distant(self.keys.take())?) {
            (None, None) => return Ok(()),
            (Some(key), _) => key,
            (None, Some((first, _))) => {
                let mut key = String::new();
                self.read_keys(|index, found| {
                    if index == first {
                        found.clone_into(&mut key);
                    }
                })
                .await?;
                key
            }
        };
        let mut rows = 0;
        self.read_keys(|_, key| rows += u64::from(key == same_key)).await?;
        let key = same_key.strip_prefix("data/").unwrap_or(&same_key);
        let places = &self.parsed.places;
        Err(InputProblem::from(places.name_not_unique(spec.input(), rows, key)).into())
    }

    /// Reads the input again, for the key of each row.
    async fn read_keys(&mut self, mut take: impl FnMut(u64, &str)) -> Result<(), RowError> {
        let mut rows = Self::open(self.objects.as_ref(), self.parsed).await?;
        while rows.given < self.given
            && let Some((row, _)) = rows.read().await?
        {
            if let Some(key) = self.parsed.spec.first_key(&row) {
                take(row.index, &key);
            }
        }
        Ok(())
    }
}

fn duplicate(uri: &str, row: &InputRow, line: u64, first: u64) -> InputProblem {
    let at = |line: u64| usize::try_from(line).unwrap_or(usize::MAX);
    let diagnostic = match &row.id {
        Some(id) => places::duplicate_id(at(line), id, at(first)),
        None => places::duplicate_row(at(line), at(first)),
    };
    InputProblem::Manifest { uri: uri.to_owned(), diagnostic: Box::new(diagnostic) }
}

#[cfg(test)]
mod tests;
