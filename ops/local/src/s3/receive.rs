//! Takes a request's body to disk, out of sight, and verifies it. Only what passed may be published.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{ChecksumAlgorithm, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders};
use tokio::io::AsyncWriteExt;

use super::error::{disk, refuse};
use super::sidecar::{Sums, Version, hex};

/// What the client says of the body, from headers and trailers.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) bytes: Option<i64>,
    pub(super) md5: Option<String>,
    /// Checksums named by the client; those that are not are not compared.
    pub(super) sums: Sums,
    /// `x-amz-content-sha256`, when it is one.
    pub(super) payload_sha256: Option<String>,
    pub(super) algorithm: Option<ChecksumAlgorithm>,
    /// Names of the checksums that come after the body.
    pub(super) trailer_names: String,
    pub(super) trailers: Option<TrailingHeaders>,
}

impl Expected {
    /// Whether the checksum of this name comes after the body.
    fn announces(&self, name: &str) -> bool {
        let wanted = format!("x-amz-checksum-{name}");
        self.trailer_names
            .split(',')
            .any(|announced| announced.trim().eq_ignore_ascii_case(&wanted))
    }
}

/// Bytes on disk, verified and synced, that are not visible yet. Dropping it removes them, unless they were published from there.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) path: tempfile::TempPath,
    pub(super) version: Version,
    pub(super) md5: [u8; 16],
    /// The checksums the client asked for, and always sha256.
    pub(super) sums: Sums,
}

impl Staged {
    pub(super) fn etag(&self) -> String {
        hex(&self.md5)
    }
}

/// Writes `body` to a new file in `staging` and compares it with what is expected.
pub(super) async fn receive(
    staging: &Path,
    body: Option<StreamingBlob>,
    expected: Expected,
) -> S3Result<Staged> {
    let name = crate::files::random_hex(24)
        .map_err(|error| refuse(S3ErrorCode::InternalError, error.to_string()))?;
    let path: PathBuf = staging.join(name);
    let mut file = tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .await
        .map_err(disk("stage an object"))?;
    let path = tempfile::TempPath::try_from_path(path).map_err(disk("stage an object"))?;
    let mut hasher = hasher(&expected);
    let mut md5 = Md5::new();
    let mut bytes: u64 = 0;
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(broken_body)?;
            hasher.update(&chunk);
            md5.update(&chunk);
            bytes += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(disk("write an object"))?;
        }
    }
    file.flush().await.map_err(disk("write an object"))?;
    let md5: [u8; 16] = md5.finalize().as_ref().try_into().expect("md5 has 16 bytes");
    let sums = Sums::from(hasher.finalize());
    verify(&expected, bytes, &md5, &sums)?;
    file.sync_all().await.map_err(disk("sync an object"))?;
    let version = Version::of(&file.metadata().await.map_err(disk("look at an object"))?);
    Ok(Staged { path, version, md5, sums })
}

/// A body that ended early, or whose chunk signatures do not match.
fn broken_body(error: s3s::StdError) -> S3Error {
    match error.downcast::<S3Error>() {
        Ok(error) => *error,
        Err(error) => refuse(
            S3ErrorCode::IncompleteBody,
            format!("the body was cut off or is not what was signed: {error}"),
        ),
    }
}

fn hasher(expected: &Expected) -> ChecksumHasher {
    let algorithm = expected.algorithm.as_ref().map(ChecksumAlgorithm::as_str).unwrap_or_default();
    let wants = |sum: &Option<String>, name: &str| {
        sum.is_some() || expected.announces(name) || algorithm.eq_ignore_ascii_case(name)
    };
    ChecksumHasher {
        crc32: wants(&expected.sums.crc32, "crc32").then(Default::default),
        crc32c: wants(&expected.sums.crc32c, "crc32c").then(Default::default),
        crc64nvme: wants(&expected.sums.crc64nvme, "crc64nvme").then(Default::default),
        sha1: wants(&expected.sums.sha1, "sha1").then(Default::default),
        sha256: Some(Default::default()),
    }
}

fn verify(expected: &Expected, bytes: u64, md5: &[u8; 16], found: &Sums) -> S3Result<()> {
    if let Some(wanted) = expected.bytes
        && u64::try_from(wanted) != Ok(bytes)
    {
        return Err(refuse(
            S3ErrorCode::IncompleteBody,
            format!("{wanted} bytes were announced and {bytes} arrived"),
        ));
    }
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD;
    if let Some(wanted) = &expected.md5 {
        let wanted = base64.decode(wanted).ok().filter(|bytes| bytes.len() == 16);
        let wanted = wanted
            .ok_or_else(|| refuse(S3ErrorCode::InvalidDigest, "Content-MD5 is not a base64 MD5"))?;
        if wanted != md5 {
            return Err(refuse(
                S3ErrorCode::BadDigest,
                "the bytes that arrived do not have the MD5 of Content-MD5",
            ));
        }
    }
    let sha256 = found.sha256.as_ref().expect("sha256 is always computed");
    if let Some(wanted) = &expected.payload_sha256
        && base64.decode(sha256).map(|bytes| hex(&bytes)).as_ref() != Ok(wanted)
    {
        return Err(refuse(
            S3ErrorCode::BadDigest,
            "the bytes that arrived do not have the sha256 that was signed",
        ));
    }
    let trailer = |name: &str| {
        expected
            .trailers
            .as_ref()?
            .read(|headers| {
                headers.get(format!("x-amz-checksum-{name}"))?.to_str().ok().map(str::to_owned)
            })
            .flatten()
    };
    let all = [
        ("crc32", &expected.sums.crc32, &found.crc32),
        ("crc32c", &expected.sums.crc32c, &found.crc32c),
        ("crc64nvme", &expected.sums.crc64nvme, &found.crc64nvme),
        ("sha1", &expected.sums.sha1, &found.sha1),
        ("sha256", &expected.sums.sha256, &found.sha256),
    ];
    for (name, header, found) in all {
        let trailer = trailer(name);
        if expected.announces(name) && trailer.is_none() {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!("the {name} checksum announced in x-amz-trailer was not sent"),
            ));
        }
        for wanted in [header.clone(), trailer].into_iter().flatten() {
            if Some(&wanted) != found.as_ref() {
                return Err(refuse(
                    S3ErrorCode::BadDigest,
                    format!("the bytes that arrived do not have the {name} checksum that was sent"),
                ));
            }
        }
    }
    Ok(())
}
