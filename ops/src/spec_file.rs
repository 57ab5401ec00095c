//! Spec files: reading them, and changing values before they are read (`--set`, `--name`).

use std::io::Read;
use std::path::Path;

use nightshift_jobs::Parsed;
use serde_yaml::{Mapping, Value};

use crate::exit::{Exit, Failure};

/// A larger file is not a spec; the rest is not read. A little above the parser's own limit, so that its message is shown.
const MAX_BYTES: u64 = 4 << 20;

/// A spec that was read, not yet parsed.
#[derive(Debug)]
pub struct SpecFile {
    /// The file name as it was typed; `stdin` for `-`.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl SpecFile {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// [`Exit::NotFound`] when there is no such file, [`Exit::Usage`] when it cannot be read or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let stdin = path == Path::new("-");
        let name = if stdin { "stdin".to_owned() } else { path.display().to_string() };
        let mut bytes = Vec::new();
        let read = if stdin {
            std::io::stdin().lock().take(MAX_BYTES).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
        };
        read.map_err(|error| {
            let exit = match error.kind() {
                std::io::ErrorKind::NotFound => Exit::NotFound,
                _ => Exit::Usage,
            };
            Failure::new(exit, format!("{name}: {error}"))
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Failure::new(Exit::Usage, format!("{name}:{line}: the file is not UTF-8 here"))
        })?;
        Ok(Self { name, text })
    }

    /// Changes values: each is `path=value`, the value read as YAML. The text becomes plain YAML without comments.
    ///
    /// # Errors
    /// [`Exit::Usage`] when an assignment has no `=`, leads through something that is not a mapping, or the text is not a mapping.
    pub fn set(&mut self, assignments: &[String]) -> Result<(), Failure> {
        if assignments.is_empty() {
            return Ok(());
        }
        let usage = |message: String| {
            Failure::new(Exit::Usage, message).help("--set takes path=value, such as sampler.cfg=3")
        };
        let mut root: Value = match serde_yaml::from_str(&self.text) {
            Ok(root) => root,
            Err(error) => {
                // Our own parser says it better, with the line and a caret.
                self.parse()?;
                return Err(usage(format!("{}: {error}", self.name)));
            }
        };
        for assignment in assignments {
            let (path, value) = assignment
                .split_once('=')
                .ok_or_else(|| usage(format!("--set {assignment}: `=` is missing")))?;
            let value: Value = serde_yaml::from_str(value).map_err(|error| {
                usage(format!("--set {assignment}: the value is not YAML: {error}"))
            })?;
            put(&mut root, path, value)
                .map_err(|what| usage(format!("--set {assignment}: {what}")))?;
        }
        self.text = serde_yaml::to_string(&root)
            .map_err(|error| usage(format!("{}: {error}", self.name)))?;
        self.name = format!("{} (with --set)", self.name);
        Ok(())
    }

    /// Parses the spec; mistakes are shown on standard error by the caller.
    ///
    /// # Errors
    /// [`Exit::Usage`] with all mistakes.
    pub fn parse(&self) -> Result<Parsed, Failure> {
        nightshift_jobs::parse(&self.name, &self.text)
            .map_err(|errors| Failure::new(Exit::Usage, format!("the spec is not valid\n{errors}")))
    }
}

fn put(root: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let (mut here, mut left) = (root, path);
    loop {
        let Value::Mapping(map) = here else {
            return Err(format!("there is no mapping to hold \"{left}\""));
        };
        if left.is_empty() {
            return Err("the path is empty".to_owned());
        }
        let Some((first, rest)) = left.split_once('.') else {
            map.insert(left.into(), value);
            return Ok(());
        };
        here = map.entry(first.into()).or_insert_with(|| Value::Mapping(Mapping::new()));
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, assignments: &[(&str, &str)]) -> Result<String, String> {
        let mut root: Value = serde_yaml::from_str(text).unwrap();
        for (path, value) in assignments {
            put(&mut root, path, serde_yaml::from_str(value).unwrap())?;
        }
        Ok(serde_yaml::to_string(&root).unwrap())
    }

    #[test]
    fn values_are_replaced_and_made() {
        let text = "sampler: {cfg: 4}\nkind: edit\n";
        assert_eq!(
            set(
                text,
                &[
                    ("sampler.cfg", "3.5"),
                    ("output.dest", "s3://b/x/"),
                    ("generate.seeds", "[1, 2]")
                ]
            )
            .unwrap(),
            "sampler:\n  cfg: 3.5\nkind: edit\noutput:\n  dest: s3://b/x/\ngenerate:\n  seeds:\n  - 1\n  - 2\n"
        );
        assert_eq!(set(text, &[("kind.x", "1")]).unwrap_err(), "there is no mapping to hold \"x\"");
        assert_eq!(set(text, &[("", "1")]).unwrap_err(), "the path is empty");
    }

    #[test]
    fn a_missing_file_and_bytes_that_are_no_text_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let missing = SpecFile::read(&dir.path().join("none.yaml")).unwrap_err();
        assert_eq!(missing.exit, Exit::NotFound);
        let path = dir.path().join("bad.yaml");
        std::fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
        let bad = SpecFile::read(&path).unwrap_err();
        assert_eq!(bad.exit, Exit::Usage);
        assert!(bad.message.ends_with("bad.yaml:2: the file is not UTF-8 here"), "{}", bad.message);
    }
}
