//! What passed the check of a document, by path. Each value is read once, where it is used.

use serde::Deserialize;
use serde_yaml::Value;

use crate::yaml::findings::{Step, steps};

/// The values of a document that passed its check.
#[derive(Debug, Clone)]
pub(crate) struct Given(pub(crate) Value);

impl Given {
    /// What stands at a path such as `turns[0].name`; nothing (`key:` alone) does not count.
    pub(crate) fn at(&self, path: &str) -> Option<&Value> {
        let mut value = &self.0;
        for step in steps(path) {
            value = match step {
                Step::Key(key) => value.get(key)?,
                Step::Index(index) => value.get(index)?,
            };
        }
        (!value.is_null()).then_some(value)
    }

    /// The value at a path. None as well when it is of another type, which the check has refused.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self, path: &str) -> Option<T> {
        T::deserialize(self.at(path)?).ok()
    }

    /// The text at a path.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// Whether a word stands at a path, or in the list there.
    pub(crate) fn says(&self, path: &str, word: &str) -> bool {
        match self.at(path) {
            Some(Value::Sequence(words)) => words.iter().any(|other| other == word),
            Some(other) => other == word,
            None => false,
        }
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, path: &str) -> bool {
        self.at(path) == Some(&Value::Bool(true))
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, path: &str) -> Option<Vec<String>> {
        self.read(path)
    }

    /// How many elements a list has.
    pub(crate) fn len(&self, path: &str) -> usize {
        self.at(path).and_then(Value::as_sequence).map_or(0, Vec::len)
    }
}
