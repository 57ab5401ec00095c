//! Reading an object of any size.

use bytes::Bytes;

use crate::Error;

/// An object being read.
#[derive(Debug)]
pub struct ObjectStream {
    /// ETag, without quotes.
    pub etag: String,
    /// Size of the whole object.
    pub bytes: u64,
}

impl ObjectStream {
    /// The next bytes; none at the end. A broken connection is taken up again where it broke, if the object is still the same.
    ///
    /// # Errors
    /// [`Error::Changed`], [`Error::Unavailable`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(None)
    }
}
