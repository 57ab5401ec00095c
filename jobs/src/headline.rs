//! What a spec calls itself, however wrong it is otherwise.

use crate::yaml::node::Node;
use crate::yaml::scan::scan;

/// Longer texts are no names for a list of jobs.
const MAX_CHARS: usize = 100;

/// Name and kind of a spec that may be wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headline {
    /// `metadata.name`, if it is a short text.
    pub name: Option<String>,
    /// `kind`, if it is a short text.
    pub kind: Option<String>,
}

impl Headline {
    /// Reads as far as the text can be read at all.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let Ok(scanned) = scan(text) else {
            return Self::default();
        };
        let short = |node: &Node| {
            let text = node.text().filter(|_| !node.is_null())?;
            (text.chars().count() <= MAX_CHARS && !text.contains(char::is_control))
                .then(|| text.to_owned())
        };
        let root = &scanned.root;
        Self {
            name: root.get("metadata").and_then(|metadata| metadata.get("name")).and_then(short),
            kind: root.get("kind").and_then(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_spec_still_has_its_name() {
        let of = |text: &str| {
            let headline = Headline::of(text);
            (headline.name, headline.kind)
        };
        let some = |text: &str| Some(text.to_owned());
        let wrong = "kind: no_kind\nmetadata: {name: mine}\nmore: [1]\nmore: 2\n";
        assert_eq!(of(wrong), (some("mine"), some("no_kind")));
        assert_eq!(of("kind: [edit]\nmetadata: {name: ~}"), (None, None));
        assert_eq!(of("metadata: name"), (None, None));
        assert_eq!(of("metadata: {name: \"a\\tb\"}\nkind: edit"), (None, some("edit")));
        let long = format!("kind: {}", "x".repeat(MAX_CHARS + 1));
        assert_eq!(of(&long), (None, None));
        assert_eq!(of("a: [1"), (None, None));
    }
}
