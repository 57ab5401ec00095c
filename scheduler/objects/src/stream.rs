//! Reading an object of any size.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use crate::retry::{Budget, Failure};
use crate::{Error, Objects, S3Uri};

/// An object being read.
#[derive(Debug)]
pub struct ObjectStream {
    /// ETag, without quotes.
    pub etag: String,
    /// Size of the whole object.
    pub bytes: u64,
    objects: Objects,
    uri: S3Uri,
    body: Option<ByteStream>,
    read: u64,
}

impl Objects {
    /// Reads an object of any size, chunk by chunk, if `if_match` is given only with that ETag.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn get_stream(
        &self,
        uri: &S3Uri,
        if_match: Option<&str>,
    ) -> Result<ObjectStream, Error> {
        let mut budget = Budget::new(uri, self.patience());
        loop {
            match self.open(uri, if_match, None).await {
                Ok(opened) => {
                    return Ok(ObjectStream {
                        etag: opened.etag,
                        bytes: opened.bytes,
                        objects: self.clone(),
                        uri: uri.clone(),
                        body: Some(opened.body),
                        read: 0,
                    });
                }
                Err(failure) => budget.spend(failure).await?,
            }
        }
    }
}

impl ObjectStream {
    /// The next bytes; `None` at the end. A broken connection is taken up again where it broke, if the object is still the same.
    ///
    /// # Errors
    /// [`Error::Changed`] or [`Error::NotFound`] when it is not the same any more, [`Error::Unavailable`] when the endpoint stays away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let uri = self.uri.clone();
        let mut budget = Budget::new(&uri, self.objects.patience());
        loop {
            match self.try_next(self.objects.attempt_timeout()).await {
                Ok(chunk) => return Ok(chunk),
                Err(failure) => {
                    self.body = None;
                    budget.spend(failure).await?;
                }
            }
        }
    }

    async fn try_next(&mut self, limit: Duration) -> Result<Option<Bytes>, Failure> {
        if self.read == self.bytes {
            return Ok(None);
        }
        if self.body.is_none() {
            let again =
                self.objects.open(&self.uri, Some(&self.etag), Some(self.read..self.bytes)).await?;
            // An endpoint that heeds no ranges sends the whole object again.
            if again.bytes != self.bytes - self.read {
                return Err(Failure::broken("the endpoint does not take up a broken download"));
            }
            self.body = Some(again.body);
        }
        let body = self.body.as_mut().expect("opened above");
        match tokio::time::timeout(limit, body.next()).await {
            Ok(Some(Ok(chunk))) => {
                self.read += chunk.len() as u64;
                if self.read > self.bytes {
                    return Err(Failure::Final(Error::Changed {
                        uri: self.uri.clone(),
                        wanted: self.etag.clone(),
                    }));
                }
                Ok(Some(chunk))
            }
            Ok(Some(Err(error))) => Err(Failure::broken(error.to_string())),
            Ok(None) => Err(Failure::broken(format!(
                "the body ended after {} of {} bytes",
                self.read, self.bytes
            ))),
            Err(_) => Err(Failure::broken("the body stalled")),
        }
    }
}
