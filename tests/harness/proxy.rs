//! A TCP proxy between a client and a server that does to the connections what networks do.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// What the client sends waits, while the connection looks alive.
    pub requests_wait: bool,
    /// What the server sends waits, while the connection looks alive.
    pub replies_wait: bool,
    /// One more each time that all connections are cut.
    cuts: u64,
}

/// A proxy to one server. Ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `server`.
    pub async fn start(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let weather = watch::Sender::new(Weather::default());
        let told = weather.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, told.subscribe()));
            }
        });
        Ok(Self { address, weather, accepting })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets what the client sends through, or not.
    pub fn hold_requests(&self, wait: bool) {
        self.weather.send_modify(|weather| weather.requests_wait = wait);
    }

    /// Lets what the server sends through, or not.
    pub fn hold_replies(&self, wait: bool) {
        self.weather.send_modify(|weather| weather.replies_wait = wait);
    }

    /// Closes all connections. What waits is lost.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let cuts = weather.borrow().cuts;
    let waits = Arc::new(weather.clone());
    let requests = pump(client_reads, server_writes, waits.clone(), |w| w.requests_wait);
    let replies = pump(server_reads, client_writes, waits, |w| w.replies_wait);
    tokio::select! {
        () = requests => {}
        () = replies => {}
        _ = weather.wait_for(|weather| weather.cuts != cuts) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: Arc<watch::Receiver<Weather>>,
    waits: fn(&Weather) -> bool,
) {
    let mut weather = watch::Receiver::clone(&weather);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if weather.wait_for(|weather| !waits(weather)).await.is_err() {
            return;
        }
        let Some(bytes) = buffer.get(..count) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
