//! Input rows as they are stored: gzip of JSON lines, at most 1,000 rows a chunk.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use nightshift_jobs::InputRow;

/// The most rows of a chunk.
pub(crate) const MAX_ROWS: usize = 1_000;
/// A chunk is closed early when its JSON has so many bytes.
const MAX_JSON_BYTES: usize = 4 << 20;

/// Consecutive rows, ready to be stored.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Index of the first row.
    pub(crate) first_row: u64,
    /// Number of rows.
    pub(crate) n_rows: u32,
    /// gzip of JSON lines.
    pub(crate) data: Vec<u8>,
}

/// Collects rows into chunks.
#[derive(Debug)]
pub(crate) struct Chunker {
    first_row: u64,
    n_rows: u32,
    json_bytes: usize,
    encoder: GzEncoder<Vec<u8>>,
}

impl Default for Chunker {
    fn default() -> Self {
        Self::starting_at(0)
    }
}

impl Chunker {
    fn starting_at(first_row: u64) -> Self {
        Self {
            first_row,
            n_rows: 0,
            json_bytes: 0,
            encoder: GzEncoder::new(Vec::new(), Compression::fast()),
        }
    }

    /// Adds a row; returns a chunk when one is full.
    ///
    /// # Panics
    /// When rows do not come in the order of their indices: a bug of the caller.
    pub(crate) fn push(&mut self, row: &InputRow) -> Option<Chunk> {
        assert_eq!(row.index, self.first_row + u64::from(self.n_rows), "rows come in order");
        let mut line = serde_json::to_vec(row).expect("a row is plain data");
        line.push(b'\n');
        self.encoder.write_all(&line).expect("writing to memory does not fail");
        self.n_rows += 1;
        self.json_bytes += line.len();
        let full = self.n_rows as usize >= MAX_ROWS || self.json_bytes >= MAX_JSON_BYTES;
        full.then(|| self.close())
    }

    /// The last, smaller chunk, if there are rows left.
    #[must_use]
    pub(crate) fn finish(mut self) -> Option<Chunk> {
        (self.n_rows > 0).then(|| self.close())
    }

    fn close(&mut self) -> Chunk {
        let next = Self::starting_at(self.first_row + u64::from(self.n_rows));
        let full = std::mem::replace(self, next);
        Chunk {
            first_row: full.first_row,
            n_rows: full.n_rows,
            data: full.encoder.finish().expect("writing to memory does not fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn read(data: &[u8]) -> Vec<InputRow> {
        let mut text = String::new();
        GzDecoder::new(data).read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn rows_come_back_in_chunks_of_a_thousand() {
        let mut chunker = Chunker::default();
        let mut chunks = Vec::new();
        for index in 0..2_345 {
            let row = InputRow { index, id: Some(format!("id{index}")), ..InputRow::default() };
            chunks.extend(chunker.push(&row));
        }
        chunks.extend(chunker.finish());
        let shape: Vec<(u64, u32)> =
            chunks.iter().map(|chunk| (chunk.first_row, chunk.n_rows)).collect();
        assert_eq!(shape, [(0, 1000), (1000, 1000), (2000, 345)]);
        let rows = read(&chunks[2].data);
        assert_eq!((rows.len(), rows[344].id.as_deref()), (345, Some("id2344")));
    }

    #[test]
    fn wide_rows_make_smaller_chunks() {
        let mut chunker = Chunker::default();
        let wide = |index| InputRow {
            index,
            fields: [("text".to_owned(), "x".repeat(1 << 20).into())].into(),
            ..InputRow::default()
        };
        let first = (0..10).find_map(|index| chunker.push(&wide(index))).unwrap();
        assert_eq!(first.n_rows, 4);
    }
}
