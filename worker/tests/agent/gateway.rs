//! A gateway in front of the object store that refuses some requests for as long as a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is refused, and how.
#[derive(Clone)]
struct Rule {
    method: &'static str,
    /// Part of the path.
    path: String,
    answer: String,
    refused: u64,
}

/// Answers by its rules, else passes on, one request a connection.
pub(crate) struct Gateway {
    addr: SocketAddr,
    rules: Arc<Mutex<Vec<Rule>>>,
    task: JoinHandle<()>,
}

impl Gateway {
    pub(crate) async fn new(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let rules = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&rules);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let rules = Arc::clone(&shared);
                tokio::spawn(async move { drop(serve(client, upstream, &rules).await) });
            }
        });
        Self { addr, rules, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Refuses requests of this method whose path contains `path`.
    pub(crate) fn refuse(&self, method: &'static str, path: &str, status: &str, code: &str) {
        let body = format!("<Error><Code>{code}</Code><Message>not now</Message></Error>");
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let rule = Rule { method, path: path.to_owned(), answer, refused: 0 };
        self.rules.lock().unwrap().push(rule);
    }

    /// How often requests with this part of a path were refused.
    pub(crate) fn refused(&self, path: &str) -> u64 {
        let rules = self.rules.lock().unwrap();
        rules.iter().filter(|rule| rule.path == path).map(|rule| rule.refused).sum()
    }

    /// Ends the refusals of a path.
    pub(crate) fn heal(&self, path: &str) {
        self.rules.lock().unwrap().retain(|rule| rule.path != path);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    rules: &Mutex<Vec<Rule>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let end = loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    while request.len() < end + 4 + length.unwrap_or(0) {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let answer = rules.lock().unwrap().iter_mut().find_map(|rule| {
        let line = head.lines().next().unwrap_or_default();
        (line.starts_with(rule.method) && line.contains(&rule.path)).then(|| {
            rule.refused += 1;
            rule.answer.clone()
        })
    });
    if let Some(answer) = answer {
        return client.write_all(answer.as_bytes()).await;
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&request[..end]).await?;
    server.write_all(b"\r\nconnection: close").await?;
    server.write_all(&request[end..]).await?;
    tokio::io::copy(&mut server, &mut client).await?;
    client.shutdown().await
}
