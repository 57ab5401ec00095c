//! What an endpoint can be trusted with, found out by trying.

use std::time::Duration;

use bytes::Bytes;

use aws_sdk_s3::primitives::ByteStream;

use crate::retry::attempt;
use crate::{ChecksumMode, Error, Objects, Put, PutOutcome, S3Uri};

/// Size of the body that is streamed: several chunks.
const STREAMED_BYTES: usize = 200_000;

/// How an endpoint treats `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalPut {
    /// The second writer gets 412 and the object is untouched.
    Honoured,
    /// The second writer gets 200 and replaces the object: only the database keeps writers apart.
    Ignored,
    /// The endpoint does not take such requests at all.
    Refused,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `If-None-Match: *` on PUT.
    pub conditional_put: ConditionalPut,
    /// Whether GET with the right `If-Match` is served and with a wrong one refused.
    pub if_match: bool,
    /// Whether a streamed body with a signed trailer arrives unharmed.
    pub streamed_ok: bool,
    /// Whether a ranged GET returns that range.
    pub ranges: bool,
    /// Whether keys with spaces, `+`, `%` and letters beyond ASCII are stored and listed as written.
    pub odd_keys: bool,
    /// The mode that this connection uses from now on; never `Auto`.
    pub checksum_mode: ChecksumMode,
    /// What a user should know, one sentence each.
    pub notes: Vec<String>,
}

impl Objects {
    /// Tries the endpoint below `scratch` (a prefix that we may write to), deletes what it wrote, and reports. The connection then uses what it found,
    /// and so do its clones.
    ///
    /// # Errors
    /// When not even a plain write and read back works: [`Error::Denied`], [`Error::NotFound`], [`Error::Refused`], [`Error::Unavailable`].
    pub async fn probe(&self, scratch: &S3Uri) -> Result<Capabilities, Error> {
        // Probes of several workers run at the same time.
        let place = scratch.join(&format!("probe-{:016x}", rand::random::<u64>()));
        let mut written = Vec::new();
        let found = self.try_all(&place, &mut written).await;
        for uri in written {
            // What cannot be deleted is named, and does not hide what was found.
            if let Err(error) = self.delete(&uri).await {
                tracing::warn!(%error, "the probe could not delete what it wrote");
            }
        }
        found
    }

    async fn try_all(
        &self,
        place: &S3Uri,
        written: &mut Vec<S3Uri>,
    ) -> Result<Capabilities, Error> {
        let mut notes = Vec::new();
        let plain = place.join("plain");
        written.push(plain.clone());
        let body = pattern(1000);
        self.put(&plain, body.clone(), &Put::default()).await?;
        if self.get(&plain, 10_000, None).await?.body != body {
            return Err(Error::Refused {
                uri: plain,
                status: 200,
                code: "Corrupted".to_owned(),
                detail: "a plain object does not read back as written".to_owned(),
            });
        }
        let conditional_put =
            self.try_conditional(&place.join("once"), written, &mut notes).await?;
        let streamed_ok = self.try_streamed(&place.join("streamed"), written, &mut notes).await;
        let if_match = self.try_if_match(&plain, &mut notes).await?;
        let ranges = self.try_range(&plain, &body).await;
        if !ranges {
            notes.push("A ranged GET does not return the range: an interrupted download cannot be resumed.".to_owned());
        }
        let odd_keys = self.try_odd_key(place, written, &mut notes).await;
        self.adopt(streamed_ok);
        let checksum_mode = self.checksum_mode();
        if checksum_mode == ChecksumMode::WhenSupported && !streamed_ok {
            notes.push("The checksum mode was set to when_supported, but streamed bodies arrive damaged: use when_required.".to_owned());
        }
        Ok(Capabilities {
            conditional_put,
            if_match,
            streamed_ok,
            ranges,
            odd_keys,
            checksum_mode,
            notes,
        })
    }

    async fn try_conditional(
        &self,
        uri: &S3Uri,
        written: &mut Vec<S3Uri>,
        notes: &mut Vec<String>,
    ) -> Result<ConditionalPut, Error> {
        written.push(uri.clone());
        let once = Put { create_only: true, ..Put::default() };
        let first = match self.put(uri, Bytes::from_static(b"first"), &once).await {
            Ok(outcome) => outcome,
            Err(Error::Refused { code, .. }) => {
                notes.push(format!(
                    "If-None-Match is refused ({code}): only the database keeps writers apart."
                ));
                return Ok(ConditionalPut::Refused);
            }
            Err(error) => return Err(error),
        };
        let second = self.put(uri, Bytes::from_static(b"second"), &once).await?;
        let kept = self.get(uri, 100, None).await?.body;
        if first == PutOutcome::Created && second == PutOutcome::AlreadyExists && kept == "first" {
            return Ok(ConditionalPut::Honoured);
        }
        notes.push("If-None-Match is ignored and an existing object is replaced: only the database keeps writers apart.".to_owned());
        Ok(ConditionalPut::Ignored)
    }

    /// Streams a body from a file, as the SDK does it by default: over plain HTTP with a signed trailer, which some peers store inside the object.
    async fn try_streamed(
        &self,
        uri: &S3Uri,
        written: &mut Vec<S3Uri>,
        notes: &mut Vec<String>,
    ) -> bool {
        written.push(uri.clone());
        let body = pattern(STREAMED_BYTES);
        let stored = match self.stream_once(uri, &body).await {
            Ok(()) => self.get(uri, 4 * STREAMED_BYTES as u64, None).await.map(|got| got.body),
            Err(error) => Err(error),
        };
        match stored {
            Ok(stored) if stored == body => true,
            Ok(stored) => {
                notes.push(format!("A streamed upload of {} bytes is stored as {} other bytes: checksum trailers stay off.", body.len(), stored.len()));
                false
            }
            Err(error) => {
                notes.push(format!(
                    "Streamed uploads with checksum trailers fail, so they stay off ({error})."
                ));
                false
            }
        }
    }

    async fn stream_once(&self, uri: &S3Uri, body: &Bytes) -> Result<(), Error> {
        let unusable = |error: std::io::Error| Error::Invalid {
            detail: format!("cannot create a temporary file for a streamed upload: {error}"),
        };
        let file = tempfile::NamedTempFile::new().map_err(unusable)?;
        std::fs::write(file.path(), body).map_err(unusable)?;
        let stream = ByteStream::from_path(file.path())
            .await
            .map_err(|error| unusable(std::io::Error::other(error)))?;
        let request = self
            .client(ChecksumMode::WhenSupported)
            .put_object()
            .bucket(&uri.bucket)
            .key(&uri.key)
            .body(stream);
        match attempt(uri, self.attempt_timeout(), request.send()).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.into_error(uri, 1, Duration::ZERO)),
        }
    }

    async fn try_if_match(&self, uri: &S3Uri, notes: &mut Vec<String>) -> Result<bool, Error> {
        let etag = self.get(uri, 10_000, None).await?.etag;
        let right = self.get(uri, 10_000, Some(&etag)).await;
        let wrong = self.get(uri, 10_000, Some("0123456789abcdef0123456789abcdef")).await;
        if right.is_ok() && matches!(wrong, Err(Error::Changed { .. })) {
            return Ok(true);
        }
        let what = if right.is_ok() {
            "is ignored: a changed input is noticed only if its size differs"
        } else {
            "refuses the right ETag too"
        };
        notes.push(format!("If-Match on GET {what}."));
        Ok(false)
    }

    async fn try_range(&self, uri: &S3Uri, body: &Bytes) -> bool {
        let Ok(part) = self.open(uri, None, Some(100..200)).await else {
            return false;
        };
        part.body.collect().await.is_ok_and(|got| got.into_bytes() == body.slice(100..200))
    }

    async fn try_odd_key(
        &self,
        place: &S3Uri,
        written: &mut Vec<S3Uri>,
        notes: &mut Vec<String>,
    ) -> bool {
        let uri = place.join("odd/a b+c%20d é.txt");
        written.push(uri.clone());
        let listed = match self.put(&uri, Bytes::from_static(b"odd"), &Put::default()).await {
            Ok(_) => self.list_page(&place.join("odd/"), None).await.map(|page| page.objects),
            Err(error) => Err(error),
        };
        let good =
            listed.as_ref().is_ok_and(|objects| objects.len() == 1 && objects[0].key == uri.key);
        if !good {
            notes.push("Keys with spaces, `+`, `%` or letters beyond ASCII are not listed as they were written: avoid them in names.".to_owned());
        }
        good
    }
}

/// Bytes without repetition that a chunk's framing could hide in.
fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|i| u8::try_from((i * 31 + i / 251) % 256).expect("below 256")).collect()
}
