//! The doors of a member: one port, whose connections tell by their first bytes which protocol they
//! speak. Front ends only translate; what a request means is decided in `requests`.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod kafka;
mod native;
#[cfg(test)]
mod tests;
pub mod zookeeper;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ottla_common::coordination::protocol::PREAMBLE;
use ottla_common::net::Listener;
use ottla_common::shutdown::Shutdown;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::limits::HELLO_DEADLINE_MS;
use crate::requests::Service;

/// A connection whose protocol is known, with what has been read of it so far.
#[derive(Debug)]
struct Arrival {
    stream: TcpStream,
    peer: SocketAddr,
    read: BytesMut,
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Not enough was read to tell.
    Unclear,
    Native,
    Kafka,
    ZooKeeper,
    /// None that this member speaks.
    Unknown,
}

/// Accepts connections until the member stops.
pub async fn serve(mut listener: Listener, service: Arc<Service>, shutdown: Shutdown) {
    let listener_name = service.options().kafka_listener_name.clone();
    let kafka = Arc::new(kafka::FrontEnd::new(Arc::clone(&service), listener_name));
    loop {
        let (stream, peer, permit) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopped() => return,
        };
        let (service, stop) = (Arc::clone(&service), shutdown.clone());
        let kafka = Arc::clone(&kafka);
        shutdown.spawn(async move {
            let arrival = Arrival { stream, peer, read: BytesMut::new() };
            let deadline = Duration::from_millis(HELLO_DEADLINE_MS);
            let recognised = tokio::select! {
                recognised = tokio::time::timeout(deadline, recognise(arrival)) => recognised,
                () = stop.stopped() => return,
            };
            match recognised {
                Ok(Ok((Protocol::Native, arrival))) => native::serve(arrival, service, stop).await,
                Ok(Ok((Protocol::ZooKeeper, arrival))) => {
                    let Arrival { stream, peer, read } = arrival;
                    let certificate_subject = None;
                    let arrival = zookeeper::Arrival { stream, peer, read, certificate_subject };
                    zookeeper::serve(arrival, service, stop).await;
                }
                Ok(Ok((Protocol::Kafka, arrival))) => kafka.serve(arrival, stop).await,
                Ok(Ok(_)) => tracing::info!(%peer, "connection closed: protocol not known"),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "connection broke"),
                Err(_) => tracing::debug!(%peer, "connection closed: it said nothing"),
            }
            drop(permit);
        });
    }
}

/// Reads until it is clear which protocol is spoken.
async fn recognise(mut arrival: Arrival) -> std::io::Result<(Protocol, Arrival)> {
    loop {
        match protocol_of(&arrival.read) {
            Protocol::Unclear => {}
            protocol => return Ok((protocol, arrival)),
        }
        if arrival.stream.read_buf(&mut arrival.read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn protocol_of(read: &[u8]) -> Protocol {
    if read.starts_with(&PREAMBLE) {
        return Protocol::Native;
    }
    if PREAMBLE.starts_with(read) {
        return Protocol::Unclear;
    }
    match (zookeeper::recognise(read), kafka::is_kafka(read)) {
        (Some(true), _) => Protocol::ZooKeeper,
        (_, Some(true)) => Protocol::Kafka,
        (Some(false), Some(false)) => Protocol::Unknown,
        (None, _) | (_, None) => Protocol::Unclear,
    }
}
