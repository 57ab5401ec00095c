//! Lists the objects of a bucket in the order of their keys' bytes, page by page, reading only the folders that can hold an answer.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What to list.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    pub(super) prefix: String,
    pub(super) delimiter: String,
    pub(super) after: After,
    pub(super) max_keys: usize,
}

/// Where to begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct After {
    /// Only keys greater than this.
    pub(super) key: String,
    /// And none that begins with it: it stands for a group that was returned already.
    pub(super) group: bool,
}

impl After {
    /// As an opaque token.
    pub(super) fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}{}", if self.group { 'g' } else { 'k' }, self.key))
    }

    pub(super) fn from_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let group = text.starts_with('g');
        let key = text.strip_prefix(['g', 'k'])?.to_owned();
        Some(Self { key, group })
    }

    fn excludes(&self, key: &str) -> bool {
        !self.key.is_empty()
            && (key <= self.key.as_str() || (self.group && key.starts_with(&self.key)))
    }
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Key(String),
    /// All keys that begin so.
    Group(String),
}

/// One page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) lines: Vec<Line>,
    /// Set when there is more.
    pub(super) next: Option<After>,
}

/// Lists what is in the folder of a bucket.
pub(super) fn list(bucket: &Path, query: &Query) -> io::Result<Found> {
    let mut walk = Walk { query, found: Found::default() };
    if query.max_keys > 0 {
        let _ = walk.folder(bucket, "")?;
    }
    Ok(walk.found)
}

/// Whether there is any object below `folder`.
pub(super) fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(list(folder, &Query { max_keys: 1, ..Query::default() })?.lines.is_empty())
}

struct Walk<'a> {
    query: &'a Query,
    found: Found,
}

impl Walk<'_> {
    /// Visits `folder`, whose objects' keys begin with `base`. Breaks when the page is full and there is more.
    fn folder(&mut self, folder: &Path, base: &str) -> io::Result<ControlFlow<()>> {
        for (name, is_folder) in entries(folder)? {
            let key = format!("{base}{name}");
            let prefix = self.query.prefix.as_str();
            let flow = if !is_folder {
                if key.starts_with(prefix) { self.key(key) } else { ControlFlow::Continue(()) }
            } else if !(key.starts_with(prefix) || prefix.starts_with(&key)) || self.skips(&key) {
                ControlFlow::Continue(())
            } else if self.query.delimiter == "/" && key.len() > prefix.len() {
                // One line stands for the whole folder; an empty one is left out.
                if is_empty(&folder.join(&name))? {
                    ControlFlow::Continue(())
                } else {
                    self.push(Line::Group(key))
                }
            } else {
                self.folder(&folder.join(&name), &key)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether everything below the folder `key` (which ends in `/`) was returned before.
    fn skips(&self, key: &str) -> bool {
        let after = &self.query.after;
        (key < after.key.as_str() && !after.key.starts_with(key))
            || (after.group && key.starts_with(&after.key) && !after.key.is_empty())
    }

    fn key(&mut self, key: String) -> ControlFlow<()> {
        let rest = &key[self.query.prefix.len()..];
        let delimiter = self.query.delimiter.as_str();
        let group = (!delimiter.is_empty()).then(|| rest.find(delimiter)).flatten();
        match group {
            Some(at) => {
                let group = key[..self.query.prefix.len() + at + delimiter.len()].to_owned();
                if self.query.after.excludes(&key)
                    || self.found.lines.last() == Some(&Line::Group(group.clone()))
                {
                    return ControlFlow::Continue(());
                }
                self.push(Line::Group(group))
            }
            None if self.query.after.excludes(&key) => ControlFlow::Continue(()),
            None => self.push(Line::Key(key)),
        }
    }

    fn push(&mut self, line: Line) -> ControlFlow<()> {
        if self.found.lines.len() == self.query.max_keys {
            self.found.next = self.found.lines.last().map(|line| match line {
                Line::Key(key) => After { key: key.clone(), group: false },
                Line::Group(key) => After { key: key.clone(), group: true },
            });
            return ControlFlow::Break(());
        }
        self.found.lines.push(line);
        ControlFlow::Continue(())
    }
}

/// The entries of a folder in the order of the keys that they stand for; the names of folders end in `/`. Links, devices and names that are not UTF-8 are not objects.
fn entries(folder: &Path) -> io::Result<Vec<(String, bool)>> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        // Deleted just now, with its last object.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry?;
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if kind.is_dir() {
            entries.push((name + "/", true));
        } else if kind.is_file() && super::keys::check(&name).is_ok() {
            entries.push((name, false));
        }
    }
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 9] = ["a", "a!b", "b-1/x", "b.txt", "b/1", "b/2/y", "b/2/z", "b0", "c/ü"];

    fn bucket() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for key in KEYS {
            let path = folder.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, key).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("empty/deeper")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("links")).unwrap();
        folder
    }

    /// What a simple implementation over all keys says.
    fn expected(prefix: &str, delimiter: &str) -> Vec<Line> {
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        let mut lines = Vec::new();
        for key in keys.into_iter().filter(|key| key.starts_with(prefix)) {
            let line = match (!delimiter.is_empty())
                .then(|| key[prefix.len()..].find(delimiter))
                .flatten()
            {
                Some(at) => Line::Group(key[..prefix.len() + at + delimiter.len()].to_owned()),
                None => Line::Key(key.to_owned()),
            };
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        }
        lines
    }

    #[test]
    fn pages_of_every_size_give_the_same_as_a_plain_sort() {
        let folder = bucket();
        for prefix in ["", "a", "b", "b/", "b/2", "b/2/", "c/ü", "zz"] {
            for delimiter in ["", "/", "!", "/2/", "-"] {
                for max_keys in 1..=10 {
                    let mut query = Query {
                        prefix: prefix.into(),
                        delimiter: delimiter.into(),
                        max_keys,
                        ..Query::default()
                    };
                    let mut lines = Vec::new();
                    loop {
                        let found = list(folder.path(), &query).unwrap();
                        assert!(found.lines.len() <= max_keys);
                        lines.extend(found.lines);
                        let Some(next) = found.next else { break };
                        query.after = After::from_token(&next.token()).unwrap();
                    }
                    assert_eq!(
                        lines,
                        expected(prefix, delimiter),
                        "prefix {prefix:?} delimiter {delimiter:?} max {max_keys}"
                    );
                }
            }
        }
    }

    #[test]
    fn begins_after_any_text() {
        let folder = bucket();
        for start in ["a", "a!", "b", "b-", "b/", "b/1", "b/2", "b/2/y~", "c/", "zz"] {
            let after = After { key: start.into(), group: false };
            let found =
                list(folder.path(), &Query { after, max_keys: 100, ..Query::default() }).unwrap();
            let wanted: Vec<Line> = expected("", "")
                .into_iter()
                .filter(|line| matches!(line, Line::Key(key) if key.as_str() > start))
                .collect();
            assert_eq!(found.lines, wanted, "{start}");
        }
    }

    #[test]
    fn a_forged_token_is_refused() {
        assert_eq!(After::from_token("%%%"), None);
        assert_eq!(After::from_token(&URL_SAFE_NO_PAD.encode("x")), None);
    }
}
