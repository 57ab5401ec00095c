//! Lines out of a stream of bytes, in bounded memory.

use futures::{Stream, StreamExt};

/// The longest line or CSV record, in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 1 << 20;

/// Why the next line cannot be read.
#[derive(Debug)]
pub(crate) enum LineError<E> {
    /// The stream failed.
    Stream(E),
    /// The line is longer than [`MAX_LINE_BYTES`].
    TooLong {
        /// Number of the line, from 1.
        line: u64,
    },
    /// The line is not UTF-8.
    NotUtf8 {
        /// Number of the line, from 1.
        line: u64,
        /// Byte in the line, from 1.
        column: usize,
    },
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Number in the file, from 1.
    pub(crate) number: u64,
    /// The text, without `\n` or `\r\n`, and without a byte order mark.
    pub(crate) text: String,
}

/// Splits a stream into lines.
pub(crate) struct Lines<S> {
    stream: S,
    /// Bytes that were read and not yet given out, from `start`.
    buffer: Vec<u8>,
    start: usize,
    /// How far behind `start` no line end was found, so that a long line is not searched again and again.
    searched: usize,
    number: u64,
    ended: bool,
}

impl<S, B, E> Lines<S>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
{
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, searched: 0, number: 0, ended: false }
    }

    /// The next line; `None` at the end. A last line without a line end counts, an empty one does not.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>, LineError<E>> {
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(at) = unread[self.searched..].iter().position(|byte| *byte == b'\n') {
                let length = self.searched + at;
                return self.take(length, 1).map(Some);
            }
            self.searched = unread.len();
            if self.searched > MAX_LINE_BYTES {
                return Err(LineError::TooLong { line: self.number + 1 });
            }
            if self.ended {
                return match unread.len() {
                    0 => Ok(None),
                    length => self.take(length, 0).map(Some),
                };
            }
            match self.stream.next().await {
                Some(Ok(bytes)) => {
                    self.buffer.drain(..self.start);
                    self.start = 0;
                    self.buffer.extend_from_slice(bytes.as_ref());
                }
                Some(Err(error)) => return Err(LineError::Stream(error)),
                None => self.ended = true,
            }
        }
    }

    fn take(&mut self, length: usize, end: usize) -> Result<Line, LineError<E>> {
        self.number += 1;
        let mut bytes = &self.buffer[self.start..self.start + length];
        if length > MAX_LINE_BYTES {
            return Err(LineError::TooLong { line: self.number });
        }
        if self.number == 1 {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
            LineError::NotUtf8 { line: self.number, column: error.valid_up_to() + 1 }
        })?;
        self.start += length + end;
        self.searched = 0;
        Ok(Line { number: self.number, text })
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn lines(pieces: &[&[u8]]) -> Result<Vec<(u64, String)>, LineError<()>> {
        let mut lines =
            Lines::new(stream::iter(pieces.iter().map(|piece| Ok::<_, ()>(piece.to_vec()))));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push((line.number, line.text));
        }
        Ok(all)
    }

    #[tokio::test]
    async fn lines_do_not_depend_on_how_the_stream_is_cut() {
        let text = "\u{feff}one\r\n\ntw\u{f6}\nlast".as_bytes();
        let wanted = vec![
            (1, "one".to_owned()),
            (2, String::new()),
            (3, "tw\u{f6}".to_owned()),
            (4, "last".to_owned()),
        ];
        for size in 1..=text.len() {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(lines(&pieces).await.unwrap(), wanted, "pieces of {size}");
        }
        assert_eq!(lines(&[]).await.unwrap(), []);
        assert_eq!(lines(&[b"a\n"]).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let piece = vec![b'x'; 64 << 10];
        let endless = stream::repeat_with(|| Ok::<_, ()>(piece.clone()));
        let mut lines = Lines::new(endless);
        assert!(matches!(lines.next().await, Err(LineError::TooLong { line: 1 })));
        assert!(lines.buffer.len() < MAX_LINE_BYTES + (128 << 10));
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_have_a_place() {
        let error = lines(&[b"good\nbad\xff\n"]).await.unwrap_err();
        assert!(matches!(error, LineError::NotUtf8 { line: 2, column: 4 }), "{error:?}");
    }
}
