//! The doors of a member: ports whose connections tell by their first bytes which protocol they
//! speak. Front ends only translate; what a request means is decided in `requests`.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod admin;
pub mod connections;
pub mod four_letter;
pub mod http;
pub mod kafka;
mod native;
mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod zookeeper;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ottla_common::coordination::protocol::PREAMBLE;
use ottla_common::net::{ConnectionPermit, Listener};
use ottla_common::shutdown::Shutdown;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub use self::connections::Connections;
use self::connections::Registered;
use self::four_letter::{FourLetterWords, Told};
pub use self::stream::{Reader, Stream, Writer};
use crate::limits::{FIRST_BYTE_DEADLINE_MS, HELLO_DEADLINE_MS};
use crate::requests::Service;

/// A connection whose protocol is known, with what has been read of it so far.
#[derive(Debug)]
pub struct Arrival<S = Stream> {
    /// Its bytes.
    pub stream: S,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What was read, from the connection's first byte on.
    pub read: BytesMut,
    /// Who the client is by its certificate (its subject, as RFC 2253 writes it), if it showed one.
    pub certificate_subject: Option<String>,
    /// Its place among the connections: counts what is exchanged.
    pub connection: Registered,
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Not enough was read to tell.
    Unclear,
    Native,
    ZooKeeper,
    FourLetterWord,
    Kafka,
    /// None that this member speaks.
    Unknown,
}

/// A connection that is served in its protocol.
type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What all doors of a member share.
#[derive(Debug)]
pub struct FrontEnds {
    service: Arc<Service>,
    kafka: kafka::FrontEnd,
    words: FourLetterWords,
    connections: Connections,
}

impl FrontEnds {
    /// Hands requests to `service`. `told`: what the four-letter words tell of the configuration.
    pub fn new(service: Arc<Service>, told: Told) -> Self {
        let listener_name = service.options().kafka_listener_name.clone();
        let kafka = kafka::FrontEnd::new(Arc::clone(&service), listener_name);
        let connections = Connections::default();
        let words = FourLetterWords::new(Arc::clone(&service), connections.clone(), told);
        Self { service, kafka, words, connections }
    }

    /// Who is connected.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Accepts connections until the member stops; through TLS if there is an acceptor.
    pub async fn serve(
        self: Arc<Self>,
        mut listener: Listener,
        acceptor: Option<tls::Acceptor>,
        shutdown: Shutdown,
    ) {
        self.words.add_listener(listener.counts());
        loop {
            let (stream, peer, permit) = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.stopped() => return,
            };
            let (front_ends, acceptor) = (Arc::clone(&self), acceptor.clone());
            // In memory of its own, as is each protocol: a connection is to take what it needs, not
            // what its beginning or the largest of the protocols does.
            let beginning = Box::pin(front_ends.begin((stream, peer), acceptor, shutdown.clone()));
            shutdown.spawn(async move {
                if let Some(serving) = beginning.await {
                    serving.await;
                }
                drop::<ConnectionPermit>(permit);
            });
        }
    }

    /// Finds out what a new connection speaks. None if there is nothing to serve.
    async fn begin(
        self: Arc<Self>,
        (stream, peer): (TcpStream, SocketAddr),
        acceptor: Option<tls::Acceptor>,
        shutdown: Shutdown,
    ) -> Option<Serving> {
        let now_ms = self.service.clock().wall_time_ms();
        let connection = self.connections.add(peer, acceptor.is_some(), now_ms);
        let beginning = async {
            let (stream, certificate_subject) = match acceptor {
                None => (Stream::Plain(stream), None),
                Some(acceptor) => {
                    let (stream, subject) = Box::pin(acceptor.accept(stream)).await?;
                    (Stream::Tls(Box::new(stream)), subject)
                }
            };
            let read = BytesMut::new();
            recognise(Arrival { stream, peer, read, certificate_subject, connection }).await
        };
        let deadline = Duration::from_millis(HELLO_DEADLINE_MS);
        let recognised = tokio::select! {
            recognised = tokio::time::timeout(deadline, beginning) => recognised,
            () = shutdown.stopped() => return None,
        };
        match recognised {
            Ok(Ok((protocol, arrival))) => self.dispatch(protocol, arrival, shutdown),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "connection broke");
                None
            }
            Err(_) => {
                tracing::debug!(%peer, "connection closed: it did not say what it speaks");
                None
            }
        }
    }

    fn dispatch(
        self: Arc<Self>,
        protocol: Protocol,
        arrival: Arrival,
        shutdown: Shutdown,
    ) -> Option<Serving> {
        let (peer, service) = (arrival.peer, Arc::clone(&self.service));
        Some(match protocol {
            Protocol::Native => Box::pin(native::serve(arrival, service, shutdown)),
            Protocol::Kafka => Box::pin(async move { self.kafka.serve(arrival, shutdown).await }),
            Protocol::ZooKeeper => Box::pin(zookeeper::serve(arrival, service, shutdown)),
            Protocol::FourLetterWord => Box::pin(async move {
                tokio::select! {
                    () = self.words.serve(arrival) => {}
                    () = shutdown.stopped() => {}
                }
            }),
            Protocol::Unclear | Protocol::Unknown => {
                tracing::info!(%peer, "connection closed: protocol not known");
                return None;
            }
        })
    }
}

/// Reads until it is clear which protocol is spoken.
async fn recognise(mut arrival: Arrival) -> std::io::Result<(Protocol, Arrival)> {
    let first_byte = Duration::from_millis(FIRST_BYTE_DEADLINE_MS);
    loop {
        match protocol_of(&arrival.read) {
            Protocol::Unclear => {}
            protocol => return Ok((protocol, arrival)),
        }
        let reading = arrival.stream.read_buf(&mut arrival.read);
        let size = tokio::time::timeout(first_byte, reading).await;
        if size.map_err(|_| std::io::ErrorKind::TimedOut)?? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Tells the protocols apart. A ZooKeeper client's first packet is a length and the protocol's
/// version, which is 0; a Kafka client's a length, an API and its version. What cannot be either
/// (HTTP, TLS) is known by its first byte.
fn protocol_of(read: &[u8]) -> Protocol {
    if read.starts_with(&PREAMBLE) {
        return Protocol::Native;
    }
    if PREAMBLE.starts_with(read) {
        return Protocol::Unclear;
    }
    match four_letter::is_word(read) {
        Some(true) => return Protocol::FourLetterWord,
        None => return Protocol::Unclear,
        Some(false) => {}
    }
    match (zookeeper::recognise(read), kafka::is_kafka(read)) {
        (Some(true), _) => Protocol::ZooKeeper,
        (_, Some(true)) => Protocol::Kafka,
        (Some(false), Some(false)) => Protocol::Unknown,
        (None, _) | (_, None) => Protocol::Unclear,
    }
}
