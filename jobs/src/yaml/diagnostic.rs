//! One mistake in a spec, with its place in the text, and how it is shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The widest piece of a source line that is shown, in characters: a line of a megabyte is cut around the caret.
const SHOWN_CHARS: usize = 120;

/// The most mistakes that are written out; the rest is counted.
const SHOWN_MISTAKES: usize = 100;

/// What a diagnostic means for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The spec is refused.
    Error,
    /// The spec is accepted, but probably not meant so.
    Warning,
    /// The spec is valid, but names something that this build cannot run.
    CannotRun,
}

/// One mistake, warning or missing feature, at a place in the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable name of the kind of mistake, for example `spec::unknown_field`.
    pub code: String,
    /// What it means for the job.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where in the spec, for example `sampler.cfg` or `input.inline[3].id`; empty for the whole file.
    pub path: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// How many characters the caret marks, at least 1.
    pub width: usize,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The diagnostic as text: `name:line:column: message`, the source line, a caret below it, and a `help:` line if there is
    /// one. No line feed at the end. `text` is the source that was parsed.
    pub fn render(&self, name: &str, text: &str) -> String {
        let prefix = if self.severity == Severity::Warning { "warning: " } else { "" };
        let mut out = format!("{prefix}{name}:{}:{}: {}", self.line, self.column, self.message);
        if let Some(line) = text.split('\n').nth(self.line.saturating_sub(1)) {
            let (shown, caret_at) = excerpt(line, self.column);
            if !shown.trim().is_empty() {
                let shown =
                    if self.code == SECRET { mask(&shown, caret_at, self.width) } else { shown };
                let number = self.line.to_string();
                let gutter = " ".repeat(number.len());
                let room = shown.chars().count().saturating_sub(caret_at).max(1);
                let carets = "^".repeat(self.width.clamp(1, room));
                out.push_str(&format!(
                    "\n{number} | {shown}\n{gutter} | {}{carets}",
                    " ".repeat(caret_at)
                ));
            }
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("\nhelp: {help}"));
        }
        out
    }
}

/// The code of mistakes whose text must not be repeated.
const SECRET: &str = "spec::secret";

/// A line with the marked characters hidden, so that a secret does not travel into logs with the message about it.
fn mask(line: &str, from: usize, width: usize) -> String {
    let hide = |(at, c)| {
        if (from..from + width).contains(&at) { '*' } else { c }
    };
    line.chars().enumerate().map(hide).collect()
}

/// The part of a line around a column (from 1), with control characters shown as spaces, and the caret's offset in it.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let at = column.saturating_sub(1);
    let from = if at >= SHOWN_CHARS { at - SHOWN_CHARS / 2 } else { 0 };
    let visible = |c: char| {
        if c.is_control() || crate::template::is_bidi_control(c) { ' ' } else { c }
    };
    let shown: String =
        line.trim_end_matches('\r').chars().skip(from).take(SHOWN_CHARS).map(visible).collect();
    (shown.trim_end().to_owned(), at - from)
}

/// Every mistake of a spec that was refused, with the source, so that it can show itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecErrors {
    /// The mistakes in the order of the text; never empty.
    pub diagnostics: Vec<Diagnostic>,
    name: String,
    text: String,
}

impl SpecErrors {
    /// Puts mistakes and their source together, in the order of the text.
    pub fn new(name: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|a| (a.line, a.column));
        Self { diagnostics, name: name.to_owned(), text: text.to_owned() }
    }

    /// The file name that the mistakes are shown with.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, diagnostic) in self.diagnostics.iter().take(SHOWN_MISTAKES).enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&diagnostic.render(&self.name, &self.text))?;
        }
        let left = self.diagnostics.len().saturating_sub(SHOWN_MISTAKES);
        if left > 0 {
            write!(f, "\n\n… and {left} more")?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}
