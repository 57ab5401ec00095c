//! The client.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    retry::RetryConfig,
};
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, ChecksumMode as Reading, CreateBucketConfiguration,
};
use aws_smithy_http_client::tls;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::object::{Got, ObjectInfo, Put, PutOutcome, SHA256_KEY, hex};
use crate::retry::{Budget, Failure, Later, Patience, attempt};
use crate::wire::{check_metadata, is_ours, lowercase, unquoted, unsigned};
use crate::{ChecksumMode, Error, S3Uri, StoreConfig};

/// A connection to one endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: StoreConfig,
    /// Adds no checksums of its own: works everywhere.
    plain: Client,
    /// The SDK's default: streamed bodies carry signed trailers.
    trailers: Client,
    use_trailers: AtomicBool,
}

/// An answer to GET whose body is still to be read.
pub(crate) struct Opened {
    pub(crate) body: ByteStream,
    pub(crate) etag: String,
    pub(crate) bytes: u64,
    metadata: BTreeMap<String, String>,
}

impl Objects {
    /// Prepares a client; no request is made yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the endpoint is not a URL.
    pub async fn connect(config: StoreConfig) -> Result<Self, Error> {
        if let Some(endpoint) = &config.endpoint
            && !["http://", "https://"]
                .iter()
                .any(|scheme| endpoint.len() > scheme.len() && endpoint.starts_with(scheme))
        {
            return Err(Error::Invalid {
                detail: format!(
                    "`{endpoint}` is not the URL of an S3 endpoint; write http://host:port or https://host"
                ),
            });
        }
        let use_trailers = match config.checksum_mode {
            ChecksumMode::Auto => config.is_aws(),
            ChecksumMode::WhenSupported => true,
            ChecksumMode::WhenRequired => false,
        };
        let plain = sdk_config(&config);
        let trailers = plain
            .to_builder()
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            .response_checksum_validation(ResponseChecksumValidation::WhenSupported)
            .build();
        let inner = Inner {
            plain: Client::from_conf(plain),
            trailers: Client::from_conf(trailers),
            use_trailers: AtomicBool::new(use_trailers),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The mode in use: the one that was set, or the one that [`Objects::probe`] found. Never `Auto`.
    pub fn checksum_mode(&self) -> ChecksumMode {
        if self.inner.use_trailers.load(Ordering::Relaxed) {
            ChecksumMode::WhenSupported
        } else {
            ChecksumMode::WhenRequired
        }
    }

    /// Takes over what a probe found, unless the mode was set by hand.
    pub(crate) fn adopt(&self, streamed_ok: bool) {
        if self.inner.config.checksum_mode == ChecksumMode::Auto {
            self.inner.use_trailers.store(streamed_ok, Ordering::Relaxed);
        }
    }

    pub(crate) fn client(&self, mode: ChecksumMode) -> &Client {
        if mode == ChecksumMode::WhenSupported { &self.inner.trailers } else { &self.inner.plain }
    }

    pub(crate) fn current(&self) -> &Client {
        self.client(self.checksum_mode())
    }

    pub(crate) fn patience(&self) -> Patience {
        let StoreConfig { retry_budget, refusal_patience, .. } = self.inner.config;
        Patience { budget: retry_budget, refusals: refusal_patience }
    }

    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.inner.config.attempt_timeout
    }

    /// Time for an attempt that sends this many bytes: slower than 256 KiB/s counts as broken.
    fn sending_timeout(&self, bytes: usize) -> Duration {
        self.attempt_timeout() + Duration::from_secs((bytes >> 18) as u64)
    }

    /// Writes an object, with its sha256 as checksum and, unless set, as metadata [`SHA256_KEY`].
    ///
    /// When an attempt ended without an answer, the object is looked up before anything is sent again: if it has our sha256, it is ours.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NotFound`] (no such bucket), [`Error::Refused`], [`Error::Invalid`], [`Error::Unavailable`].
    pub async fn put(&self, uri: &S3Uri, body: Bytes, how: &Put) -> Result<PutOutcome, Error> {
        let sum = Sha256::digest(&body);
        let sha256 = hex(&sum);
        let mut metadata: HashMap<String, String> = how.metadata.clone().into_iter().collect();
        check_metadata(&metadata)?;
        metadata.entry(SHA256_KEY.to_owned()).or_insert_with(|| sha256.clone());
        let mut budget = Budget::new(uri, self.patience());
        let mut unknown = false;
        loop {
            let request = self
                .current()
                .put_object()
                .bucket(&uri.bucket)
                .key(&uri.key)
                .content_type(if how.content_type.is_empty() {
                    "application/octet-stream"
                } else {
                    &how.content_type
                })
                .set_metadata(Some(metadata.clone()))
                .checksum_sha256(STANDARD.encode(sum))
                .set_if_none_match(how.create_only.then(|| "*".to_owned()))
                .body(ByteStream::from(body.clone()));
            let failure = match attempt(uri, self.sending_timeout(body.len()), request.send()).await
            {
                Ok(answer) => match stored(&answer, &sum) {
                    Ok(()) => return Ok(PutOutcome::Created),
                    Err(failure) => failure,
                },
                Err(Failure::Condition) if how.create_only => {
                    // Perhaps it is our own earlier attempt, whose answer was lost.
                    let ours = unknown && self.holds(uri, &sha256).await?;
                    return Ok(if ours { PutOutcome::Created } else { PutOutcome::AlreadyExists });
                }
                Err(failure) => failure,
            };
            let this_unknown = matches!(failure, Failure::Later(Later { unknown: true, .. }));
            budget.spend(failure).await?;
            unknown |= this_unknown;
            // A miss proves nothing: the write may still be on its way. The repetition is safe, since it carries the same bytes and condition.
            if this_unknown
                && self
                    .look(uri)
                    .await
                    .is_ok_and(|found| found.is_some_and(|info| is_ours(&info, &sha256)))
            {
                return Ok(PutOutcome::Created);
            }
        }
    }

    /// Whether the object has this sha256.
    async fn holds(&self, uri: &S3Uri, sha256: &str) -> Result<bool, Error> {
        Ok(self.head(uri).await?.is_some_and(|info| is_ours(&info, sha256)))
    }

    /// Looks at an object; `None` if it does not exist (or its bucket does not: the answer to HEAD does not tell).
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn head(&self, uri: &S3Uri) -> Result<Option<ObjectInfo>, Error> {
        let mut budget = Budget::new(uri, self.patience());
        loop {
            let failure = match self.look(uri).await {
                Ok(Some(info)) if info.etag.is_empty() => no_etag(),
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            budget.spend(failure).await?;
        }
    }

    /// One attempt of [`Objects::head`].
    async fn look(&self, uri: &S3Uri) -> Result<Option<ObjectInfo>, Failure> {
        let request = self
            .current()
            .head_object()
            .bucket(&uri.bucket)
            .key(&uri.key)
            .checksum_mode(Reading::Enabled);
        let found = match attempt(uri, self.attempt_timeout(), request.send()).await {
            Ok(found) => found,
            // A bare 404 is the whole answer to HEAD.
            Err(failure) if failure.is_not_found() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        // `abc=-2` is a sum over the sums of two parts, which does not describe the bytes.
        let sha256 = found
            .checksum_sha256()
            .and_then(|sum| STANDARD.decode(sum).ok())
            .filter(|sum| sum.len() == 32);
        Ok(Some(ObjectInfo {
            key: uri.key.clone(),
            bytes: unsigned(found.content_length()),
            etag: unquoted(found.e_tag()),
            content_type: found.content_type().unwrap_or_default().to_owned(),
            sha256: sha256.map(|sum| hex(&sum)),
            metadata: lowercase(found.metadata),
        }))
    }

    /// Reads an object of at most `limit_bytes`, if `if_match` (an ETag without quotes) is given only with that ETag.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Changed`], [`Error::TooLarge`], [`Error::Denied`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn get(
        &self,
        uri: &S3Uri,
        limit_bytes: u64,
        if_match: Option<&str>,
    ) -> Result<Got, Error> {
        let mut budget = Budget::new(uri, self.patience());
        loop {
            match self.try_get(uri, limit_bytes, if_match).await {
                Ok(got) => return Ok(got),
                Err(failure) => budget.spend(failure).await?,
            }
        }
    }

    async fn try_get(
        &self,
        uri: &S3Uri,
        limit_bytes: u64,
        if_match: Option<&str>,
    ) -> Result<Got, Failure> {
        let Opened { mut body, etag, bytes, metadata } = self.open(uri, if_match, None).await?;
        let too_large =
            |bytes| Failure::Final(Error::TooLarge { uri: uri.clone(), bytes, limit_bytes });
        if bytes > limit_bytes {
            return Err(too_large(bytes));
        }
        let mut whole = BytesMut::new();
        loop {
            match tokio::time::timeout(self.attempt_timeout(), body.next()).await {
                Ok(Some(Ok(chunk))) => {
                    // The stated size is not trusted either.
                    if (whole.len() + chunk.len()) as u64 > limit_bytes {
                        return Err(too_large((whole.len() + chunk.len()) as u64));
                    }
                    whole.extend_from_slice(&chunk);
                }
                Ok(Some(Err(error))) => {
                    return Err(Failure::broken(format!(
                        "the body was cut off or its checksum does not match: {error}"
                    )));
                }
                Ok(None) if whole.len() as u64 == bytes => {
                    return Ok(Got { body: whole.freeze(), etag, bytes, metadata });
                }
                Ok(None) => {
                    return Err(Failure::broken(format!(
                        "the body ended after {} of {bytes} bytes",
                        whole.len()
                    )));
                }
                Err(_) => return Err(Failure::broken("the body stalled")),
            }
        }
    }

    /// One attempt of GET, up to the first byte of the body.
    pub(crate) async fn open(
        &self,
        uri: &S3Uri,
        if_match: Option<&str>,
        range: Option<Range<u64>>,
    ) -> Result<Opened, Failure> {
        // A listing without ETags leaves nothing to ask for.
        let if_match = if_match.filter(|etag| !etag.is_empty());
        let request = self
            .current()
            .get_object()
            .bucket(&uri.bucket)
            .key(&uri.key)
            .checksum_mode(Reading::Enabled)
            .set_if_match(if_match.map(|etag| format!("\"{etag}\"")))
            .set_range(
                range.map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1))),
            );
        let changed =
            || Error::Changed { uri: uri.clone(), wanted: if_match.unwrap_or_default().to_owned() };
        match attempt(uri, self.attempt_timeout(), request.send()).await {
            Ok(got) if unquoted(got.e_tag()).is_empty() => Err(no_etag()),
            // Not every endpoint heeds the condition.
            Ok(got) if if_match.is_some_and(|wanted| unquoted(got.e_tag()) != wanted) => {
                Err(Failure::refusal(changed()))
            }
            Ok(got) => Ok(Opened {
                etag: unquoted(got.e_tag()),
                bytes: unsigned(got.content_length()),
                metadata: lowercase(got.metadata),
                body: got.body,
            }),
            Err(Failure::Condition) => Err(Failure::Final(changed())),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes an object; one that does not exist counts as deleted.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NotFound`] (no such bucket), [`Error::Refused`], [`Error::Unavailable`].
    pub async fn delete(&self, uri: &S3Uri) -> Result<(), Error> {
        let mut budget = Budget::new(uri, self.patience());
        loop {
            let request = self.current().delete_object().bucket(&uri.bucket).key(&uri.key);
            let failure = match attempt(uri, self.attempt_timeout(), request.send()).await {
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            };
            match budget.spend(failure).await {
                Err(Error::NotFound { hint: None, .. }) => return Ok(()),
                spent => spent?,
            }
        }
    }

    /// Makes a bucket; one that we own already counts as made.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        let uri = S3Uri { bucket: bucket.to_owned(), key: String::new() };
        let region = self
            .inner
            .config
            .region
            .as_deref()
            .filter(|region| *region != "us-east-1" && self.inner.config.is_aws());
        let place = region.map(|region| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let mut budget = Budget::new(&uri, self.patience());
        loop {
            let request = self
                .current()
                .create_bucket()
                .bucket(bucket)
                .set_create_bucket_configuration(place.clone());
            match attempt(&uri, self.attempt_timeout(), request.send()).await {
                Ok(_) => return Ok(()),
                Err(Failure::Final(Error::Refused { code, .. }))
                    if code == "BucketAlreadyOwnedByYou" =>
                {
                    return Ok(());
                }
                Err(failure) => budget.spend(failure).await?,
            }
        }
    }
}

/// Whether the answer to PUT is one of S3: a page of a gateway comes with status 200 too, and has no ETag.
fn stored(answer: &PutObjectOutput, sum: &[u8]) -> Result<(), Failure> {
    if unquoted(answer.e_tag()).is_empty() {
        return Err(no_etag());
    }
    let told = answer.checksum_sha256().and_then(|told| STANDARD.decode(told).ok());
    match told {
        Some(told) if told.len() == sum.len() && told != sum => {
            Err(Failure::broken("the endpoint stored bytes with another checksum"))
        }
        _ => Ok(()),
    }
}

fn no_etag() -> Failure {
    Failure::broken("an answer without an ETag: it is not of an object store")
}

fn sdk_config(config: &StoreConfig) -> aws_sdk_s3::Config {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let mut builder = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(config.region.clone().unwrap_or_else(|| "us-east-1".to_owned())))
        .force_path_style(config.path_style())
        .retry_config(RetryConfig::disabled())
        // Attempts are timed here, by the bytes they move.
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(config.attempt_timeout.min(Duration::from_secs(5)))
                .build(),
        )
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    match (&config.access_key_id, &config.secret_access_key) {
        (Some(key), Some(secret)) => {
            builder = builder.credentials_provider(Credentials::new(
                key,
                secret,
                config.session_token.clone(),
                None,
                "nightshift",
            ));
        }
        _ => builder = builder.allow_no_auth(),
    }
    builder.build()
}
