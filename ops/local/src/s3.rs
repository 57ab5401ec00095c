//! The embedded S3 server.

use std::net::SocketAddr;
use std::path::Path;

use crate::Error;

/// A running S3 server.
#[derive(Debug)]
pub struct S3Server {
    endpoint: String,
    access_key: String,
    secret_key: String,
}

impl S3Server {
    /// Serves the buckets below `root`.
    ///
    /// # Errors
    /// [`Error::NotLoopback`], [`Error::AlreadyRunning`], [`Error::Io`].
    pub async fn start(root: &Path, addr: Option<SocketAddr>) -> Result<Self, Error> {
        if let Some(addr) = addr.filter(|addr| !addr.ip().is_loopback()) {
            return Err(Error::NotLoopback { addr });
        }
        Err(Error::io(format!("serve {}", root.display()))(
            std::io::ErrorKind::Unsupported.into(),
        ))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Access key id.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Secret access key.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// Stops serving.
    pub async fn stop(self) {}
}
