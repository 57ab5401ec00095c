//! Rows from a manifest: JSON lines, CSV, or one prompt a line.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::{Stream, stream};
use nightshift_jobs::{InputRow, InputSpec, ManifestFormat};
use nightshift_objects::{Error as ObjectsError, Objects, S3Uri};
use serde_json::Value;

use crate::error::InputProblem;
use crate::lines::{Line, LineError, Lines, MAX_LINE_BYTES};
use crate::rows::RowError;

type Bytes = Pin<Box<dyn Stream<Item = Result<Vec<u8>, ObjectsError>> + Send>>;

/// An open manifest.
pub(crate) struct Manifest<'a> {
    input: &'a InputSpec,
    uri: &'a str,
    format: ManifestFormat,
    /// Logical name to column, as the spec maps them.
    columns: &'a BTreeMap<String, String>,
    lines: Lines<Bytes>,
    /// The columns of a CSV file.
    header: Vec<String>,
    rows: u64,
}

impl<'a> Manifest<'a> {
    /// Opens a manifest and, of a CSV file, reads the header.
    ///
    /// # Panics
    /// When `input` is no manifest: a bug of the caller.
    pub(crate) async fn open(objects: &Objects, input: &'a InputSpec) -> Result<Self, RowError> {
        let InputSpec::Manifest {
            uri, format, columns, ..
        } = input
        else {
            panic!("the caller opens manifests only");
        };
        let parsed: S3Uri = uri.parse().map_err(ObjectsError::from)?;
        let object = objects.get_stream(&parsed, None).await?;
        let bytes: Bytes = Box::pin(stream::try_unfold(object, |mut object| async move {
            Ok(object.next().await?.map(|bytes| (bytes.to_vec(), object)))
        }));
        Self::read(input, uri, *format, columns, bytes).await
    }

    async fn read(
        input: &'a InputSpec,
        uri: &'a str,
        format: ManifestFormat,
        columns: &'a BTreeMap<String, String>,
        bytes: Bytes,
    ) -> Result<Self, RowError> {
        let mut manifest = Self {
            input,
            uri,
            format,
            columns,
            lines: Lines::new(bytes),
            header: Vec::new(),
            rows: 0,
        };
        if format == ManifestFormat::Csv
            && let Some(record) = manifest.record().await?
        {
            manifest.header = manifest.cells(&record)?;
            let mut sorted = manifest.header.clone();
            sorted.sort();
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                let message = format!("the header names the column \"{}\" twice", pair[0]);
                return Err(manifest.bad(record.number, None, message));
            }
            manifest.check_columns(&manifest.header)?;
        }
        Ok(manifest)
    }

    pub(crate) fn uri(&self) -> &str {
        self.uri
    }

    /// The next row, with this index, and its line.
    pub(crate) async fn next(&mut self, index: u64) -> Result<(Option<InputRow>, u64), RowError> {
        let Some(record) = self.record().await? else {
            return Ok((None, 0));
        };
        let fields = match self.format {
            ManifestFormat::Jsonl => self.json(&record)?,
            ManifestFormat::Csv => self.csv(&record)?,
            ManifestFormat::Txt => [("prompt".to_owned(), Value::String(record.text.trim().to_owned()))].into(),
        };
        if self.rows == 0 && self.format != ManifestFormat::Csv {
            let names: Vec<String> = fields.keys().cloned().collect();
            self.check_columns(&names)?;
        }
        let row = self.input.row(index, fields).map_err(|column| {
            self.bad(record.number, None, format!("there is no value in column \"{column}\""))
        })?;
        self.rows += 1;
        Ok((Some(row), record.number))
    }

    /// The next record that is not blank. A CSV record goes on over lines while a quote is open.
    async fn record(&mut self) -> Result<Option<Line>, RowError> {
        let mut record = loop {
            match self.line().await? {
                None => return Ok(None),
                Some(line) if line.text.trim().is_empty() => {}
                Some(line) => break line,
            }
        };
        let open = |text: &str| text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
        while self.format == ManifestFormat::Csv && open(&record.text) {
            let Some(line) = self.line().await? else {
                return Err(self.bad(record.number, None, "a quote is opened and never closed".to_owned()));
            };
            record.text.push('\n');
            record.text.push_str(&line.text);
            if record.text.len() > MAX_LINE_BYTES {
                return Err(self.too_long(record.number));
            }
        }
        Ok(Some(record))
    }

    async fn line(&mut self) -> Result<Option<Line>, RowError> {
        match self.lines.next().await {
            Ok(line) => Ok(line),
            Err(LineError::Stream(error)) => Err(error.into()),
            Err(LineError::TooLong { line }) => Err(self.too_long(line)),
            Err(LineError::NotUtf8 { line, column }) => {
                Err(self.bad(line, Some(column), "the file is not UTF-8 text here".to_owned()))
            }
        }
    }

    fn json(&self, record: &Line) -> Result<BTreeMap<String, Value>, RowError> {
        let value: Value = serde_json::from_str(&record.text).map_err(|error| {
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            self.bad(record.number, Some(error.column().max(1)), format!("invalid JSON ({})", plain(what)))
        })?;
        match value {
            Value::Object(map) => Ok(map.into_iter().collect()),
            _ => Err(self.bad(record.number, Some(1), "expected a JSON object, { ... }".to_owned())),
        }
    }

    fn csv(&self, record: &Line) -> Result<BTreeMap<String, Value>, RowError> {
        let cells = self.cells(record)?;
        if cells.len() != self.header.len() {
            let message = format!("{} values, but the header names {} columns", cells.len(), self.header.len());
            return Err(self.bad(record.number, None, message));
        }
        Ok(self.header.iter().cloned().zip(cells.into_iter().map(Value::String)).collect())
    }

    fn cells(&self, record: &Line) -> Result<Vec<String>, RowError> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(record.text.as_bytes());
        match reader.records().next() {
            Some(Ok(cells)) => Ok(cells.iter().map(str::to_owned).collect()),
            Some(Err(error)) => Err(self.bad(record.number, None, format!("invalid CSV ({error})"))),
            None => Ok(Vec::new()),
        }
    }

    /// Every column that the spec names must be there; of JSON lines the first one decides.
    fn check_columns(&self, names: &[String]) -> Result<(), RowError> {
        let missing = self.columns.iter().find(|(_, column)| !names.contains(column));
        match missing {
            Some((logical, column)) => Err(InputProblem::MissingColumn {
                logical: logical.clone(),
                column: column.clone(),
                uri: self.uri.to_owned(),
                columns: names.to_vec(),
            }
            .into()),
            None => Ok(()),
        }
    }

    fn too_long(&self, line: u64) -> RowError {
        self.bad(line, None, format!("the record is longer than {MAX_LINE_BYTES} bytes"))
    }

    fn bad(&self, line: u64, column: Option<usize>, message: String) -> RowError {
        InputProblem::Line {
            uri: self.uri.to_owned(),
            line,
            column,
            message,
            good_rows: self.rows,
        }
        .into()
    }
}

/// serde_json's words, shortened where ours are plainer.
fn plain(message: &str) -> &str {
    if message.starts_with("control character") { "control character in string" } else { message }
}

#[cfg(test)]
mod tests;
