//! A proxy before Postgres that reads the protocol: it counts the statements that clients execute, ends a server process right before
//! one of them or swallows its answer, and can make every client deaf to notifications.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Connection as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::Database;

/// What becomes of a statement that is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server process is terminated (`pg_terminate_backend`) before it gets the statement.
    Before,
    /// The statement is carried out, its answer is dropped, and the server process is terminated.
    After,
}

/// A running proxy; connections through it break when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: String,
    superuser: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Statements since the last [`Proxy::cut`] or [`Proxy::count`].
    statements: usize,
    cut: Option<(usize, Cut)>,
    cuts: usize,
    deaf: bool,
    /// Server processes that listen.
    listening: BTreeSet<i32>,
}

impl Shared {
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn terminate(&self, process: i32) -> sqlx::Result<()> {
        let mut superuser = sqlx::PgConnection::connect(&self.superuser).await?;
        sqlx::query("select pg_terminate_backend($1, 5000)")
            .bind(process)
            .execute(&mut superuser)
            .await?;
        superuser.close().await
    }
}

impl Proxy {
    /// A proxy before the server of this database.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let superuser = database.url();
        let server = address(&superuser).to_owned();
        let shared = Arc::new(Shared { server, superuser, state: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, accepting }
    }

    /// The url of a database, through this proxy.
    #[must_use]
    pub fn through(&self, url: &str) -> String {
        url.replacen(address(url), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// Begins to count statements at zero, without cutting any.
    pub fn count(&self) {
        self.shared.state(|state| (state.statements, state.cut) = (0, None));
    }

    /// Statements since then.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.shared.state(|state| state.statements)
    }

    /// Cuts the statement with this number (from 0, counted from now).
    pub fn cut(&self, statement: usize, how: Cut) {
        self.shared.state(|state| (state.statements, state.cut) = (0, Some((statement, how))));
    }

    /// How many statements were cut.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.shared.state(|state| state.cuts)
    }

    /// From now on nobody can listen: who does is cut off, and whoever begins to is cut off too.
    ///
    /// # Panics
    /// When the server cannot be asked.
    pub async fn deafen(&self) {
        let listening = self.shared.state(|state| {
            state.deaf = true;
            std::mem::take(&mut state.listening)
        });
        for process in listening {
            self.shared.terminate(process).await.expect("the server ends the process");
        }
    }

    /// Connections that listen now.
    #[must_use]
    pub fn listening(&self) -> usize {
        self.shared.state(|state| state.listening.len())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// `host:port` of a url.
pub(crate) fn address(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let after_login = after_scheme.rsplit('@').next().unwrap_or(after_scheme);
    after_login.split('/').next().unwrap_or(after_login)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // Whatever breaks ends both connections: that is what clients must bear.
            let _ended = serve(client, &shared).await;
        });
    }
}

/// What the two directions of a connection tell each other.
#[derive(Default)]
struct Link {
    process: Mutex<i32>,
    /// The answer of the statement that is carried out now is to be dropped.
    swallow: Mutex<bool>,
}

async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(&shared.server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((client_read, client_write), (server_read, server_write)) =
        (client.into_split(), server.into_split());
    let link = Link::default();
    tokio::select! {
        ended = requests(client_read, server_write, shared, &link) => ended,
        ended = answers(server_read, client_write, shared, &link) => ended,
    }?;
    let process = *lock(&link.process);
    shared.state(|state| state.listening.remove(&process));
    Ok(())
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From the client to the server. The first messages have no type: a request for TLS, then the start.
async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    link: &Link,
) -> io::Result<()> {
    const TLS_REQUEST: [u8; 4] = 80_877_103_i32.to_be_bytes();
    loop {
        let start = message(&mut client, 0).await?;
        server.write_all(&start).await?;
        if start[4..] != TLS_REQUEST {
            break;
        }
    }
    let mut statement = String::new();
    loop {
        let request = message(&mut client, 1).await?;
        let executes = match request[0] {
            b'P' | b'Q' => {
                statement = String::from_utf8_lossy(&request[5..]).replace('\0', " ");
                request[0] == b'Q'
            }
            b'E' => true,
            _ => false,
        };
        if statement.to_ascii_uppercase().contains("LISTEN ") {
            let process = *lock(&link.process);
            let deaf = shared.state(|state| {
                if !state.deaf {
                    state.listening.insert(process);
                }
                state.deaf
            });
            if deaf {
                return Ok(());
            }
        }
        if executes {
            let cut = shared.state(|state| {
                let number = state.statements;
                state.statements += 1;
                let cut = state.cut.take_if(|(at, _)| *at == number);
                if cut.is_some() {
                    state.cuts += 1;
                }
                cut
            });
            match cut {
                Some((_, Cut::Before)) => {
                    let process = *lock(&link.process);
                    return shared.terminate(process).await.map_err(io::Error::other);
                }
                Some((_, Cut::After)) => *lock(&link.swallow) = true,
                None => {}
            }
        }
        server.write_all(&request).await?;
    }
}

/// From the server to the client.
async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    link: &Link,
) -> io::Result<()> {
    // One byte answers a request for TLS; a type begins every other message. `N` alone means: no TLS.
    let mut first = [0; 1];
    server.read_exact(&mut first).await?;
    client.write_all(&first).await?;
    let mut rest = if first == *b"N" { None } else { Some(first[0]) };
    loop {
        let answer = match rest.take() {
            Some(kind) => {
                let body = message(&mut server, 0).await?;
                client.write_all(&body).await?;
                [&[kind], &body[..]].concat()
            }
            None => {
                let answer = message(&mut server, 1).await?;
                if *lock(&link.swallow) {
                    if answer[0] == b'Z' {
                        let process = *lock(&link.process);
                        return shared.terminate(process).await.map_err(io::Error::other);
                    }
                    continue;
                }
                client.write_all(&answer).await?;
                answer
            }
        };
        if answer[0] == b'K' {
            *lock(&link.process) = i32::from_be_bytes(answer[5..9].try_into().expect("four bytes"));
        }
    }
}

/// One whole message: `prefix` bytes of type, four of length (which counts itself), the rest.
async fn message(from: &mut (impl AsyncRead + Unpin), prefix: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; prefix + 4];
    from.read_exact(&mut message).await?;
    let length = u32::from_be_bytes(message[prefix..].try_into().expect("four bytes")) as usize;
    message.resize(prefix + length.max(4), 0);
    from.read_exact(&mut message[prefix + 4..]).await?;
    Ok(message)
}
