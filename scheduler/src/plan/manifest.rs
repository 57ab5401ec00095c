//! Rows from a manifest: JSON lines, CSV, or one prompt a line.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::{Stream, stream};
use nightshift_jobs::{Diagnostic, InputRow, InputSpec, ManifestFormat, Parsed};
use nightshift_objects::{Error as ObjectsError, Objects, S3Uri};
use serde_json::Value;

use super::lines::{Line, LineError, Lines, MAX_LINE_BYTES};
use super::row_error::{RowError, classify};
use crate::error::InputProblem;

type Bytes = Pin<Box<dyn Stream<Item = Result<Vec<u8>, ObjectsError>> + Send>>;

/// An open manifest.
pub(crate) struct Manifest<'a> {
    parsed: &'a Parsed,
    uri: &'a str,
    format: ManifestFormat,
    lines: Lines<Bytes>,
    /// The columns of a CSV file.
    header: Vec<String>,
    rows: u64,
}

impl<'a> Manifest<'a> {
    /// Opens a manifest and, of a CSV file, reads the header.
    pub(crate) async fn open(objects: &Objects, parsed: &'a Parsed) -> Result<Self, RowError> {
        let failed = |error| classify(parsed, error);
        let uri: S3Uri =
            uri_of(parsed).0.parse().map_err(|error| failed(ObjectsError::from(error)))?;
        let object = objects.get_stream(&uri, None).await.map_err(failed)?;
        let bytes: Bytes = Box::pin(stream::try_unfold(object, |mut object| async move {
            Ok(object.next().await?.map(|bytes| (bytes.to_vec(), object)))
        }));
        Self::read(parsed, bytes).await
    }

    async fn read(parsed: &'a Parsed, bytes: Bytes) -> Result<Self, RowError> {
        let (uri, format) = uri_of(parsed);
        let mut manifest =
            Self { parsed, uri, format, lines: Lines::new(bytes), header: Vec::new(), rows: 0 };
        if format == ManifestFormat::Csv
            && let Some(record) = manifest.record().await?
        {
            manifest.header = manifest.cells(&record)?;
            let mut sorted = manifest.header.clone();
            sorted.sort();
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                let message = format!("the header names the column \"{}\" twice", pair[0]);
                return Err(manifest.bad(&record, &message));
            }
            manifest.check_columns(&manifest.header)?;
        }
        Ok(manifest)
    }

    /// The next row, with this index, and its line.
    pub(crate) async fn next(&mut self, index: u64) -> Result<Option<(InputRow, u64)>, RowError> {
        let Some(record) = self.record().await? else {
            return Ok(None);
        };
        let fields = match self.format {
            ManifestFormat::Jsonl => self.json(&record)?,
            ManifestFormat::Csv => self.csv(&record)?,
            ManifestFormat::Txt => {
                [("prompt".to_owned(), Value::String(record.text.trim().to_owned()))].into()
            }
        };
        if self.rows == 0 && self.format != ManifestFormat::Csv {
            let names: Vec<String> = fields.keys().cloned().collect();
            self.check_columns(&names)?;
        }
        let input = self.parsed.spec.input();
        let row = input.row(index, fields);
        let row = row.map_err(|column| {
            self.bad(&record, &format!("there is no value in column \"{column}\""))
        })?;
        self.rows += 1;
        Ok(Some((row, record.number)))
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
                return Err(self.bad(&record, "a quote is never closed"));
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
            Err(LineError::Stream(error)) => Err(classify(self.parsed, error)),
            Err(LineError::TooLong { line }) => Err(self.too_long(line)),
            Err(LineError::NotUtf8 { line, column }) => {
                let mut diagnostic = self.record_error(line, "the file is not UTF-8 text here");
                diagnostic.column = column;
                Err(self.at(diagnostic))
            }
        }
    }

    fn json(&self, record: &Line) -> Result<BTreeMap<String, Value>, RowError> {
        let at = |column: usize, what: &str| {
            let line = usize::try_from(record.number).unwrap_or(usize::MAX);
            self.at(nightshift_jobs::places::manifest_line(line, column, what, self.rows))
        };
        let value: Value = serde_json::from_str(&record.text).map_err(|error| {
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            at(error.column().max(1), what)
        })?;
        match value {
            Value::Object(map) => Ok(map.into_iter().collect()),
            _ => Err(at(1, "expected an object, { ... }")),
        }
    }

    fn csv(&self, record: &Line) -> Result<BTreeMap<String, Value>, RowError> {
        let cells = self.cells(record)?;
        if cells.len() != self.header.len() {
            let message = format!(
                "{} values, but the header names {} columns",
                cells.len(),
                self.header.len()
            );
            return Err(self.bad(record, &message));
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
            Some(Err(error)) => Err(self.bad(record, &error.to_string())),
            None => Ok(Vec::new()),
        }
    }

    /// Every column that the spec names must be there; of JSON lines the first one decides.
    fn check_columns(&self, names: &[String]) -> Result<(), RowError> {
        let missing = self.parsed.places.missing_columns(names);
        match missing.is_empty() {
            true => Ok(()),
            false => Err(InputProblem::Spec(missing).into()),
        }
    }

    fn too_long(&self, line: u64) -> RowError {
        self.at(self.record_error(line, &format!("it is longer than {MAX_LINE_BYTES} bytes")))
    }

    fn bad(&self, record: &Line, reason: &str) -> RowError {
        self.at(self.record_error(record.number, reason))
    }

    fn record_error(&self, line: u64, reason: &str) -> Diagnostic {
        nightshift_jobs::places::manifest_record(
            usize::try_from(line).unwrap_or(usize::MAX),
            reason,
            self.rows,
        )
    }

    fn at(&self, diagnostic: Diagnostic) -> RowError {
        InputProblem::Manifest { uri: self.uri.to_owned(), diagnostic: Box::new(diagnostic) }.into()
    }
}

/// # Panics
/// When the input is not a manifest: a bug of the caller.
fn uri_of(parsed: &Parsed) -> (&str, ManifestFormat) {
    match parsed.spec.input() {
        InputSpec::Manifest { uri, format, .. } => (uri, *format),
        _ => panic!("the caller opens manifests only"),
    }
}

#[cfg(test)]
mod tests;
