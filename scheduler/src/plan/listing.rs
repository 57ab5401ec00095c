//! Rows from objects below a prefix: one row per object that the globs take, in the order of the keys.

use std::collections::HashMap;

use nightshift_jobs::{Globs, InputRow, Subjects};
use nightshift_objects::{After, Error as ObjectsError, Listed, Objects, S3Uri};

/// Objects below a prefix.
pub(crate) struct Listing {
    objects: Objects,
    prefix: S3Uri,
    globs: Globs,
    /// The most references of each subject, and how many each has; `None` outside `subjects`.
    subjects: Option<(u64, HashMap<String, u64>)>,
    page: std::vec::IntoIter<Listed>,
    /// Where the next page begins; `None` before the first.
    after: Option<After>,
    ended: bool,
    seen: u64,
}

impl Listing {
    /// Nothing is asked yet. `max_references`: objects are references of subjects, and each has at most so many.
    ///
    /// # Errors
    /// The uri or a glob is not valid; in words.
    pub(crate) fn new(
        objects: Objects,
        uri: &str,
        include: &[String],
        exclude: &[String],
        max_references: Option<u64>,
    ) -> Result<Self, String> {
        Ok(Self {
            objects,
            prefix: uri.parse().map_err(|error: nightshift_objects::UriError| error.to_string())?,
            globs: Globs::new(include, exclude)?,
            subjects: max_references.map(|most| (most, HashMap::new())),
            page: Vec::new().into_iter(),
            after: None,
            ended: false,
            seen: 0,
        })
    }

    /// The next row, with this index.
    pub(crate) async fn next(&mut self, index: u64) -> Result<Option<InputRow>, ObjectsError> {
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

    /// Objects looked at so far, without the empty ones that some tools leave where they show a folder.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    fn row(&mut self, index: u64, object: Listed) -> Option<InputRow> {
        let below = object.key.strip_prefix(&self.prefix.key)?;
        self.seen += u64::from(!below.ends_with('/'));
        if !self.globs.takes(below) {
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
        let uri = S3Uri { bucket: self.prefix.bucket.clone(), key: object.key.clone() };
        Some(InputRow {
            index,
            uri: Some(uri.to_string()),
            path: Some(path.to_owned()),
            etag: Some(object.etag),
            bytes: Some(object.bytes),
            ..InputRow::default()
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_extension_goes() {
        assert_eq!(without_extension("a.b/c.tar.gz"), "a.b/c.tar");
        assert_eq!(without_extension("a.b/c"), "a.b/c");
        assert_eq!(without_extension("a/.hidden"), "a/.hidden");
    }
}
