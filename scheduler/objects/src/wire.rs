//! Between the values of the house and those that travel in headers and XML. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::Error;
use crate::object::{ObjectInfo, SHA256_KEY};

pub(crate) fn is_ours(info: &ObjectInfo, sha256: &str) -> bool {
    info.sha256.as_deref().or(info.metadata.get(SHA256_KEY).map(String::as_str)) == Some(sha256)
}

/// Metadata travels in HTTP headers.
pub(crate) fn check_metadata(metadata: &HashMap<String, String>) -> Result<(), Error> {
    for (name, value) in metadata {
        let good_name = !name.is_empty()
            && name.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
            });
        if !good_name || !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            let detail = format!(
                "metadata `{name}` cannot be sent: names have a-z, 0-9, `-` and `_`, values printable ASCII"
            );
            return Err(Error::Invalid { detail });
        }
    }
    Ok(())
}

pub(crate) fn unquoted(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_start_matches("W/").trim_matches('"').to_owned()
}

pub(crate) fn unsigned(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default()
}

pub(crate) fn lowercase(metadata: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    metadata
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect()
}

/// Undoes `encoding-type=url`: AWS writes a space as `+`, and a plus as `%2B`.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (_, Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_a_listing_encodes() {
        assert_eq!(decode("a+b%2Bc%20d%C3%BC/%25"), "a b+c dü/%");
        assert_eq!(decode("50%"), "50%");
        assert_eq!(decode("%zz%é"), "%zz%é");
    }

    #[test]
    fn metadata_that_no_header_can_carry_is_refused() {
        let one = |name: &str, value: &str| {
            check_metadata(&HashMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert!(one("item_id", "0a b").is_ok());
        for (name, value) in [("", "x"), ("Item", "x"), ("a b", "x"), ("a", "ü"), ("a", "x\ny")] {
            assert!(one(name, value).is_err(), "{name:?} {value:?}");
        }
    }
}
