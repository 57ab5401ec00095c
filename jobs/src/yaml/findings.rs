//! Where validation writes what it finds: mistakes by path, resolved to positions in the text.

use std::collections::HashSet;

use crate::yaml::diagnostic::{Diagnostic, Severity};
use crate::yaml::node::{Node, Pos};

/// Findings of one spec.
pub(crate) struct Cx<'t> {
    /// The document; for a cell of the matrix, its blocks with the cell's values put in.
    pub(crate) root: Node,
    lines: Vec<&'t str>,
    found: Vec<Diagnostic>,
    /// The same mistake at the same place is said once, however many cells have it.
    said: HashSet<(usize, usize, String)>,
}

impl<'t> Cx<'t> {
    pub(crate) fn new(root: Node, text: &'t str) -> Self {
        Self { root, lines: text.split('\n').collect(), found: Vec::new(), said: HashSet::new() }
    }

    /// Everything that was found.
    pub(crate) fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }

    /// Takes over what scanning found.
    pub(crate) fn extend(&mut self, found: Vec<Diagnostic>) {
        for diagnostic in found {
            self.push(diagnostic);
        }
    }

    /// Whether there is no error so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.found.iter().all(|diagnostic| diagnostic.severity != Severity::Error)
    }

    /// How many things were found so far.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether something stands at a path, be it wrong or right; nothing (`key:` alone) does not count.
    pub(crate) fn given(&self, path: &str) -> bool {
        self.node(path).is_some_and(|node| !node.is_null())
    }

    /// The node at a path such as `input.inline[3].id`.
    pub(crate) fn node(&self, path: &str) -> Option<&Node> {
        let mut node = &self.root;
        for step in steps(path) {
            node = match step {
                Step::Key(key) => node.get(key)?,
                Step::Index(index) => node.elements().get(index)?,
            };
        }
        Some(node)
    }

    /// The position of the value at a path, else of the nearest thing around it that is there.
    pub(crate) fn value_at(&self, path: &str) -> Pos {
        self.find(path, false)
    }

    /// The position of the key at a path.
    pub(crate) fn key_at(&self, path: &str) -> Pos {
        self.find(path, true)
    }

    fn find(&self, path: &str, want_key: bool) -> Pos {
        let mut node = &self.root;
        // The key of the deepest thing that is there, for blocks that start on the next line.
        let mut key = Pos { width: 1, ..node.at };
        for step in steps(path) {
            match step {
                Step::Key(name) => match node.entry(name) {
                    Some(entry) => (node, key) = (&entry.value, entry.key_at),
                    None => return key,
                },
                Step::Index(index) => match node.elements().get(index) {
                    Some(element) => (node, key) = (element, element.at),
                    None => return key,
                },
            }
        }
        // Mappings and lists in block style start at their first key: their own key says more.
        let block = node.text().is_none() && node.at.line != key.line;
        if want_key || block || node.is_null() { key } else { node.at }
    }

    /// The position of the n-th occurrence of a text inside the scalar at a position, else the position itself.
    pub(crate) fn inside(&self, at: Pos, needle: &str, nth: usize) -> Pos {
        let mut left = nth;
        for (n, line) in self.lines.iter().enumerate().skip(at.line - 1).take(500) {
            let first = n + 1 == at.line;
            let from = if first { byte_of(line, at.column - 1) } else { 0 };
            for (byte, _) in line[from..].match_indices(needle) {
                if left == 0 {
                    let column = line[..from + byte].chars().count() + 1;
                    return Pos { line: n + 1, column, width: needle.chars().count() };
                }
                left -= 1;
            }
        }
        at
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.said.insert((diagnostic.line, diagnostic.column, diagnostic.message.clone())) {
            self.found.push(diagnostic);
        }
    }

    /// An error at a position.
    pub(crate) fn error_at(&mut self, at: Pos, path: &str, code: &str, message: impl Into<String>) {
        self.error_at_with(at, path, code, message, None);
    }

    /// An error at a position, and what to do about it.
    pub(crate) fn error_at_with(
        &mut self,
        at: Pos,
        path: &str,
        code: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.say(Severity::Error, at, path, code, message.into(), help);
    }

    /// An error at the value of a path.
    pub(crate) fn error(&mut self, path: &str, code: &str, message: impl Into<String>) {
        self.error_with(path, code, message, None);
    }

    /// An error at the value of a path, and what to do about it.
    pub(crate) fn error_with(
        &mut self,
        path: &str,
        code: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.error_at_with(self.value_at(path), path, code, message, help);
    }

    /// An error at the key of a path, or of the block that should hold it.
    pub(crate) fn key_error(&mut self, path: &str, code: &str, message: impl Into<String>) {
        self.key_error_with(path, code, message, None);
    }

    /// An error at the key of a path, and what to do about it.
    pub(crate) fn key_error_with(
        &mut self,
        path: &str,
        code: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.error_at_with(self.key_at(path), path, code, message, help);
    }

    /// Something that is required and not there; nothing is said when a wrong value stands there.
    pub(crate) fn missing(&mut self, path: &str, help: &str) {
        if !self.given(path) {
            self.key_error_with(
                path,
                "spec::missing",
                format!("{path} is missing"),
                Some(help.to_owned()),
            );
        }
    }

    /// Something that is probably not meant so.
    pub(crate) fn warn_at(&mut self, at: Pos, path: &str, code: &str, message: String) {
        self.say(Severity::Warning, at, path, code, message, None);
    }

    /// Something valid that this build cannot run.
    pub(crate) fn cannot_run(&mut self, path: &str, feature: &str) {
        self.cannot_run_but(path, feature, None);
    }

    /// Something valid that this build cannot run, and what it can.
    pub(crate) fn cannot_run_but(&mut self, path: &str, feature: &str, help: Option<String>) {
        let message = format!("valid; this build cannot run: {feature}");
        let at = if self.given(path) { self.value_at(path) } else { self.key_at(path) };
        self.say(Severity::CannotRun, at, path, "spec::cannot_run", message, help);
    }

    fn say(
        &mut self,
        severity: Severity,
        at: Pos,
        path: &str,
        code: &str,
        message: String,
        help: Option<String>,
    ) {
        self.push(Diagnostic {
            code: code.to_owned(),
            severity,
            message,
            path: path.to_owned(),
            line: at.line,
            column: at.column,
            width: at.width,
            help,
        });
    }
}

pub(crate) enum Step<'p> {
    Key(&'p str),
    Index(usize),
}

/// The steps of `input.inline[3].id`.
pub(crate) fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split('.').filter(|part| !part.is_empty()).flat_map(|part| {
        let (key, rest) = part.split_once('[').unwrap_or((part, ""));
        let indices = rest
            .split('[')
            .filter_map(|index| index.trim_end_matches(']').parse().ok())
            .map(Step::Index);
        std::iter::once(Step::Key(key)).chain(indices)
    })
}

/// The byte at which a character of a line starts; its end when the line is shorter.
fn byte_of(line: &str, chars: usize) -> usize {
    line.char_indices().nth(chars).map_or(line.len(), |(byte, _)| byte)
}
