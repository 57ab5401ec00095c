//! Writing, reading and copying single objects.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream;
use s3s::dto::{
    ChecksumType, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag,
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, MetadataDirective,
    PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{S3ErrorCode, S3Request, S3Result, TrailingHeaders};

use super::conditions::Conditions;
use super::disk::Disk;
use super::error::{blocking, disk, refuse};
use super::receive::{Expected, receive};
use super::sidecar::{Facts, Headers, Sums, Version};

/// Size of the pieces in which files are read.
const CHUNK_BYTES: usize = 1 << 18;

/// The headers of a request that say what its body must be.
pub(super) fn expected(headers: &http::HeaderMap, trailers: Option<TrailingHeaders>) -> Expected {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Expected {
        payload_sha256: text("x-amz-content-sha256")
            .filter(|sum| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit())),
        trailer_names: text("x-amz-trailer").unwrap_or_default(),
        trailers,
        ..Expected::default()
    }
}

pub(super) async fn put(
    store: &Disk,
    request: S3Request<PutObjectInput>,
) -> S3Result<PutObjectOutput> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
    let (this, bucket, key, early) =
        (store.clone(), input.bucket.clone(), input.key.clone(), conditions.clone());
    // What cannot succeed is refused before its bytes are taken; what decides comes when they are there.
    blocking(move || refuse_early(&this, &bucket, &key, &early)).await?;
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
    let kept = Headers {
        content_type: input.content_type,
        content_encoding: input.content_encoding.and_then(|encoding| without_chunking(&encoding)),
        content_disposition: input.content_disposition,
        content_language: input.content_language,
        cache_control: input.cache_control,
        metadata: input.metadata.unwrap_or_default().into_iter().collect(),
    };
    let etag = staged.etag();
    let facts = store.publish(&input.bucket, &input.key, staged, etag, kept, &conditions).await?;
    Ok(PutObjectOutput {
        e_tag: Some(ETag::Strong(facts.etag)),
        checksum_crc32: facts.sums.crc32,
        checksum_crc32c: facts.sums.crc32c,
        checksum_crc64nvme: facts.sums.crc64nvme,
        checksum_sha1: facts.sums.sha1,
        checksum_sha256: facts.sums.sha256,
        checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        ..PutObjectOutput::default()
    })
}

fn refuse_early(store: &Disk, bucket: &str, key: &str, conditions: &Conditions) -> S3Result<()> {
    let path = store.path(bucket, key)?;
    if conditions.create_only()
        && std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file())
    {
        return Err(super::conditions::failed());
    }
    Ok(())
}

/// `aws-chunked` describes the request, not the object.
pub(super) fn without_chunking(encoding: &str) -> Option<String> {
    let rest: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty() && !part.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!rest.is_empty()).then(|| rest.join(","))
}

pub(super) async fn head(store: &Disk, input: HeadObjectInput) -> S3Result<HeadObjectOutput> {
    let this = store.clone();
    let (bucket, key) = (input.bucket, input.key);
    let (_, facts) = blocking(move || this.open_object(&bucket, &key)).await?;
    Conditions { if_match: input.if_match, if_none_match: input.if_none_match }
        .check_read(&facts.etag)?;
    let sums = if input.checksum_mode.is_some() { facts.sums } else { Sums::default() };
    Ok(HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(signed(facts.version.bytes)),
        e_tag: Some(ETag::Strong(facts.etag)),
        last_modified: Some(modified(facts.version)),
        checksum_type: has_sum(&sums).then(|| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        content_type: Some(content_type(facts.headers.content_type)),
        content_encoding: facts.headers.content_encoding,
        content_disposition: facts.headers.content_disposition,
        content_language: facts.headers.content_language,
        cache_control: facts.headers.cache_control,
        metadata: Some(facts.headers.metadata.into_iter().collect()),
        ..HeadObjectOutput::default()
    })
}

pub(super) async fn get(store: &Disk, input: GetObjectInput) -> S3Result<GetObjectOutput> {
    let this = store.clone();
    let (bucket, key) = (input.bucket, input.key);
    let (file, facts) = blocking(move || this.open_object(&bucket, &key)).await?;
    Conditions { if_match: input.if_match, if_none_match: input.if_none_match }
        .check_read(&facts.etag)?;
    let whole = facts.version.bytes;
    let range = match input.range {
        Some(range) => range.check(whole).map_err(|_| {
            refuse(S3ErrorCode::InvalidRange, format!("the object has {whole} bytes"))
        })?,
        None => 0..whole,
    };
    // Checksums are of the whole object, so a part of it comes without.
    let with_sums = input.checksum_mode.is_some() && input.range.is_none();
    let sums = if with_sums { facts.sums } else { Sums::default() };
    Ok(GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(signed(range.end - range.start)),
        content_range: input
            .range
            .map(|_| format!("bytes {}-{}/{whole}", range.start, range.end.saturating_sub(1))),
        body: Some(stream_file(file, range)),
        e_tag: Some(ETag::Strong(facts.etag)),
        last_modified: Some(modified(facts.version)),
        checksum_type: has_sum(&sums).then(|| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        content_type: Some(content_type(facts.headers.content_type)),
        content_encoding: facts.headers.content_encoding,
        content_disposition: facts.headers.content_disposition,
        content_language: facts.headers.content_language,
        cache_control: facts.headers.cache_control,
        metadata: Some(facts.headers.metadata.into_iter().collect()),
        ..GetObjectOutput::default()
    })
}

pub(super) async fn copy(store: &Disk, input: CopyObjectInput) -> S3Result<CopyObjectOutput> {
    let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
        return Err(refuse(
            S3ErrorCode::NotImplemented,
            "only a bucket and key can be copied from",
        ));
    };
    let (this, bucket, key) = (store.clone(), bucket.to_string(), key.to_string());
    let (file, source) = blocking(move || this.open_object(&bucket, &key)).await?;
    check_copy_source(&input, &source)?;
    let (this, bucket, key) = (store.clone(), input.bucket.clone(), input.key.clone());
    blocking(move || this.path(&bucket, &key)).await?;
    let bytes = source.version.bytes;
    let expected = Expected {
        bytes: Some(signed(bytes)),
        algorithm: input.checksum_algorithm,
        ..Expected::default()
    };
    let staged = receive(&store.staging(), Some(stream_file(file, 0..bytes)), expected).await?;
    let replaces = input
        .metadata_directive
        .as_ref()
        .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
    let headers = if replaces {
        Headers {
            content_type: input.content_type,
            content_encoding: input
                .content_encoding
                .and_then(|encoding| without_chunking(&encoding)),
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        }
    } else {
        source.headers
    };
    let etag = staged.etag();
    let facts = store
        .publish(&input.bucket, &input.key, staged, etag, headers, &Conditions::default())
        .await?;
    let result = CopyObjectResult {
        e_tag: Some(ETag::Strong(facts.etag)),
        last_modified: Some(modified(facts.version)),
        ..CopyObjectResult::default()
    };
    Ok(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
}

fn check_copy_source(input: &CopyObjectInput, source: &Facts) -> S3Result<()> {
    let conditions = Conditions {
        if_match: input.copy_source_if_match.clone(),
        if_none_match: input.copy_source_if_none_match.clone(),
    };
    // A copy answers 412 where a read answers 304.
    conditions.check_read(&source.etag).map_err(|_| super::conditions::failed())
}

/// The bytes of a part of an open file, read as they are asked for.
pub(super) fn stream_file(file: std::fs::File, range: Range<u64>) -> StreamingBlob {
    let pieces =
        stream::try_unfold((file, range.start, range.end), |(mut file, at, end)| async move {
            if at == end {
                return Ok::<_, std::io::Error>(None);
            }
            let (file, chunk) = blocking(move || {
                let wanted = usize::try_from(end - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
                let mut chunk = vec![0_u8; wanted];
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(&mut chunk)?;
                Ok::<_, std::io::Error>((file, chunk))
            })
            .await?;
            let next = at + chunk.len() as u64;
            Ok(Some((Bytes::from(chunk), (file, next, end))))
        });
    StreamingBlob::wrap(pieces)
}

pub(super) fn modified(version: Version) -> Timestamp {
    let since =
        u64::try_from(version.modified_ns.max(0)).map_or(Duration::ZERO, Duration::from_nanos);
    Timestamp::from(SystemTime::UNIX_EPOCH + since)
}

pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn content_type(kept: Option<String>) -> String {
    kept.filter(|kept| !kept.is_empty()).unwrap_or_else(|| "application/octet-stream".to_owned())
}

fn has_sum(sums: &Sums) -> bool {
    *sums != Sums::default()
}

/// Syncs a folder, so that what was created in it stays after a power cut.
pub(super) fn sync_folder(folder: &Path) -> S3Result<()> {
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk("sync a folder"))
}
