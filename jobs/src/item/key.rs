//! Which object keys are safe to write, and how addresses are taken apart.

use crate::template::is_bidi_control;

/// The longest component of a key, in bytes: file systems stop at 255, and temporary names need room.
const MAX_COMPONENT_BYTES: usize = 200;

/// The longest key below a destination, in bytes: S3 stops at 1024 for the whole key.
pub(crate) const MAX_KEY_BYTES: usize = 700;

/// Whether a key stays in its folder and can be stored everywhere: no empty, `.` or `..` component, no leading or trailing `/`,
/// no backslash, control or bidi character, no component over 200 bytes or ending in a dot or space. With an extension, no
/// folder may look like a file of this job, so that no key is the folder of another.
pub(crate) fn is_safe(key: &str, ext: Option<&str>) -> bool {
    if key.is_empty() || key.chars().any(|c| c.is_control() || is_bidi_control(c) || c == '\\') {
        return false;
    }
    let looks_like_file = |part: &str| {
        ext.is_some_and(|ext| {
            [ext, "png", "npy"].iter().any(|ext| part.to_lowercase().ends_with(&format!(".{ext}")))
        })
    };
    let mut parts = key.split('/').peekable();
    while let Some(part) = parts.next() {
        let bad = part.is_empty()
            || part.len() > MAX_COMPONENT_BYTES
            || part.ends_with(['.', ' '])
            || part.starts_with(' ');
        // `..` and `.` end in a dot.
        if bad || (parts.peek().is_some() && looks_like_file(part)) {
            return false;
        }
    }
    true
}

/// Bucket and key of `s3://bucket/key`; the key may be empty.
pub(crate) fn split_s3(uri: &str) -> Option<(&str, &str)> {
    let (bucket, key) = uri.strip_prefix("s3://")?.split_once('/')?;
    is_bucket(bucket).then_some((bucket, key))
}

/// Whether a bucket can have this name (the rules of S3 for new buckets, less those about look-alikes of addresses).
pub(crate) fn is_bucket(bucket: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = bucket.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| inner(*b))
        && ends(bytes.first())
        && ends(bytes.last())
        && !bucket.contains("..")
}

/// A help for an `s3://` address whose bucket cannot have its name.
pub(crate) fn bucket_help(uri: &str) -> Option<String> {
    let bucket = uri.strip_prefix("s3://")?.split('/').next()?;
    (!is_bucket(bucket))
        .then(|| "a bucket has 3 to 63 lower case letters, digits, `-` and `.`".to_owned())
}

/// A key without the extension of its last component; a leading dot is no extension.
pub(crate) fn without_extension(key: &str) -> &str {
    let name_at = key.rfind('/').map_or(0, |at| at + 1);
    match key[name_at..].rfind('.') {
        Some(dot) if dot > 0 => &key[..name_at + dot],
        _ => key,
    }
}
