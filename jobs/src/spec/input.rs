//! What goes in: where the rows come from, and one row.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids;

/// Where the input rows of a job come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSpec {
    /// The rows stand in the spec.
    Inline {
        /// The rows, indexed from 0 in the order of the spec.
        rows: Vec<InputRow>,
    },
    /// A file with one row per record.
    Manifest {
        /// `s3://bucket/key`.
        uri: String,
        /// How the file is read.
        format: ManifestFormat,
        /// Logical name (`prompt`, `image`, `id`, ...) to the column of the manifest that holds it. A logical name that is
        /// absent here is the column of the same name. `id: null` in the spec gives no entry and turns `id_column` off.
        columns: BTreeMap<String, String>,
        /// The column of the id, or none: then the content hash of the row is its id. [`InputSpec::row`] ignores the column
        /// when it is the default and the manifest lacks it.
        id_column: Option<String>,
        /// Only the first so many rows.
        limit: Option<u64>,
    },
    /// All objects below a prefix, in the order of their keys.
    Prefix {
        /// `s3://bucket/prefix/`.
        uri: String,
        /// Globs over the key below the prefix; an object is taken when one of them matches.
        include: Vec<String>,
        /// Globs over the key below the prefix; an object is dropped when one of them matches.
        exclude: Vec<String>,
        /// Only the first so many objects.
        limit: Option<u64>,
    },
    /// Folders of reference images, one folder per subject.
    Subjects(Subjects),
}

/// Folders of reference images below a prefix: each object that is taken is one row, its subject is the folder it lies in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subjects {
    /// `s3://bucket/prefix/`.
    pub uri: String,
    /// Globs over the key below the prefix.
    pub include: Vec<String>,
    /// Globs over the key below the prefix.
    pub exclude: Vec<String>,
    /// At most so many references of each subject, the first in the order of their keys; each is swept, one per item.
    pub max_references: u64,
    /// Subject name to class, for `{{ subject.class }}`.
    pub classes: BTreeMap<String, String>,
    /// At most so many rows.
    pub limit: Option<u64>,
}

impl Subjects {
    /// The subject of a reference: the folder that it lies in, below the prefix. An image right below the prefix has none and is
    /// no reference. `path` is [`InputRow::path`].
    pub fn subject_of(path: &str) -> Option<&str> {
        path.rsplit_once('/').map(|(folder, _)| folder)
    }
}

/// How a manifest is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma separated, the first record names the columns.
    Csv,
    /// One prompt a line, in the column `prompt`.
    Txt,
}

impl InputSpec {
    /// The row of a manifest's record: the id and the image are taken from the mapped columns, all columns are kept.
    ///
    /// # Errors
    /// The name of the mapped column that the record lacks: `columns.id` or `columns.image` name a column that is not there.
    pub fn row(&self, index: u64, fields: BTreeMap<String, Value>) -> Result<InputRow, String> {
        let mut row = InputRow { index, fields, ..InputRow::default() };
        let Self::Manifest { columns, id_column, .. } = self else {
            return Ok(row);
        };
        let text = |value: &Value| match value {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        if let Some(column) = id_column {
            row.id = row.fields.get(column).and_then(text);
            if row.id.is_none() && columns.contains_key("id") {
                return Err(column.clone());
            }
        }
        let image = columns.get("image").map_or("image", String::as_str);
        row.uri = row.fields.get(image).and_then(text);
        if row.uri.is_none() && columns.contains_key("image") {
            return Err(image.to_owned());
        }
        Ok(row)
    }
}

/// What happens when an input cannot be read as an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadInput {
    /// The item is recorded as skipped.
    Skip,
    /// The item is recorded as failed.
    #[default]
    FailItem,
    /// The job fails.
    FailJob,
}

/// One row of the input, as it is kept in the snapshot: one JSON line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InputRow {
    /// Position in the snapshot, from 0.
    pub index: u64,
    /// The id that the user gave, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The columns of the row, by the names of the manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Value>,
    /// The image of the row, `s3://bucket/key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The key below the prefix, without its extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Version of the image when the snapshot was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Size of the image when the snapshot was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl InputRow {
    /// The given id, else 32 hexadecimal digits of BLAKE3 over the row's content (columns and image address). Never a function
    /// of the index: rows keep their ids, and so their seeds and keys, when others are added or removed.
    pub fn row_id(&self) -> String {
        if let Some(id) = &self.id {
            return id.clone();
        }
        let fields =
            Value::Object(self.fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect());
        ids::hash128(&["row", &ids::canonical_json(&fields), self.uri.as_deref().unwrap_or("")])
    }

    /// What stands for the image in the item id: its version, so that a changed image is another item.
    pub(crate) fn version(&self) -> &str {
        self.etag.as_deref().unwrap_or("")
    }
}

crate::words::names!(OnBadInput { Skip => "skip", FailItem => "fail_item", FailJob => "fail_job" });
