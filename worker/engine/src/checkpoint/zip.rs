//! The directory of a zip file whose entries are stored uncompressed, as `torch.save` writes it. Zip64 included.

use std::collections::BTreeMap;

use super::entry::Source;

/// Where an entry's bytes are in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub(super) start: u64,
    pub(super) bytes: u64,
}

const LOCAL_HEADER_BYTES: u64 = 30;

/// All entries by name.
pub(super) fn entries(source: &Source<'_>) -> Result<BTreeMap<String, Stored>, String> {
    let (start, length) = central_directory(source)?;
    let directory = source.read(start, length)?;
    let mut entries = BTreeMap::new();
    let mut rest = directory.as_slice();
    while let Some(head) = rest.get(..46).filter(|head| head.starts_with(b"PK\x01\x02")) {
        let (name_len, extra_len, comment_len) =
            (u16_at(head, 28), u16_at(head, 30), u16_at(head, 32));
        let end = 46 + name_len + extra_len + comment_len;
        let body = rest.get(46..end).ok_or("the zip directory is cut off")?;
        let name = String::from_utf8_lossy(&body[..name_len]).into_owned();
        let (method, flags) = (u16_at(head, 10), u16_at(head, 8));
        if method != 0 || flags & 1 != 0 {
            return Err(format!(
                "zip entry `{name}` is compressed or encrypted; PyTorch stores entries as they are"
            ));
        }
        let entry = locate(source, head, &body[name_len..name_len + extra_len])
            .map_err(|e| format!("zip entry `{name}`: {e}"))?;
        entries.insert(name, entry);
        rest = &rest[end..];
    }
    if entries.is_empty() {
        Err("the zip directory has no entries".to_owned())
    } else {
        Ok(entries)
    }
}

fn locate(source: &Source<'_>, head: &[u8], extra: &[u8]) -> Result<Stored, String> {
    let (mut bytes, mut packed, mut offset) =
        (u32_at(head, 24), u32_at(head, 20), u32_at(head, 42));
    // Zip64: fields that overflow 32 bits are stored in extra block 1, in this order.
    let mut wide = zip64_block(extra).chunks_exact(8).map(|b| u64_at(b, 0));
    for field in [&mut bytes, &mut packed, &mut offset] {
        if *field == u64::from(u32::MAX) {
            *field = wide.next().ok_or("its 64-bit sizes are missing")?;
        }
    }
    if bytes != packed {
        return Err("its two sizes differ though it is stored".to_owned());
    }
    let local = source.read(offset, LOCAL_HEADER_BYTES)?;
    if !local.starts_with(b"PK\x03\x04") {
        return Err("its local header is not where the directory says".to_owned());
    }
    let start = offset + LOCAL_HEADER_BYTES + (u16_at(&local, 26) + u16_at(&local, 28)) as u64;
    if start.checked_add(bytes).is_none_or(|end| end > source.len) {
        return Err("its data lies beyond the end of the file".to_owned());
    }
    Ok(Stored { start, bytes })
}

fn zip64_block(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), u16_at(extra, 2));
        let body = extra.get(4..4 + length).unwrap_or_default();
        if id == 1 {
            return body;
        }
        extra = extra.get(4 + length..).unwrap_or_default();
    }
    &[]
}

/// Start and length of the central directory.
fn central_directory(source: &Source<'_>) -> Result<(u64, u64), String> {
    // The end record has 22 bytes and a comment of at most 65,535.
    let tail_start = source.len.saturating_sub(22 + 0xffff);
    let tail = source.read(tail_start, source.len - tail_start)?;
    let at =
        (0..tail.len().saturating_sub(21)).rev().find(|&i| tail[i..].starts_with(b"PK\x05\x06"));
    let at = at.ok_or("the zip end record is missing; the file is probably cut off")?;
    let end = &tail[at..];
    let (length, start) = (u32_at(end, 12), u32_at(end, 16));
    if length != u64::from(u32::MAX) && start != u64::from(u32::MAX) {
        return Ok((start, length));
    }
    let record = tail_start + at as u64;
    let locator = source.read(record.checked_sub(20).ok_or("the zip64 locator is missing")?, 20)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Err("the zip64 locator is missing".to_owned());
    }
    let wide = source.read(u64_at(&locator, 8), 56)?;
    if !wide.starts_with(b"PK\x06\x06") {
        return Err("the zip64 end record is missing".to_owned());
    }
    Ok((u64_at(&wide, 48), u64_at(&wide, 40)))
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) | u32_at(bytes, at + 4) << 32
}
