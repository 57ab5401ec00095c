//! The pinned PNG writer, and the reader of its text chunks.
//!
//! The bytes are a function of pixels and texts alone: each row takes the filter with the smallest sum of absolute signed
//! values (lowest number on ties), the data is compressed by `miniz_oxide` at a fixed level (called directly, since another
//! crate in the build may switch `flate2` to another library), in one IDAT. Changing any of this changes every file ever
//! published: a test pins a digest.

use std::io::Read;

use super::png_decode::compressed_part;

const COMPRESSION_LEVEL: u8 = 6;

/// Longest text of one chunk in bytes; longer ones are cut at a character.
pub const TEXT_LIMIT_BYTES: usize = 64 << 10;

/// Pixels of a PNG, rows from the top.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// Three bytes a pixel.
    Rgb8(&'a [u8]),
    /// One byte a pixel.
    Gray8(&'a [u8]),
    /// One value a pixel, stored big-endian.
    Gray16(&'a [u16]),
}

/// A text chunk. ASCII values become `tEXt`, others `iTXt`; never compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Keyword: 1 to 79 printable Latin-1 characters.
    pub key: String,
    /// The text; control characters other than line feed and tab are dropped.
    pub value: String,
}

/// The bytes of a PNG file, texts in the given order before the pixels.
///
/// # Panics
/// When the pixels do not fill `width` x `height`, or a size is zero.
pub fn write(pixels: Pixels<'_>, width: u32, height: u32, texts: &[Text]) -> Vec<u8> {
    assert!(width > 0 && height > 0, "a PNG has at least one pixel");
    let big_endian: Vec<u8>;
    let (bytes, bytes_per_pixel, depth, colour): (&[u8], usize, u8, u8) = match pixels {
        Pixels::Rgb8(bytes) => (bytes, 3, 8, 2),
        Pixels::Gray8(bytes) => (bytes, 1, 8, 0),
        Pixels::Gray16(values) => {
            big_endian = values.iter().flat_map(|v| v.to_be_bytes()).collect();
            (&big_endian, 2, 16, 0)
        }
    };
    assert_eq!(
        bytes.len(),
        width as usize * height as usize * bytes_per_pixel,
        "pixels fill the size"
    );
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&[depth, colour, 0, 0, 0]);
    chunk(&mut out, b"IHDR", &header);
    for text in texts {
        text_chunk(&mut out, text);
    }
    let filtered = filter(bytes, width as usize * bytes_per_pixel, bytes_per_pixel);
    chunk(
        &mut out,
        b"IDAT",
        &miniz_oxide::deflate::compress_to_vec_zlib(&filtered, COMPRESSION_LEVEL),
    );
    chunk(&mut out, b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], body: &[u8]) {
    out.extend_from_slice(
        &u32::try_from(body.len()).expect("chunks are far below 4 GiB").to_be_bytes(),
    );
    out.extend_from_slice(kind);
    out.extend_from_slice(body);
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(body);
    out.extend_from_slice(&crc.sum().to_be_bytes());
}

fn text_chunk(out: &mut Vec<u8>, text: &Text) {
    let key: String = text.key.chars().filter(|c| matches!(c, ' '..='~')).take(79).collect();
    let clean = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let mut value: String = text.value.chars().filter(clean).collect();
    value.truncate(value.floor_char_boundary(TEXT_LIMIT_BYTES));
    let mut body = key.into_bytes();
    if value.is_ascii() {
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        chunk(out, b"tEXt", &body);
    } else {
        // Key end, not compressed, method 0, empty language, empty translated key.
        body.extend_from_slice(&[0, 0, 0, 0, 0]);
        body.extend_from_slice(value.as_bytes());
        chunk(out, b"iTXt", &body);
    }
}

/// Every row with its filter byte.
fn filter(bytes: &[u8], row_bytes: usize, bpp: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / row_bytes);
    let mut above = vec![0; row_bytes];
    let mut best = vec![0; row_bytes];
    let mut tried = vec![0; row_bytes];
    for row in bytes.chunks_exact(row_bytes) {
        let (mut best_kind, mut best_cost) = (0u8, u64::MAX);
        for kind in 0..5 {
            apply(kind, row, &above, bpp, &mut tried);
            let cost = tried.iter().map(|&b| u64::from((b as i8).unsigned_abs())).sum();
            if cost < best_cost {
                (best_kind, best_cost) = (kind, cost);
                std::mem::swap(&mut best, &mut tried);
            }
        }
        out.push(best_kind);
        out.extend_from_slice(&best);
        above.copy_from_slice(row);
    }
    out
}

/// One row under one of the five PNG filters.
fn apply(kind: u8, row: &[u8], above: &[u8], bpp: usize, out: &mut [u8]) {
    let left = |i: usize| if i >= bpp { row[i - bpp] } else { 0 };
    for i in 0..row.len() {
        let predicted = match kind {
            0 => 0,
            1 => left(i),
            2 => above[i],
            3 => ((u16::from(left(i)) + u16::from(above[i])) / 2) as u8,
            _ => paeth(left(i), above[i], if i >= bpp { above[i - bpp] } else { 0 }),
        };
        out[i] = row[i].wrapping_sub(predicted);
    }
}

fn paeth(a: u8, b: u8, c: u8) -> u8 {
    let p = i16::from(a) + i16::from(b) - i16::from(c);
    let distance = |v: u8| (p - i16::from(v)).abs();
    if distance(a) <= distance(b) && distance(a) <= distance(c) {
        a
    } else if distance(b) <= distance(c) {
        b
    } else {
        c
    }
}

/// The text chunks of a PNG, in file order: `tEXt`, `zTXt` and `iTXt`, each capped at [`TEXT_LIMIT_BYTES`] when unpacked. Anything that is
/// not a PNG, or is damaged, gives the chunks before the damage.
pub fn read_texts(bytes: &[u8]) -> Vec<Text> {
    let mut texts = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n") else {
        return texts;
    };
    while let Some((head, tail)) = rest.split_at_checked(8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = [head[4], head[5], head[6], head[7]];
        let Some(body) = tail.get(..length) else {
            break;
        };
        texts.extend(read_text(&kind, body));
        let Some(next) = tail.get(length + 4..) else {
            break;
        };
        rest = next;
    }
    texts
}

fn read_text(kind: &[u8; 4], body: &[u8]) -> Option<Text> {
    if !matches!(kind, b"tEXt" | b"zTXt" | b"iTXt") {
        return None;
    }
    let end = body.iter().position(|&b| b == 0)?;
    let latin1 = |bytes: &[u8]| bytes.iter().map(|&b| char::from(b)).collect::<String>();
    let key = latin1(&body[..end]);
    let value = if kind == b"tEXt" {
        latin1(&body[end + 1..])
    } else if let Some(packed) = compressed_part(kind, body) {
        let mut value = Vec::new();
        let mut unpacked = flate2::read::ZlibDecoder::new(packed).take(TEXT_LIMIT_BYTES as u64);
        unpacked.read_to_end(&mut value).ok()?;
        if kind == b"zTXt" { latin1(&value) } else { String::from_utf8_lossy(&value).into_owned() }
    } else {
        let after = body.get(end + 3..)?;
        let language = after.iter().position(|&b| b == 0)?;
        let translated = after[language + 1..].iter().position(|&b| b == 0)?;
        String::from_utf8_lossy(&after[language + 1 + translated + 1..]).into_owned()
    };
    Some(Text { key, value })
}
