//! A proxy that goes silent: what a failover or a NAT that forgets its connections looks like from outside. Knows no protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::proxy::address;

/// A running proxy; connections through it break when it is dropped.
#[derive(Debug)]
pub struct Hole {
    address: SocketAddr,
    /// Connections that were opened in an age before this one are silent for ever.
    silent_below: Arc<watch::Sender<u64>>,
    accepting: JoinHandle<()>,
}

impl Hole {
    /// A proxy before the server of this url.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn before(url: &str) -> Self {
        let server = address(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let silent_below = Arc::new(watch::Sender::new(0));
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&silent_below)));
        Self { address, silent_below, accepting }
    }

    /// The url, through this proxy.
    #[must_use]
    pub fn through(&self, url: &str) -> String {
        url.replacen(address(url), &self.address.to_string(), 1)
    }

    /// Every connection there is stays open and says nothing any more; new ones work.
    pub fn forget_connections(&self) {
        self.silent_below.send_modify(|below| *below += 1);
    }

    /// Nothing gets through any more, on connections that are open or to come.
    pub fn swallow_everything(&self) {
        self.silent_below.send_replace(u64::MAX);
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, silent_below: Arc<watch::Sender<u64>>) {
    let mut pairs = tokio::task::JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let silent = silent_below.subscribe();
        let server = server.clone();
        pairs.spawn(async move {
            // Whatever breaks ends both connections: that is what clients must bear.
            let _ended = serve(client, &server, silent).await;
        });
    }
}

async fn serve(
    client: TcpStream,
    server: &str,
    mut silent_below: watch::Receiver<u64>,
) -> io::Result<()> {
    let born = *silent_below.borrow();
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let forward = async {
        tokio::try_join!(
            async {
                tokio::io::copy(&mut from_client, &mut to_server).await?;
                to_server.shutdown().await
            },
            async {
                tokio::io::copy(&mut from_server, &mut to_client).await?;
                to_client.shutdown().await
            },
        )
    };
    let silence = async {
        if born != u64::MAX {
            silent_below.wait_for(|below| *below > born).await.map(drop).unwrap_or_default();
        }
    };
    tokio::select! {
        biased;
        () = silence => {}
        ended = forward => return ended.map(drop),
    }
    // Both sockets stay open, and nobody reads them.
    std::future::pending().await
}
