//! A server of its own for every test, and a proxy that breaks connections on demand.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use bytes::Bytes;
use nightshift_local::S3Server;
use nightshift_objects::{Objects, Put, S3Uri, StoreConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const BUCKET: &str = "pictures";

pub(crate) struct Store {
    pub(crate) server: S3Server,
    pub(crate) objects: Objects,
    pub(crate) sdk: Client,
    pub(crate) folder: tempfile::TempDir,
}

impl Store {
    /// A fresh server with one bucket.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = S3Server::start(folder.path(), None).await.unwrap();
        let objects = Objects::connect(config(&server, &server.endpoint())).await.unwrap();
        objects.create_bucket(BUCKET).await.unwrap();
        let sdk = sdk(&server, &server.endpoint());
        Self { server, objects, sdk, folder }
    }

    /// Where the object of a key lies on disk.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// All files below the root that are no part of the server's own folder.
    pub(crate) fn visible(&self) -> Vec<String> {
        visible(self.folder.path())
    }

    pub(crate) async fn body(&self, key: &str) -> Bytes {
        self.objects.get(&uri(key), 1 << 30, None).await.unwrap().body
    }
}

pub(crate) fn visible(root: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if name == ".nightshift" {
            } else if path.is_dir() {
                folders.push(path);
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn uri(key: &str) -> S3Uri {
    S3Uri { bucket: BUCKET.into(), key: key.into() }
}

pub(crate) fn once() -> Put {
    Put { create_only: true, ..Put::default() }
}

pub(crate) fn config(server: &S3Server, endpoint: &str) -> StoreConfig {
    StoreConfig {
        endpoint: Some(endpoint.to_owned()),
        access_key_id: Some(server.access_key().to_owned()),
        secret_access_key: Some(server.secret_key().to_owned()),
        ..StoreConfig::default()
    }
}

/// The plain SDK with its defaults, retries off.
pub(crate) fn sdk(server: &S3Server, endpoint: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(
            server.access_key(),
            server.secret_key(),
            None,
            None,
            "test",
        ))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// HTTP status and S3 code of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E, aws_sdk_s3::config::http::HttpResponse>>,
) -> (u16, String) {
    match result {
        Err(SdkError::ServiceError(error)) => {
            (error.raw().status().as_u16(), error.err().code().unwrap_or_default().to_owned())
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// What happens to one connection.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The request is passed on and carried out, and the answer is lost.
    LoseAnswer,
    /// The request is not passed on, and this is answered.
    Answer(&'static str),
    /// The first of these byte strings is replaced by the second, which has the same length.
    Flip(&'static [u8], &'static [u8]),
    /// The connection is cut when this many bytes of the answer have passed.
    CutAfter(usize),
}

impl Fault {
    /// An answer with these headers (each ends with CRLF) and this body.
    pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answer(Box::leak(
            format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
                .into_boxed_str(),
        ))
    }

    /// The XML of an S3 error.
    pub(crate) fn refusal(status: &str, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>so be it</Message></Error>");
        Self::answer(status, "content-type: application/xml\r\n", &body)
    }
}

/// A proxy in front of a server: each connection suffers the next fault, and when there is none left, none.
pub(crate) struct Proxy {
    addr: SocketAddr,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn new(upstream: SocketAddr, faults: impl IntoIterator<Item = Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let faults = Arc::new(Mutex::new(faults.into_iter().collect::<VecDeque<_>>()));
        let queue = faults.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let fault = queue.lock().unwrap().pop_front();
                tokio::spawn(async move { suffer(client, upstream, fault).await });
            }
        });
        Self { addr, faults, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How many faults have not happened yet.
    pub(crate) fn left(&self) -> usize {
        self.faults.lock().unwrap().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn suffer(mut client: TcpStream, upstream: SocketAddr, fault: Option<Fault>) {
    if let Some(Fault::Answer(answer)) = fault {
        let mut request = vec![0; 1 << 16];
        let _ = client.read(&mut request).await;
        let _ = client.write_all(answer.as_bytes()).await;
        return;
    }
    let mut server = TcpStream::connect(upstream).await.unwrap();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            if let Some(Fault::Flip(old, new)) = &fault
                && let Some(at) = buffer[..n].windows(old.len()).position(|window| window == *old)
            {
                buffer[at..at + new.len()].copy_from_slice(new);
            }
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 1 << 16];
        let mut passed = 0;
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            match fault {
                Some(Fault::LoseAnswer) => return,
                Some(Fault::CutAfter(limit)) if passed + n > limit => {
                    let _ = to_client.write_all(&buffer[..limit - passed]).await;
                    return;
                }
                _ => {}
            }
            passed += n;
            if to_client.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = up => {}, () = down => {} }
}

pub(crate) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("timed out: {what}"));
}
