//! The operations of S3 that this store has; `s3s` answers all others with `NotImplemented`.

use std::time::SystemTime;

use s3s::dto::*;
use s3s::{S3, S3ErrorCode, S3Request, S3Response, S3Result};

use super::conditions::Conditions;
use super::disk::Disk;
use super::error::{blocking, disk, refuse};
use super::listing::{self, After, Line, Query};
use super::objects::{modified, signed};
use super::{keys, multipart, objects};

/// The storage behind the protocol.
#[derive(Debug)]
pub(super) struct Backend {
    store: Disk,
}

impl Backend {
    pub(super) fn new(store: Disk) -> Self {
        Self { store }
    }

    async fn list(&self, bucket: String, query: Query, url: bool) -> S3Result<Listing> {
        let store = self.store.clone();
        blocking(move || {
            let folder = store.bucket(&bucket)?;
            let found = listing::list(&folder, &query).map_err(disk("list a bucket"))?;
            let mut listing = Listing { next: found.next, ..Listing::default() };
            for line in found.lines {
                match line {
                    Line::Group(group) => {
                        listing.groups.push(CommonPrefix { prefix: Some(encode(group, url)) })
                    }
                    Line::Key(key) => {
                        // One that was deleted a moment ago is no longer listed.
                        let Ok((_, facts)) = store.open_object(&bucket, &key) else {
                            continue;
                        };
                        listing.objects.push(Object {
                            key: Some(encode(key, url)),
                            size: Some(signed(facts.version.bytes)),
                            last_modified: Some(modified(facts.version)),
                            e_tag: Some(ETag::Strong(facts.etag)),
                            storage_class: Some(ObjectStorageClass::from_static(
                                ObjectStorageClass::STANDARD,
                            )),
                            ..Object::default()
                        });
                    }
                }
            }
            Ok(listing)
        })
        .await
    }
}

#[derive(Debug, Default)]
struct Listing {
    objects: Vec<Object>,
    groups: Vec<CommonPrefix>,
    next: Option<After>,
}

/// With `encoding-type=url`, XML that cannot carry a key carries it percent-encoded.
fn encode(text: String, url: bool) -> String {
    if !url {
        return text;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn wants_url(encoding: Option<&EncodingType>) -> S3Result<bool> {
    match encoding.map(EncodingType::as_str) {
        None => Ok(false),
        Some(EncodingType::URL) => Ok(true),
        Some(other) => Err(refuse(
            S3ErrorCode::InvalidArgument,
            format!("`{other}` is not an encoding type; the only one is `url`"),
        )),
    }
}

fn max_keys(asked: Option<i32>) -> S3Result<usize> {
    usize::try_from(asked.unwrap_or(1000))
        .map(|n| n.min(1000))
        .map_err(|_| refuse(S3ErrorCode::InvalidArgument, "max-keys must not be negative"))
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        Ok(S3Response::new(objects::put(&self.store, request).await?))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        Ok(S3Response::new(objects::get(&self.store, request.input).await?))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        Ok(S3Response::new(objects::head(&self.store, request.input).await?))
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        Ok(S3Response::new(objects::copy(&self.store, request.input).await?))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let conditions = Conditions { if_match: input.if_match, if_none_match: None };
        self.store.delete(&input.bucket, &input.key, &conditions).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        self.store.bucket(&bucket)?;
        if delete.objects.len() > 1000 {
            return Err(refuse(S3ErrorCode::MalformedXML, "at most 1000 objects at once"));
        }
        let quiet = delete.quiet.unwrap_or_default();
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in delete.objects {
            let key = object.key;
            let conditions =
                Conditions { if_match: object.e_tag.map(ETagCondition::ETag), if_none_match: None };
            match self.store.delete(&bucket, &key, &conditions).await {
                Ok(()) if quiet => {}
                Ok(()) => {
                    deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() })
                }
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(key),
                    message: error.message().map(str::to_owned),
                    ..Error::default()
                }),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let url = wants_url(input.encoding_type.as_ref())?;
        let max_keys = max_keys(input.max_keys)?;
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => After::from_token(token).ok_or_else(|| {
                refuse(
                    S3ErrorCode::InvalidArgument,
                    "the continuation token is not one of this store",
                )
            })?,
            (None, Some(start)) => After { key: start.clone(), group: false },
            (None, None) => After::default(),
        };
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after,
            max_keys,
        };
        let listing = self.list(input.bucket.clone(), query, url).await?;
        let output = ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(encode(input.prefix.unwrap_or_default(), url)),
            delimiter: input.delimiter.map(|text| encode(text, url)),
            start_after: input.start_after.map(|text| encode(text, url)),
            continuation_token: input.continuation_token,
            encoding_type: input.encoding_type,
            max_keys: i32::try_from(max_keys).ok(),
            key_count: i32::try_from(listing.objects.len() + listing.groups.len()).ok(),
            is_truncated: Some(listing.next.is_some()),
            next_continuation_token: listing.next.map(|next| next.token()),
            contents: Some(listing.objects),
            common_prefixes: Some(listing.groups),
            ..ListObjectsV2Output::default()
        };
        Ok(S3Response::new(output))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let url = wants_url(input.encoding_type.as_ref())?;
        let max_keys = max_keys(input.max_keys)?;
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let marker = input.marker.clone().unwrap_or_default();
        // This older form has no opaque token: a marker that ends in the delimiter is a group of the page before.
        let after =
            After { group: !delimiter.is_empty() && marker.ends_with(&delimiter), key: marker };
        let query =
            Query { prefix: input.prefix.clone().unwrap_or_default(), delimiter, after, max_keys };
        let listing = self.list(input.bucket.clone(), query, url).await?;
        let output = ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encode(input.prefix.unwrap_or_default(), url)),
            delimiter: input.delimiter.map(|text| encode(text, url)),
            marker: Some(encode(input.marker.unwrap_or_default(), url)),
            encoding_type: input.encoding_type,
            max_keys: i32::try_from(max_keys).ok(),
            is_truncated: Some(listing.next.is_some()),
            next_marker: listing.next.map(|next| encode(next.key, url)),
            contents: Some(listing.objects),
            common_prefixes: Some(listing.groups),
            ..ListObjectsOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn list_buckets(
        &self,
        _: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let store = self.store.clone();
        let buckets = blocking(move || {
            let mut buckets = Vec::new();
            for entry in
                std::fs::read_dir(store.root()).map_err(disk("list the buckets"))?.flatten()
            {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if store.bucket(&name).is_ok() {
                    let made = entry
                        .metadata()
                        .and_then(|metadata| metadata.modified())
                        .unwrap_or(SystemTime::UNIX_EPOCH);
                    buckets.push(Bucket {
                        name: Some(name),
                        creation_date: Some(Timestamp::from(made)),
                        ..Bucket::default()
                    });
                }
            }
            buckets.sort_by(|a, b| a.name.cmp(&b.name));
            Ok::<_, s3s::S3Error>(buckets)
        })
        .await?;
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets),
            ..ListBucketsOutput::default()
        }))
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let store = self.store.clone();
        let bucket = request.input.bucket;
        let folder = keys::bucket_folder(store.root(), &bucket)?;
        blocking(move || match std::fs::create_dir(&folder) {
            Ok(()) => objects::sync_folder(store.root()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(refuse(
                S3ErrorCode::BucketAlreadyOwnedByYou,
                "a bucket of this name already exists, and it is yours",
            )),
            Err(error) => Err(disk("make a bucket")(error)),
        })
        .await?;
        Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{bucket}")) }))
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let store = self.store.clone();
        let bucket = request.input.bucket;
        blocking(move || {
            let folder = store.bucket(&bucket)?;
            if !listing::is_empty(&folder).map_err(disk("list a bucket"))?
                || !remove_folders(&folder)
            {
                return Err(refuse(
                    S3ErrorCode::BucketNotEmpty,
                    "there are still objects, or other files, in the bucket",
                ));
            }
            store.sidecars(&bucket).remove_all();
            objects::sync_folder(store.root())
        })
        .await?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.store.bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.store.bucket(&request.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let mut output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            checksum_algorithm: input.checksum_algorithm.clone(),
            checksum_type: input.checksum_type.clone(),
            ..CreateMultipartUploadOutput::default()
        };
        output.upload_id = Some(multipart::create(&self.store, input).await?);
        Ok(S3Response::new(output))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        Ok(S3Response::new(multipart::part(&self.store, request).await?))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        Ok(S3Response::new(multipart::complete(&self.store, request.input).await?))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        multipart::abort(&self.store, input.bucket, input.key, input.upload_id).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        Ok(S3Response::new(multipart::list_parts(&self.store, request.input).await?))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        Ok(S3Response::new(multipart::list(&self.store, request.input).await?))
    }
}

/// Removes a tree of folders that hold nothing; says whether all are gone.
fn remove_folders(folder: &std::path::Path) -> bool {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folders(&entry.path());
        }
    }
    std::fs::remove_dir(folder).is_ok()
}
