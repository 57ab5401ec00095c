//! What is known of an object beyond its bytes, kept in a file outside the visible tree.
//!
//! A sidecar belongs to one version of the file: its name holds the inode, its content the size and time of change. So it can be written before the object is
//! published and still never describes another version; and a file that was edited or copied by hand simply has none that fits.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::Checksum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) inode: u64,
    pub(super) bytes: u64,
    pub(super) modified_ns: i128,
}

impl Version {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified_ns =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self { inode: metadata.ino(), bytes: metadata.len(), modified_ns }
    }
}

/// The headers that a writer may give and a reader gets back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Headers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// Base64 checksums of the whole object, by algorithm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc32: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc32c: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc64nvme: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha1: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

impl From<Checksum> for Sums {
    fn from(sums: Checksum) -> Self {
        Self {
            crc32: sums.checksum_crc32,
            crc32c: sums.checksum_crc32c,
            crc64nvme: sums.checksum_crc64nvme,
            sha1: sums.checksum_sha1,
            sha256: sums.checksum_sha256,
        }
    }
}

/// The content of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// For a person who looks.
    pub(super) key: String,
    pub(super) version: Version,
    /// Without quotes: hex md5, or that of the parts and their number.
    pub(super) etag: String,
    #[serde(default)]
    pub(super) sums: Sums,
    #[serde(default)]
    pub(super) headers: Headers,
}

/// The sidecars of one bucket.
#[derive(Debug, Clone)]
pub(super) struct Sidecars {
    folder: PathBuf,
}

impl Sidecars {
    pub(super) fn of(own: &Path, bucket: &str) -> Self {
        Self { folder: own.join("meta").join(bucket) }
    }

    fn path(&self, key: &str, inode: u64) -> PathBuf {
        let hash: String =
            Sha256::digest(key).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(&hash[..2]).join(format!("{hash}.{inode}.json"))
    }

    pub(super) fn read(&self, key: &str, version: Version) -> Option<Facts> {
        let facts: Facts =
            serde_json::from_slice(&std::fs::read(self.path(key, version.inode)).ok()?).ok()?;
        (facts.key == key && facts.version == version).then_some(facts)
    }

    pub(super) fn write(&self, facts: &Facts, durable: bool) -> io::Result<()> {
        let path = self.path(&facts.key, facts.version.inode);
        let folder = path.parent().expect("a sidecar lies in a folder");
        std::fs::create_dir_all(folder)?;
        // Beside and renamed: two requests may learn the same facts at once.
        let mut part = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut part, facts)?;
        if durable {
            part.as_file().sync_all()?;
        }
        part.persist(&path).map_err(|error| error.error)?;
        if durable {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, key: &str, inode: u64) {
        // A sidecar that stays behind fits no version and costs a few bytes.
        let _ = std::fs::remove_file(self.path(key, inode));
    }

    pub(super) fn remove_all(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// The facts of a file that came by hand: its content is read once and the result kept.
    pub(super) fn learn(&self, key: &str, mut file: std::fs::File) -> io::Result<Facts> {
        let version = Version::of(&file.metadata()?);
        let mut md5 = Md5::new();
        let mut buffer = vec![0_u8; 1 << 18];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            md5.update(&buffer[..n]);
        }
        let etag = hex(md5.finalize().as_ref());
        let headers =
            Headers { content_type: guess_type(key).map(str::to_owned), ..Headers::default() };
        let facts = Facts { key: key.to_owned(), version, etag, sums: Sums::default(), headers };
        // Only a cache, and the disk may be full or read-only.
        if Version::of(&file.metadata()?) == version
            && let Err(error) = self.write(&facts, false)
        {
            tracing::debug!(%error, key, "could not keep what was learned of a file");
        }
        Ok(facts)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Content type of the files that people copy into a bucket.
fn guess_type(key: &str) -> Option<&'static str> {
    let extension = key.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    Some(match extension.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "json" => "application/json",
        "txt" => "text/plain",
        "csv" => "text/csv",
        "yaml" | "yml" => "application/yaml",
        _ => return None,
    })
}
