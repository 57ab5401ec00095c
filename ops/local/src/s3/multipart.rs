//! Uploads in parts. An upload is a folder `uploads/<id>` with its description and one file per part; completing it stages the parts as one object.

use std::path::PathBuf;
use std::time::SystemTime;

use futures::stream::{self, StreamExt, TryStreamExt};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart,
    CreateMultipartUploadInput, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, MultipartUpload, Part as ListedPart, StreamingBlob, Timestamp,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Result};
use serde::{Deserialize, Serialize};

use super::conditions::Conditions;
use super::disk::Disk;
use super::error::{blocking, disk, refuse};
use super::objects::{expected, modified, signed, stream_file, sync_folder, without_chunking};
use super::receive::{Expected, receive};
use super::sidecar::{Headers, Sums, Version, hex};
use crate::files;

/// Every part but the last has at least this size.
const MIN_PART_BYTES: u64 = 5 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Upload {
    bucket: String,
    key: String,
    headers: Headers,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    number: i32,
    version: Version,
    etag: String,
    sums: Sums,
}

fn folder(store: &Disk, id: &str) -> S3Result<PathBuf> {
    // Only ids that we made are accepted; this also keeps every path inside.
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(store.uploads().join(id))
    } else {
        Err(no_such_upload())
    }
}

fn no_such_upload() -> s3s::S3Error {
    refuse(
        S3ErrorCode::NoSuchUpload,
        "no such upload; it was completed or aborted, or never started",
    )
}

fn open(store: &Disk, bucket: &str, key: &str, id: &str) -> S3Result<(PathBuf, Upload)> {
    let folder = folder(store, id)?;
    let bytes = std::fs::read(folder.join("upload.json")).map_err(|_| no_such_upload())?;
    let upload: Upload = serde_json::from_slice(&bytes).map_err(|_| no_such_upload())?;
    if upload.bucket == bucket && upload.key == key {
        Ok((folder, upload))
    } else {
        Err(no_such_upload())
    }
}

pub(super) async fn create(store: &Disk, input: CreateMultipartUploadInput) -> S3Result<String> {
    let store = store.clone();
    blocking(move || {
        store.path(&input.bucket, &input.key)?;
        let id = files::random_hex(32)
            .map_err(|error| refuse(S3ErrorCode::InternalError, error.to_string()))?;
        let folder = folder(&store, &id)?;
        std::fs::create_dir(&folder).map_err(disk("begin an upload"))?;
        let headers = Headers {
            content_type: input.content_type,
            content_encoding: input
                .content_encoding
                .and_then(|encoding| without_chunking(&encoding)),
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        };
        let upload = Upload { bucket: input.bucket, key: input.key, headers };
        let text = serde_json::to_vec(&upload)
            .map_err(|error| refuse(S3ErrorCode::InternalError, error.to_string()))?;
        files::write_private(&folder.join("upload.json"), &text)
            .map_err(|error| refuse(S3ErrorCode::InternalError, error.to_string()))?;
        sync_folder(&store.uploads())?;
        Ok(id)
    })
    .await
}

pub(super) async fn part(
    store: &Disk,
    request: S3Request<UploadPartInput>,
) -> S3Result<UploadPartOutput> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    if !(1..=10_000).contains(&input.part_number) {
        return Err(refuse(S3ErrorCode::InvalidArgument, "a part's number is between 1 and 10000"));
    }
    let (this, bucket, key, id) =
        (store.clone(), input.bucket.clone(), input.key.clone(), input.upload_id.clone());
    let (folder, _) = blocking(move || open(&this, &bucket, &key, &id)).await?;
    let expected = Expected {
        bytes: input.content_length,
        md5: input.content_md5,
        sums: Sums {
            crc32: input.checksum_crc32,
            crc32c: input.checksum_crc32c,
            crc64nvme: input.checksum_crc64nvme,
            sha1: input.checksum_sha1,
            sha256: input.checksum_sha256,
        },
        algorithm: input.checksum_algorithm,
        ..expected(&headers, trailing_headers)
    };
    let staged = receive(&store.staging(), input.body, expected).await?;
    let part = Part {
        number: input.part_number,
        version: staged.version,
        etag: staged.etag(),
        sums: staged.sums.clone(),
    };
    let kept = part.clone();
    blocking(move || {
        // The file first: a description always stands for bytes that are there, and its version says whether they are the described ones.
        staged
            .path
            .persist(folder.join(format!("{}.bin", kept.number)))
            .map_err(|_| no_such_upload())?;
        let text = serde_json::to_vec(&kept)
            .map_err(|error| refuse(S3ErrorCode::InternalError, error.to_string()))?;
        files::write_private(&folder.join(format!("{}.json", kept.number)), &text)
            .map_err(|_| no_such_upload())?;
        sync_folder(&folder)
    })
    .await?;
    Ok(UploadPartOutput {
        e_tag: Some(ETag::Strong(part.etag)),
        checksum_crc32: part.sums.crc32,
        checksum_crc32c: part.sums.crc32c,
        checksum_crc64nvme: part.sums.crc64nvme,
        checksum_sha1: part.sums.sha1,
        checksum_sha256: part.sums.sha256,
        ..UploadPartOutput::default()
    })
}

/// The parts that are there, in order.
fn parts(folder: &std::path::Path) -> S3Result<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|_| no_such_upload())?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(bytes) = std::fs::read(&path)
            && let Ok(part) = serde_json::from_slice::<Part>(&bytes)
        {
            parts.push(part);
        }
    }
    parts.sort_by_key(|part| part.number);
    Ok(parts)
}

pub(super) async fn complete(
    store: &Disk,
    input: CompleteMultipartUploadInput,
) -> S3Result<CompleteMultipartUploadOutput> {
    let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
    let (this, bucket, key, id) =
        (store.clone(), input.bucket.clone(), input.key.clone(), input.upload_id.clone());
    let asked = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let (folder, upload, chosen) = blocking(move || {
        let (folder, upload) = open(&this, &bucket, &key, &id)?;
        let chosen = choose(&parts(&folder)?, &asked)?;
        Ok::<_, s3s::S3Error>((folder, upload, chosen))
    })
    .await?;
    let mut md5 = Md5::new();
    for part in &chosen {
        md5.update(&unhex(&part.etag));
    }
    let etag = format!("{}-{}", hex(md5.finalize().as_ref()), chosen.len());
    let bytes: u64 = chosen.iter().map(|part| part.version.bytes).sum();
    let whole = input
        .checksum_type
        .as_ref()
        .is_some_and(|kind| kind.as_str() == s3s::dto::ChecksumType::FULL_OBJECT);
    let expected = Expected {
        bytes: Some(input.mpu_object_size.unwrap_or(signed(bytes))),
        // Sums over the parts' sums are checked part by part; only those over the bytes say something of the object.
        sums: if whole {
            Sums {
                crc32: input.checksum_crc32,
                crc32c: input.checksum_crc32c,
                crc64nvme: input.checksum_crc64nvme,
                sha1: input.checksum_sha1,
                sha256: input.checksum_sha256,
            }
        } else {
            Sums::default()
        },
        ..Expected::default()
    };
    let staged = receive(&store.staging(), Some(joined(folder.clone(), chosen)), expected).await?;
    let facts =
        store.publish(&input.bucket, &input.key, staged, etag, upload.headers, &conditions).await?;
    blocking(move || std::fs::remove_dir_all(folder)).await.map_err(disk("clean up an upload"))?;
    let location = format!("/{}/{}", input.bucket, input.key);
    Ok(CompleteMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        location: Some(location),
        e_tag: Some(ETag::Strong(facts.etag)),
        ..CompleteMultipartUploadOutput::default()
    })
}

/// The parts that the client names, checked: in order, uploaded, unchanged, and large enough.
fn choose(present: &[Part], asked: &[CompletedPart]) -> S3Result<Vec<Part>> {
    if asked.is_empty() {
        return Err(refuse(S3ErrorCode::MalformedXML, "an upload has at least one part"));
    }
    let mut chosen: Vec<Part> = Vec::with_capacity(asked.len());
    for wanted in asked {
        let number = wanted.part_number.unwrap_or_default();
        if chosen.last().is_some_and(|last| last.number >= number) {
            return Err(refuse(
                S3ErrorCode::InvalidPartOrder,
                "the parts are not in ascending order",
            ));
        }
        let part = present.iter().find(|part| {
            part.number == number
                && wanted.e_tag.as_ref().is_none_or(|etag| etag.value() == part.etag)
        });
        let part = part.ok_or_else(|| {
            refuse(
                S3ErrorCode::InvalidPart,
                format!("part {number} was not uploaded, or its ETag differs"),
            )
        })?;
        let sums = [
            (&wanted.checksum_crc32, &part.sums.crc32),
            (&wanted.checksum_crc32c, &part.sums.crc32c),
            (&wanted.checksum_crc64nvme, &part.sums.crc64nvme),
            (&wanted.checksum_sha1, &part.sums.sha1),
            (&wanted.checksum_sha256, &part.sums.sha256),
        ];
        if sums.iter().any(|(wanted, have)| wanted.is_some() && have.is_some() && wanted != have) {
            return Err(refuse(
                S3ErrorCode::InvalidPart,
                format!("part {number} has a different checksum"),
            ));
        }
        if chosen.last().is_some_and(|last| last.version.bytes < MIN_PART_BYTES) {
            return Err(refuse(
                S3ErrorCode::EntityTooSmall,
                "every part but the last has at least 5 MiB",
            ));
        }
        chosen.push(part.clone());
    }
    Ok(chosen)
}

/// The bytes of the parts, one after the other.
fn joined(folder: PathBuf, parts: Vec<Part>) -> StreamingBlob {
    let files = stream::iter(parts).then(move |part| {
        let path = folder.join(format!("{}.bin", part.number));
        async move {
            blocking(move || {
                let file = std::fs::File::open(path)?;
                if Version::of(&file.metadata()?) != part.version {
                    return Err(std::io::Error::other(
                        "a part was replaced while the upload was completed",
                    ));
                }
                Ok(stream_file(file, 0..part.version.bytes).map_err(std::io::Error::other))
            })
            .await
        }
    });
    StreamingBlob::wrap(files.try_flatten())
}

pub(super) async fn abort(store: &Disk, bucket: String, key: String, id: String) -> S3Result<()> {
    let store = store.clone();
    blocking(move || {
        let (folder, _) = open(&store, &bucket, &key, &id)?;
        std::fs::remove_dir_all(folder).map_err(disk("abort an upload"))
    })
    .await
}

pub(super) async fn list_parts(store: &Disk, input: ListPartsInput) -> S3Result<ListPartsOutput> {
    let store = store.clone();
    blocking(move || {
        let (folder, _) = open(&store, &input.bucket, &input.key, &input.upload_id)?;
        let after = input.part_number_marker.unwrap_or_default();
        let limit = usize::try_from(input.max_parts.unwrap_or(1000)).unwrap_or(0).min(1000);
        let mut all: Vec<Part> =
            parts(&folder)?.into_iter().filter(|part| part.number > after).collect();
        let truncated = all.len() > limit;
        all.truncate(limit);
        let next = truncated.then(|| all.last().map(|part| part.number)).flatten();
        let listed = |part: Part| ListedPart {
            part_number: Some(part.number),
            e_tag: Some(ETag::Strong(part.etag)),
            size: Some(signed(part.version.bytes)),
            last_modified: Some(modified(part.version)),
            ..ListedPart::default()
        };
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(truncated),
            next_part_number_marker: next,
            max_parts: i32::try_from(limit).ok(),
            parts: Some(all.into_iter().map(listed).collect()),
            ..ListPartsOutput::default()
        })
    })
    .await
}

/// All uploads of a bucket at once: a local store has few.
pub(super) async fn list(
    store: &Disk,
    input: ListMultipartUploadsInput,
) -> S3Result<ListMultipartUploadsOutput> {
    let store = store.clone();
    blocking(move || {
        store.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let mut uploads = Vec::new();
        for entry in std::fs::read_dir(store.uploads()).map_err(disk("list uploads"))?.flatten() {
            let Ok(bytes) = std::fs::read(entry.path().join("upload.json")) else {
                continue;
            };
            let Ok(upload) = serde_json::from_slice::<Upload>(&bytes) else {
                continue;
            };
            if upload.bucket != input.bucket || !upload.key.starts_with(&prefix) {
                continue;
            }
            let begun = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            uploads.push(MultipartUpload {
                key: Some(upload.key),
                upload_id: entry.file_name().into_string().ok(),
                initiated: Some(Timestamp::from(begun)),
                ..MultipartUpload::default()
            });
        }
        uploads.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
        Ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            is_truncated: Some(false),
            uploads: Some(uploads),
            ..ListMultipartUploadsOutput::default()
        })
    })
    .await
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .filter_map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok())
        .collect()
}
