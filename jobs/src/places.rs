//! Mistakes that show only when inputs, destinations or measured rates are known, in the same form as those of the text.
//!
//! `nightshift plan` and the scheduler make them from [`Parsed::places`](crate::Parsed), so that each points at the line of the
//! spec that asked for it, or, for mistakes inside a manifest, at that file's own line.

use std::collections::BTreeMap;

use crate::spec::input::InputSpec;
use crate::yaml::diagnostic::{Diagnostic, Severity};
use crate::yaml::findings::Cx;
use crate::yaml::node::{Pos, quoted};

/// A column of a manifest that the spec uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnUse {
    /// The column, by the manifest's name.
    pub column: String,
    /// How the spec names it: `columns.prompt` or `{{ row.tag }}`.
    shown: String,
    path: String,
    at: (usize, usize, usize),
}

impl ColumnUse {
    pub(crate) fn new(column: String, shown: String, path: String, at: Pos) -> Self {
        Self { column, shown, path, at: (at.line, at.column, at.width) }
    }
}

/// Where things stand in the text of a spec that was read without mistakes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    at: BTreeMap<&'static str, (usize, usize, usize)>,
    columns: Vec<ColumnUse>,
    source: String,
}

/// What later mistakes may point at.
const PATHS: [&str; 10] = [
    "schedule.after",
    "notify",
    "input",
    "input.manifest",
    "input.prefix",
    "input.subjects.prefix",
    "output.dest",
    "output.name",
    "limits.max_items",
    "limits.max_gpu_hours",
];

impl Places {
    /// `columns` are those that the captions and names of the spec use.
    pub(crate) fn new(cx: &Cx<'_>, input: &InputSpec, mut columns: Vec<ColumnUse>) -> Self {
        let place = |pos: Pos| (pos.line, pos.column, pos.width);
        let mut at: BTreeMap<&'static str, _> =
            PATHS.into_iter().map(|path| (path, place(cx.value_at(path)))).collect();
        for path in ["notify", "input", "input.prefix", "input.manifest", "input.subjects.prefix"] {
            at.insert(path, place(cx.key_at(path)));
        }
        let source = match input {
            InputSpec::Manifest { uri, columns: mapped, id_column, .. } => {
                let uses = mapped
                    .iter()
                    .map(|(name, column)| (name, column.clone()))
                    .filter(|(name, _)| *name != "id" || id_column.is_some());
                for (name, column) in uses {
                    let path = format!("input.columns.{name}");
                    let known = columns.iter().any(|known| known.path == path);
                    if !known {
                        columns.push(ColumnUse::new(
                            column,
                            format!("columns.{name}"),
                            path.clone(),
                            cx.value_at(&path),
                        ));
                    }
                }
                uri.clone()
            }
            InputSpec::Prefix { uri, .. } => uri.clone(),
            InputSpec::Subjects(subjects) => subjects.uri.clone(),
            InputSpec::Inline { .. } => String::new(),
        };
        Self { at, columns, source }
    }

    /// The columns that a manifest must have.
    pub fn columns(&self) -> &[ColumnUse] {
        &self.columns
    }

    fn at(
        &self,
        path: &'static str,
        code: &str,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let (line, column, width) = self.at.get(path).copied().unwrap_or((1, 1, 1));
        diagnostic(code, path, (line, column, width), message, help)
    }

    /// Columns that the spec names and the manifest lacks: one mistake for each. `known` are the manifest's columns.
    pub fn missing_columns(&self, known: &[String]) -> Vec<Diagnostic> {
        let missing = self.columns.iter().filter(|used| !known.contains(&used.column));
        missing
            .map(|used| {
                let list = known.join(", ");
                let (message, help) = if used.shown.starts_with("{{") {
                    (
                        format!(
                            "{}: the manifest has no column {}",
                            used.shown,
                            quoted(&used.column)
                        ),
                        Some(format!("columns are {list}")),
                    )
                } else {
                    (
                        format!(
                            "{}: {} is not in {} (columns: {list})",
                            used.shown,
                            quoted(&used.column),
                            self.source
                        ),
                        None,
                    )
                };
                diagnostic("plan::missing_column", &used.path, used.at, message, help)
            })
            .collect()
    }

    /// `notify` names what the tenant may not use; the words come from the store.
    pub fn notify_refused(&self) -> Diagnostic {
        self.at("notify", "plan::refused", String::new(), None)
    }

    /// The input has no row. `looked_at` is how many objects or records there were.
    pub fn empty_input(&self, input: &InputSpec, looked_at: u64) -> Diagnostic {
        let (path, message) = match input {
            InputSpec::Prefix { uri, include, .. } => {
                ("input.prefix", listing(uri, include, looked_at))
            }
            InputSpec::Subjects(subjects) => {
                ("input.subjects.prefix", listing(&subjects.uri, &subjects.include, looked_at))
            }
            InputSpec::Manifest { uri, .. } => {
                ("input.manifest", format!("no row in manifest {uri}"))
            }
            InputSpec::Inline { .. } => ("input", "no row in input.inline".to_owned()),
        };
        self.at(
            path,
            "plan::empty_input",
            message,
            Some("set input.allow_empty to accept it".to_owned()),
        )
    }

    /// The input cannot be read. `reason` is what the store said, for example `NoSuchKey on GetObject`.
    pub fn input_unreadable(&self, input: &InputSpec, reason: &str) -> Diagnostic {
        let path = match input {
            InputSpec::Prefix { .. } => "input.prefix",
            InputSpec::Subjects(_) => "input.subjects.prefix",
            InputSpec::Manifest { .. } => "input.manifest",
            InputSpec::Inline { .. } => "input",
        };
        self.at(path, "plan::input_unreadable", format!("{}: {reason}", self.source), None)
    }

    /// The destination refused a probe. `reason` is for example `AccessDenied on PutObject (probe key …)`.
    pub fn dest_not_writable(&self, dest: &str, reason: &str) -> Diagnostic {
        self.at("output.dest", "plan::dest_not_writable", format!("{dest}: {reason}"), None)
    }

    /// The destination belongs to another job, named by `owner`.
    pub fn dest_in_use(&self, dest: &str, owner: &str) -> Diagnostic {
        let help =
            "choose another dest, or set output.on_existing to resume or overwrite".to_owned();
        self.at(
            "output.dest",
            "plan::dest_in_use",
            format!("{dest} belongs to {owner}"),
            Some(help),
        )
    }

    /// The tenant may not read or write there.
    pub fn not_allowed(&self, uri: &str) -> Diagnostic {
        let path = if self.source == uri { "input" } else { "output.dest" };
        self.at(
            path,
            "plan::not_allowed",
            format!("{uri} is not among the prefixes of this tenant"),
            None,
        )
    }

    /// More items than allowed; the words are those of [`crate::ItemLimit`].
    pub fn too_many_items(&self, error: &crate::ItemLimit) -> Diagnostic {
        self.at("limits.max_items", "plan::too_many_items", error.to_string(), None)
    }

    /// A job that is to be waited for is none; the words are the store's.
    pub fn no_such_job(&self) -> Diagnostic {
        self.at("schedule.after", "plan::no_such_job", String::new(), None)
    }

    /// Several items have the same key; `example` is one of them.
    pub fn name_not_unique(&self, input: &InputSpec, items: u64, example: &str) -> Diagnostic {
        let help = match input {
            InputSpec::Prefix { .. } | InputSpec::Subjects(_) => {
                "{{ input.file }}, which has the extension, or {{ row.id }}"
            }
            InputSpec::Inline { .. } | InputSpec::Manifest { .. } => "{{ row.id }} or {{ seed }}",
        };
        let message = format!(
            "output.name gives the same key for {} items (e.g. {})",
            grouped(items),
            quoted(example)
        );
        self.at("output.name", "plan::name_not_unique", message, Some(format!("add {help}")))
    }

    /// The job would take longer than it may. `seconds_per_image` was measured on so many workers.
    pub fn over_budget(
        &self,
        images: u64,
        seconds_per_image: f64,
        workers: u64,
        max_gpu_hours: f64,
    ) -> Diagnostic {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate, shown without digits"
        )]
        let hours = (images as f64 * seconds_per_image / 3600.0).ceil() as u64;
        let message = format!(
            "{} images ≈ {} GPU-h (at {seconds_per_image} s/image, measured on {workers} workers) exceeds limits.max_gpu_hours {max_gpu_hours}",
            grouped(images),
            grouped(hours)
        );
        self.at("limits.max_gpu_hours", "plan::over_budget", message, None)
    }
}

fn listing(uri: &str, include: &[String], looked_at: u64) -> String {
    format!(
        "no input matches prefix {uri} with {} (0 of {} objects)",
        include.join(", "),
        grouped(looked_at)
    )
}

/// A line of a manifest that cannot be read; line and column are the manifest's. `before` rows were read well.
pub fn manifest_line(line: usize, column: usize, reason: &str, before: u64) -> Diagnostic {
    let message = format!("invalid JSON ({reason}); {before} rows before it are fine");
    diagnostic("plan::manifest_line", "", (line, column, 1), message, None)
}

/// A record of a CSV manifest that cannot be read.
pub fn manifest_record(line: usize, reason: &str, before: u64) -> Diagnostic {
    diagnostic(
        "plan::manifest_line",
        "",
        (line, 1, 1),
        format!("invalid record ({reason}); {before} rows before it are fine"),
        None,
    )
}

/// An id of a manifest that is there twice; both lines are the manifest's.
pub fn duplicate_id(line: usize, id: &str, first_line: usize) -> Diagnostic {
    let message = format!("id {} was already used on line {first_line}", quoted(id));
    diagnostic("plan::duplicate_id", "", (line, 1, 1), message, None)
}

/// A row of a manifest without ids that is there twice.
pub fn duplicate_row(line: usize, first_line: usize) -> Diagnostic {
    let help = "give the rows ids with columns.id".to_owned();
    diagnostic(
        "plan::duplicate_id",
        "",
        (line, 1, 1),
        format!("this row is the same as the one on line {first_line}"),
        Some(help),
    )
}

fn diagnostic(
    code: &str,
    path: &str,
    at: (usize, usize, usize),
    message: String,
    help: Option<String>,
) -> Diagnostic {
    let (line, column, width) = at;
    Diagnostic {
        code: code.to_owned(),
        severity: Severity::Error,
        message,
        path: path.to_owned(),
        line,
        column,
        width,
        help,
    }
}

/// A count with a space between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
