//! Rows from objects below a prefix: one row per object that the globs take, in the order of the keys.

use std::collections::HashMap;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use nightshift_jobs::{InputRow, Subjects};
use nightshift_objects::{Listed, Objects, S3Uri};

use crate::error::InputProblem;
use crate::rows::RowError;

/// Objects below a prefix.
pub(crate) struct Listing<'a> {
    objects: Objects,
    prefix: S3Uri,
    include: GlobSet,
    exclude: GlobSet,
    globs: &'a [String],
    /// References that each subject may still give; `None` outside `subjects`.
    subjects: Option<(u64, HashMap<String, u64>)>,
    page: std::vec::IntoIter<Listed>,
    /// Where the next page begins; `None` before the first.
    after: Option<String>,
    ended: bool,
    seen: u64,
}

impl<'a> Listing<'a> {
    pub(crate) fn of_prefix(
        objects: Objects,
        uri: &str,
        include: &'a [String],
        exclude: &[String],
    ) -> Result<Self, RowError> {
        let prefix: S3Uri = uri.parse().map_err(|error| unreadable(&error))?;
        Ok(Self {
            objects,
            prefix,
            include: globs(include)?,
            exclude: globs(exclude)?,
            globs: include,
            subjects: None,
            page: Vec::new().into_iter(),
            after: None,
            ended: false,
            seen: 0,
        })
    }

    pub(crate) fn of_subjects(objects: Objects, subjects: &'a Subjects) -> Result<Self, RowError> {
        let mut listing = Self::of_prefix(objects, &subjects.uri, &subjects.include, &subjects.exclude)?;
        listing.subjects = Some((subjects.max_references, HashMap::new()));
        Ok(listing)
    }

    /// The next row, with this index.
    pub(crate) async fn next(&mut self, index: u64) -> Result<Option<InputRow>, RowError> {
        loop {
            let Some(object) = self.page.next() else {
                if self.ended {
                    return Ok(None);
                }
                let page = self.objects.list_page(&self.prefix, self.after.take()).await?;
                self.ended = page.next.is_none();
                self.after = page.next;
                self.page = page.objects.into_iter();
                continue;
            };
            if let Some(row) = self.row(index, object) {
                return Ok(Some(row));
            }
        }
    }

    fn row(&mut self, index: u64, object: Listed) -> Option<InputRow> {
        let below = object.key.strip_prefix(&self.prefix.key)?;
        // Some tools leave an empty object where they show a folder.
        if below.is_empty() || below.ends_with('/') {
            return None;
        }
        self.seen += 1;
        if !(self.include.is_empty() || self.include.is_match(below)) || self.exclude.is_match(below) {
            return None;
        }
        let path = without_extension(below);
        if let Some((most, taken)) = &mut self.subjects {
            let taken = taken.entry(Subjects::subject_of(path)?.to_owned()).or_default();
            if *taken >= *most {
                return None;
            }
            *taken += 1;
        }
        let uri = S3Uri {
            bucket: self.prefix.bucket.clone(),
            key: object.key.clone(),
        };
        Some(InputRow {
            index,
            uri: Some(uri.to_string()),
            path: Some(path.to_owned()),
            etag: Some(object.etag),
            bytes: Some(object.bytes),
            ..InputRow::default()
        })
    }

    /// What was looked through, for the message that nothing matched.
    pub(crate) fn describe(&self) -> String {
        let with = match self.globs {
            [] => String::new(),
            globs => format!(" with {}", globs.join(", ")),
        };
        format!("prefix {}{with} (0 of {} objects)", self.prefix, thousands(self.seen))
    }
}

/// `a.b/c.jpg` without `.jpg`.
fn without_extension(key: &str) -> &str {
    let name = key.rfind('/').map_or(0, |slash| slash + 1);
    match key[name..].rfind('.') {
        Some(dot) if dot > 0 => &key[..name + dot],
        _ => key,
    }
}

/// `*` stays within a folder, `**` does not, as in a shell and in `.gitignore`.
fn globs(patterns: &[String]) -> Result<GlobSet, RowError> {
    let bad = |pattern: &str, error: globset::Error| InputProblem::BadGlob {
        message: format!("\"{pattern}\" is no glob: {}", error.kind()),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .map_err(|error| bad(pattern, error))?;
        set.add(glob);
    }
    Ok(set.build().map_err(|error| bad(&patterns.join(", "), error))?)
}

fn unreadable(error: &dyn std::fmt::Display) -> RowError {
    InputProblem::Unreadable {
        message: error.to_string(),
    }
    .into()
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are text"))
        .collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_know_folders() {
        let takes = |pattern: &str, key: &str| globs(&[pattern.to_owned()]).unwrap().is_match(key);
        assert!(takes("**/*.jpg", "a.jpg") && takes("**/*.jpg", "x/y/a.jpg"));
        assert!(takes("*.jpg", "a.jpg") && !takes("*.jpg", "x/a.jpg"));
        assert!(takes("**/thumbs/**", "x/thumbs/a.jpg") && !takes("**/thumbs/**", "x/thumb/a.jpg"));
        assert!(takes("*.{jpg,png}", "a.png"));
        assert!(globs(&["[".to_owned()]).is_err());
    }

    #[test]
    fn extensions_and_numbers() {
        assert_eq!(without_extension("a.b/c.tar.gz"), "a.b/c.tar");
        assert_eq!(without_extension("a.b/c"), "a.b/c");
        assert_eq!(without_extension("a/.hidden"), "a/.hidden");
        assert_eq!((thousands(0), thousands(1_204), thousands(12)), ("0".into(), "1 204".into(), "12".into()));
    }
}
