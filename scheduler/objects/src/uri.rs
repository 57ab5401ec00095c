//! `s3://bucket/key`, the one way to name an object.

use std::fmt;
use std::str::FromStr;

/// An object, or with an empty key or one that ends in `/` a place for objects.
///
/// ```
/// use nightshift_objects::S3Uri;
/// let folder: S3Uri = "s3://pictures/cats/".parse()?;
/// assert_eq!(folder.join("1.png").to_string(), "s3://pictures/cats/1.png");
/// # Ok::<(), nightshift_objects::UriError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct S3Uri {
    /// Bucket name: 3 to 63 characters of a-z, 0-9, `-` and `.`.
    pub bucket: String,
    /// Key, at most 1,024 bytes; may be empty.
    pub key: String,
}

/// Why a text is not an S3 uri.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// It does not begin with `s3://`.
    #[error("`{text}` is not an S3 uri; write s3://bucket/key")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// The bucket's name is not valid.
    #[error(
        "`{bucket}` is not a bucket name; it has 3 to 63 characters of a-z, 0-9, `-` and `.`, and begins and ends with a letter or digit"
    )]
    Bucket {
        /// The part that should be a bucket.
        bucket: String,
    },
    /// The key is longer than S3 takes.
    #[error("the key has {bytes} bytes; S3 takes at most 1024")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
}

impl S3Uri {
    /// The uri of `part` below this one; a `/` is put between unless there is one or the key is empty.
    pub fn join(&self, part: &str) -> Self {
        let between = if self.key.is_empty() || self.key.ends_with('/') { "" } else { "/" };
        Self { bucket: self.bucket.clone(), key: format!("{}{between}{part}", self.key) }
    }
}

impl FromStr for S3Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest =
            text.strip_prefix("s3://").ok_or_else(|| UriError::Scheme { text: text.to_owned() })?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_bucket_name(bucket) {
            return Err(UriError::Bucket { bucket: bucket.to_owned() });
        }
        if key.len() > 1024 {
            return Err(UriError::KeyTooLong { bytes: key.len() });
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Display for S3Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

fn is_bucket_name(name: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| alphanumeric(&byte) || byte == b'-' || byte == b'.')
        && name.as_bytes().first().is_some_and(alphanumeric)
        && name.as_bytes().last().is_some_and(alphanumeric)
        && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_the_same() {
        for text in ["s3://abc/", "s3://abc/k", "s3://a-b.c/x/ y/ü?#%20", "s3://abc//double"] {
            assert_eq!(text.parse::<S3Uri>().unwrap().to_string(), text);
        }
        assert_eq!("s3://abc".parse::<S3Uri>().unwrap().to_string(), "s3://abc/");
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "abc/k", "http://abc/k", "S3://abc/k"] {
            assert!(matches!(text.parse::<S3Uri>(), Err(UriError::Scheme { .. })), "{text}");
        }
        for text in [
            "s3://",
            "s3:///k",
            "s3://ab/k",
            "s3://Abc/k",
            "s3://-abc/k",
            "s3://a..b/k",
            "s3://a_b/k",
            "s3://../k",
        ] {
            assert!(matches!(text.parse::<S3Uri>(), Err(UriError::Bucket { .. })), "{text}");
        }
        assert_eq!(
            format!("s3://abc/{}", "k".repeat(1025)).parse::<S3Uri>(),
            Err(UriError::KeyTooLong { bytes: 1025 })
        );
    }

    #[test]
    fn joins_with_one_slash() {
        let at = |key: &str| S3Uri { bucket: "abc".into(), key: key.into() };
        assert_eq!(at("").join("x"), at("x"));
        assert_eq!(at("a").join("x"), at("a/x"));
        assert_eq!(at("a/").join("x/y"), at("a/x/y"));
    }
}
