//! Why a job cannot be planned: now, or at all.

use nightshift_jobs::ItemLimit;

/// Something wrong with a job's input or destination that the text of its spec does not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputProblem {
    /// The spec names a column that the manifest lacks.
    MissingColumn {
        /// `prompt`, `image` or `id`: what the column is for.
        logical: String,
        /// The column that is not there.
        column: String,
        /// The manifest.
        uri: String,
        /// The columns that are there.
        columns: Vec<String>,
    },
    /// A record of the manifest cannot be read.
    Line {
        /// The manifest.
        uri: String,
        /// Line, from 1.
        line: u64,
        /// Column, from 1, where one is known.
        column: Option<usize>,
        /// What is wrong.
        message: String,
        /// Rows before it that are fine.
        good_rows: u64,
    },
    /// Two rows have the same id.
    DuplicateId {
        /// Where the second one stands: `s3://b/x.csv:911`, or `row 911`.
        place: String,
        /// The id.
        id: String,
        /// Where the first one stands: `line 44`, or `row 44`.
        first: String,
    },
    /// There is no row at all.
    Empty {
        /// What was looked through: `prefix s3://b/rooms/ with **/*.jpg (0 of 1 204 objects)`.
        input: String,
    },
    /// A glob is none. Validation finds these; a spec that was stored by an older program may still have one.
    BadGlob {
        /// The glob and what is wrong with it.
        message: String,
    },
    /// The input cannot be read, and will not be before someone changes something.
    Unreadable {
        /// The object store's words.
        message: String,
    },
    /// There are more items than the job may have.
    Limit(ItemLimit),
    /// The destination or an input is not allowed, or belongs to another job.
    Refused {
        /// The store's words, or those of the template.
        message: String,
    },
}

impl InputProblem {
    /// The stable code of the diagnostic.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingColumn { .. } => "input::missing_column",
            Self::Line { .. } => "input::bad_line",
            Self::DuplicateId { .. } => "input::duplicate_id",
            Self::Empty { .. } => "input::empty",
            Self::BadGlob { .. } => "input::bad_glob",
            Self::Unreadable { .. } => "input::unreadable",
            Self::Limit(_) => "spec::too_many_items",
            Self::Refused { .. } => "output::refused",
        }
    }

    /// The paths of the spec that this is about, the best one first.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let fixed: &[&str] = match self {
            Self::MissingColumn { logical, .. } => {
                return vec![format!("input.columns.{logical}"), "input.columns".into(), "input.manifest".into()];
            }
            Self::Limit(_) => &["limits.max_items", "limits", "input"],
            Self::Refused { .. } => &["output.dest", "output"],
            Self::DuplicateId { .. } => &["input.columns.id", "input.manifest", "input"],
            Self::BadGlob { .. } => &["input.include", "input"],
            Self::Line { .. } | Self::Empty { .. } | Self::Unreadable { .. } => {
                &["input.manifest", "input.prefix", "input.subjects.prefix", "input.inline", "input"]
            }
        };
        fixed.iter().map(|path| (*path).to_owned()).collect()
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::MissingColumn { column, columns, .. } => {
                let near = columns.iter().find(|name| close(name, column))?;
                Some(format!("did you mean `{near}`?"))
            }
            Self::Empty { .. } => Some("`allow_empty: true` in input makes a job without items fine".to_owned()),
            Self::Limit(ItemLimit::OverLimit { .. }) => {
                Some("raise limits.max_items, set input.limit, or narrow the matrix".to_owned())
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for InputProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MissingColumn {
                logical,
                column,
                uri,
                columns,
            } => write!(f, "columns.{logical}: \"{column}\" is not in {uri} (columns: {})", columns.join(", ")),
            Self::Line {
                uri,
                line,
                column,
                message,
                good_rows,
            } => {
                let column = column.map(|column| format!(":{column}")).unwrap_or_default();
                write!(f, "{uri}:{line}{column}: {message}; {good_rows} rows before it are fine")
            }
            Self::DuplicateId { place, id, first } => write!(f, "{place}: id \"{id}\" was already used on {first}"),
            Self::Empty { input } => write!(f, "no input matches {input}"),
            Self::BadGlob { message } | Self::Unreadable { message } | Self::Refused { message } => f.write_str(message),
            Self::Limit(limit) => limit.fmt(f),
        }
    }
}

/// Whether two names differ by little: one edit, or only in case.
fn close(a: &str, b: &str) -> bool {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let prefix = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let left = |text: &str| text.chars().skip(prefix).collect::<Vec<_>>();
    let (a, b) = (left(&a), left(&b));
    let suffix = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    a.len().max(b.len()) - suffix <= 1 || (a.len() == 2 && b.len() == 2 && a[0] == b[1] && a[1] == b[0])
}

/// Why a plan was not made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec, its input or its destination are wrong: tell the user. Trying again will not help.
    #[error("{0}")]
    Rejected(String),
    /// The object store did not answer, or the input changed while it was read: try again later.
    #[error(transparent)]
    Objects(nightshift_objects::Error),
    /// The database did not answer, or another scheduler leads.
    #[error(transparent)]
    Store(#[from] nightshift_store::Error),
    /// The job is not `submitted` any more: nothing is left to do.
    #[error("the job is not waiting any more")]
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_in_the_words_of_the_acceptance_list() {
        let problems = [
            InputProblem::MissingColumn {
                logical: "prompt".into(),
                column: "promt".into(),
                uri: "s3://b/x.jsonl".into(),
                columns: vec!["id".into(), "prompt".into(), "tag".into()],
            },
            InputProblem::Line {
                uri: "s3://b/x.jsonl".into(),
                line: 8123,
                column: Some(17),
                message: "invalid JSON (control character in string)".into(),
                good_rows: 8122,
            },
            InputProblem::DuplicateId {
                place: "s3://b/x.csv:911".into(),
                id: "a17".into(),
                first: "line 44".into(),
            },
            InputProblem::Empty {
                input: "prefix s3://ml-data/rooms/ with **/*.jpg (0 of 1 204 objects)".into(),
            },
        ];
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        columns.prompt: "promt" is not in s3://b/x.jsonl (columns: id, prompt, tag)
        s3://b/x.jsonl:8123:17: invalid JSON (control character in string); 8122 rows before it are fine
        s3://b/x.csv:911: id "a17" was already used on line 44
        no input matches prefix s3://ml-data/rooms/ with **/*.jpg (0 of 1 204 objects)
        "#);
        assert_eq!(problems[0].help().unwrap(), "did you mean `prompt`?");
    }

    #[test]
    fn near_names() {
        assert!(close("prompt", "promt") && close("Image", "image") && close("imgae", "image"));
        assert!(!close("id", "prompt") && !close("a", "tag"));
    }
}
