//! The embedded S3 server: the protocol is `s3s`, the storage is plain files.
//!
//! Promise: an object is the file `<root>/<bucket>/<key>`, and a file put there by hand is an object; bytes are verified and on disk before they are visible;
//! of many `If-None-Match: *` writers exactly one wins; no key leaves its bucket; a kill at any moment leaves whole objects only.
//!
//! Main path: a request is checked by `s3s`, `receive` stages and verifies the bytes, `disk` publishes them.
//!
//! What is ours besides the objects (staged bytes, metadata, uploads, credentials) is kept in `<root>/.nightshift/`, which is not a bucket name.

mod backend;
mod conditions;
mod disk;
mod error;
mod keys;
mod listing;
mod multipart;
mod objects;
mod receive;
mod sidecar;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::{Error, files};
use backend::Backend;
use disk::Disk;

/// How long requests in flight may take after [`S3Server::stop`].
const GRACE: Duration = Duration::from_secs(5);

/// A running S3 server: a task of the current runtime. Dropping it cuts all connections; [`S3Server::stop`] lets requests in flight end.
#[derive(Debug)]
pub struct S3Server {
    addr: SocketAddr,
    access_key: String,
    secret_key: String,
    quit: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl S3Server {
    /// Serves the buckets below `root` on `addr`; by default on 127.0.0.1, on the port used last time if it is free.
    ///
    /// The key pair is drawn at the first start and kept in `<root>/.nightshift/credentials` (mode 0600).
    ///
    /// # Errors
    /// [`Error::NotLoopback`], [`Error::AlreadyRunning`], [`Error::Io`].
    pub async fn start(root: &Path, addr: Option<SocketAddr>) -> Result<Self, Error> {
        if let Some(addr) = addr.filter(|addr| !addr.ip().is_loopback()) {
            return Err(Error::NotLoopback { addr });
        }
        files::make_folder(root)?;
        let root = root.canonicalize().map_err(Error::io(format!("find {}", root.display())))?;
        let own = root.join(keys::OWN_FOLDER);
        files::make_folder(&own)?;
        let lock = files::lock(&own)?;
        let pair = files::secret(&own.join("credentials"), 60)?;
        let (access_key, secret_key) = pair.split_at(20);
        let disk = Disk::open(&root)?;
        let listener = listen(&own, addr).await?;
        let addr = listener.local_addr().map_err(Error::io("read the address of a socket"))?;
        // Only a hint for the next start, so a failure costs nothing.
        let _ = files::write_private(&own.join("port"), addr.port().to_string().as_bytes());

        let mut builder = S3ServiceBuilder::new(Backend::new(disk));
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key.to_owned()));
        let (quit, quitting) = oneshot::channel();
        let task = tokio::spawn(serve(listener, builder.build(), quitting, lock));
        Ok(Self {
            addr,
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            quit: Some(quit),
            task,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Address of the server.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Access key id.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Secret access key.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// Stops accepting, gives requests in flight five seconds to end, and returns when all connections are closed.
    pub async fn stop(mut self) {
        if let Some(quit) = self.quit.take() {
            let _ = quit.send(());
        }
        // The task cannot fail, and a panic in it has been printed already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(own: &Path, addr: Option<SocketAddr>) -> Result<TcpListener, Error> {
    if let Some(addr) = addr {
        return TcpListener::bind(addr).await.map_err(Error::io(format!("listen on {addr}")));
    }
    let last = std::fs::read_to_string(own.join("port"))
        .ok()
        .and_then(|text| text.trim().parse::<u16>().ok());
    if let Some(port) = last
        && let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::io("listen on 127.0.0.1"))
}

/// Accepts connections until told to quit. Holds the folder's lock as long as it runs.
async fn serve(
    listener: TcpListener,
    service: S3Service,
    mut quitting: oneshot::Receiver<()>,
    _lock: File,
) {
    let http = Builder::new(TokioExecutor::new()).http1_only();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Also when the sender is gone: then the server was dropped.
            _ = &mut quitting => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let connection = http.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
                    let watched = graceful.watch(connection);
                    connections.spawn(async move {
                        if let Err(error) = watched.await {
                            tracing::debug!(%error, "a connection to the local object store broke");
                        }
                    });
                }
                Err(error) => {
                    // Out of file handles, most likely: connections that end free some.
                    tracing::warn!(%error, "the local object store could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    connections.shutdown().await;
}
