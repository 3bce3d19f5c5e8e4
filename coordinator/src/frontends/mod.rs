//! The doors of a member: one port, whose connections tell by their first bytes which protocol they
//! speak. Front ends only translate; what a request means is decided in `requests`.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod native;
#[cfg(test)]
mod tests;

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
    /// None that this member speaks.
    Unknown,
}

/// Accepts connections until the member stops.
pub async fn serve(mut listener: Listener, service: Arc<Service>, shutdown: Shutdown) {
    loop {
        let (stream, peer, permit) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopped() => return,
        };
        let (service, stop) = (Arc::clone(&service), shutdown.clone());
        shutdown.spawn(async move {
            let arrival = Arrival { stream, peer, read: BytesMut::new() };
            let deadline = Duration::from_millis(HELLO_DEADLINE_MS);
            let recognised = tokio::select! {
                recognised = tokio::time::timeout(deadline, recognise(arrival)) => recognised,
                () = stop.stopped() => return,
            };
            match recognised {
                Ok(Ok(Some(arrival))) => native::serve(arrival, service, stop).await,
                Ok(Ok(None)) => tracing::info!(%peer, "connection closed: protocol not known"),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "connection broke"),
                Err(_) => tracing::debug!(%peer, "connection closed: it said nothing"),
            }
            drop(permit);
        });
    }
}

/// Reads until it is clear which protocol is spoken; none if it is one that is not offered.
async fn recognise(mut arrival: Arrival) -> std::io::Result<Option<Arrival>> {
    loop {
        match protocol_of(&arrival.read) {
            Protocol::Native => return Ok(Some(arrival)),
            Protocol::Unknown => return Ok(None),
            Protocol::Unclear => {}
        }
        if arrival.stream.read_buf(&mut arrival.read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn protocol_of(read: &[u8]) -> Protocol {
    if read.starts_with(&PREAMBLE) {
        Protocol::Native
    } else if PREAMBLE.starts_with(read) {
        Protocol::Unclear
    } else {
        Protocol::Unknown
    }
}
