//! A Parquet file, written row group by row group with bounded memory.

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use tempfile::NamedTempFile;

use super::table::{Cell, Column, ColumnKind};
use crate::failure::ShardError;

/// Rows of a row group; all of them are in memory once.
const GROUP_ROWS: usize = 5_000;

/// A table being written.
pub(super) struct ParquetFile {
    writer: SerializedFileWriter<NamedTempFile>,
    columns: Vec<Column>,
    /// Rows of the group that is being filled.
    rows: Vec<Vec<Cell>>,
}

impl ParquetFile {
    pub(super) fn create(file: NamedTempFile, columns: &[Column]) -> Result<Self, ShardError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("nightshift ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let schema = Arc::new(schema(columns).map_err(failed)?);
        let writer =
            SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
        Ok(Self { writer, columns: columns.to_vec(), rows: Vec::new() })
    }

    /// Adds a row, one cell for each column.
    ///
    /// # Panics
    /// A cell is of another type than its column: a bug in the table.
    pub(super) fn add(&mut self, cells: Vec<Cell>) -> Result<(), ShardError> {
        assert_eq!(cells.len(), self.columns.len(), "one cell for each column");
        for (cell, column) in cells.iter().zip(&self.columns) {
            assert_eq!(cell.kind(), column.kind, "type of column {}", column.name);
        }
        self.rows.push(cells);
        if self.rows.len() < GROUP_ROWS {
            return Ok(());
        }
        self.flush().map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<NamedTempFile, ShardError> {
        self.flush().map_err(failed)?;
        self.writer.into_inner().map_err(failed)
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        let mut at = 0;
        while let Some(mut writer) = group.next_column()? {
            let kind = self.columns[at].kind;
            let cells = rows.iter().map(|row| &row[at]);
            match kind {
                ColumnKind::Text => write::<ByteArrayType>(
                    &mut writer,
                    cells.map(|cell| match cell {
                        Cell::Text(text) => {
                            text.as_ref().map(|text| ByteArray::from(text.as_str()))
                        }
                        _ => None,
                    }),
                )?,
                ColumnKind::Int | ColumnKind::Time => write::<Int64Type>(
                    &mut writer,
                    cells.map(|cell| match cell {
                        Cell::Int(number) | Cell::Time(number) => *number,
                        _ => None,
                    }),
                )?,
                ColumnKind::Float => write::<DoubleType>(
                    &mut writer,
                    cells.map(|cell| match cell {
                        Cell::Float(number) => *number,
                        _ => None,
                    }),
                )?,
            }
            writer.close()?;
            at += 1;
        }
        group.close()?;
        Ok(())
    }
}

fn write<D: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    values: impl Iterator<Item = Option<D::T>>,
) -> Result<(), ParquetError> {
    let mut present = Vec::new();
    let mut levels = Vec::new();
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    writer.typed::<D>().write_batch(&present, Some(&levels), None)?;
    Ok(())
}

fn schema(columns: &[Column]) -> Result<Type, ParquetError> {
    let fields = columns.iter().map(|column| {
        let (physical, logical) = match column.kind {
            ColumnKind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            ColumnKind::Int => (Physical::INT64, None),
            ColumnKind::Float => (Physical::DOUBLE, None),
            ColumnKind::Time => {
                (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS)))
            }
        };
        let field = Type::primitive_type_builder(&column.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()?;
        Ok(Arc::new(field))
    });
    Type::group_type_builder("metadata")
        .with_fields(fields.collect::<Result<_, ParquetError>>()?)
        .build()
}

fn failed(error: ParquetError) -> ShardError {
    ShardError::failed("spool", error)
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn groups_nulls_and_types_come_back() {
        let columns: Vec<Column> = [
            ("t", ColumnKind::Text),
            ("i", ColumnKind::Int),
            ("f", ColumnKind::Float),
            ("d", ColumnKind::Time),
        ]
        .map(|(name, kind)| Column { name: name.to_owned(), kind })
        .to_vec();
        let mut file = ParquetFile::create(NamedTempFile::new().unwrap(), &columns).unwrap();
        let rows = GROUP_ROWS + 3;
        for n in 0..rows {
            let some = n % 3 != 0;
            file.add(vec![
                Cell::Text(some.then(|| format!("é{n}"))),
                Cell::Int(some.then_some(n as i64)),
                Cell::Float(some.then_some(n as f64 / 2.0)),
                Cell::Time(Some(1_000)),
            ])
            .unwrap();
        }
        let file = file.finish().unwrap();
        let reader = SerializedFileReader::new(file.reopen().unwrap()).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let back: Vec<_> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(back.len(), rows);
        assert!(back[0].starts_with("{t: null, i: null, f: null"), "{}", back[0]);
        assert!(back[1].starts_with("{t: \"é1\", i: 1, f: 0.5"), "{}", back[1]);
    }

    #[test]
    fn a_table_without_rows_is_a_table() {
        let columns = [Column { name: "file_name".to_owned(), kind: ColumnKind::Text }];
        let file =
            ParquetFile::create(NamedTempFile::new().unwrap(), &columns).unwrap().finish().unwrap();
        let reader = SerializedFileReader::new(file.reopen().unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }
}
