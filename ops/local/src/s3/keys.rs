//! Keys are paths below their bucket, or are refused. Pure.

use std::path::{Path, PathBuf};

use s3s::path::check_bucket_name;
use s3s::{S3Error, S3ErrorCode};

use super::error::refuse;

/// The folder below the root that holds what is ours. No bucket can have this name.
pub(super) const OWN_FOLDER: &str = ".nightshift";

/// The folder of a bucket, which may or may not exist.
pub(super) fn bucket_folder(root: &Path, bucket: &str) -> Result<PathBuf, S3Error> {
    // `s3s` has checked this too; a name that leaves the root must not pass even if that changes.
    if check_bucket_name(bucket) {
        Ok(root.join(bucket))
    } else {
        Err(refuse(S3ErrorCode::InvalidBucketName, format!("`{bucket}` is not a bucket name")))
    }
}

/// Refuses every key that is not a plain path of file names: what is left maps one to one to files below the bucket.
pub(super) fn check(key: &str) -> Result<(), S3Error> {
    let refuse = |why: &str| {
        Err(refuse(
            S3ErrorCode::InvalidArgument,
            format!("this store keeps objects as files, so the key {key:?} cannot be used: {why}"),
        ))
    };
    if key.len() > 1024 {
        return Err(S3Error::new(S3ErrorCode::KeyTooLongError));
    }
    for part in key.split('/') {
        match part {
            "" => return refuse("it begins or ends with `/` or contains `//`"),
            "." | ".." => return refuse("a part of it is `.` or `..`"),
            _ if part.len() > 255 => return refuse("a part of it is longer than 255 bytes"),
            _ if part.bytes().any(|byte| byte.is_ascii_control()) => {
                return refuse("it contains a control character");
            }
            _ => {}
        }
    }
    // The library that publishes files keeps such names for itself.
    let name = key.rsplit('/').next().unwrap_or(key);
    if name
        .split_once('#')
        .is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return refuse("its name ends in `#` and a number");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_every_way_out() {
        for key in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            ".",
            "../b",
            "a/../../b",
            "a/..",
            "./a",
            "a\0b",
            "a\nb",
            "\u{7f}",
            "a#1",
        ] {
            assert!(check(key).is_err(), "{key:?}");
        }
        assert!(check(&"a".repeat(256)).is_err());
        assert!(check(&"a/".repeat(600)).is_err());
        for bucket in ["..", ".", "", "a/b", ".nightshift", "ab", "A__", "127.0.0.1"] {
            assert!(bucket_folder(Path::new("/root"), bucket).is_err(), "{bucket:?}");
        }
    }

    #[test]
    fn takes_what_is_only_odd() {
        let odd = [
            "a b",
            "ü/日本",
            "a+b%2e%2e",
            "..a",
            "a..",
            "-",
            "a#b",
            "#",
            "a\\..\\b",
            "C:\\x",
            "\u{202e}x",
            "e\u{301}",
            "*?\"<>|",
            ".hidden",
        ];
        for key in odd {
            check(key).unwrap();
        }
        check(&"a".repeat(255)).unwrap();
    }
}
