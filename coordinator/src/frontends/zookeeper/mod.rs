//! ZooKeeper's client protocol: what goes over the wire is told by `messages`, in the encoding of
//! `jute`; `translate` makes requests of it and `reply` messages of the answers; `connection` runs
//! a connection from its first message to its end. What a request means is decided in
//! `crate::requests`.
//!
//! What of ZooKeeper is not offered, and why, stands in `not_offered.md` beside this file.

mod connection;
mod handshake;
pub mod jute;
pub mod messages;
mod reply;
mod translate;

use std::sync::Arc;

use ottla_common::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};

use self::connection::Connection;
pub use super::Arrival;
use crate::requests::Service;

/// Whether the first bytes of a connection can be those of ZooKeeper's protocol: the length of a
/// first message that is not too long, and the protocol's version, which is 0. None if there are
/// too few to tell.
pub fn recognise(read: &[u8]) -> Option<bool> {
    const VERSION: [u8; 4] = [0; 4];
    let Some((length, rest)) = read.split_first_chunk() else {
        return if read.iter().all(|byte| *byte == 0) { None } else { Some(false) };
    };
    if !(handshake::SIZE_MIN..=handshake::SIZE_MAX).contains(&u32::from_be_bytes(*length)) {
        return Some(false);
    }
    match rest.first_chunk() {
        Some(version) => Some(*version == VERSION),
        None if rest.iter().all(|byte| *byte == 0) => None,
        None => Some(false),
    }
}

/// Serves a connection from its first message to its end.
///
/// Futures take room for all that is ever moved into them, so that the beginning has one of its
/// own, and what runs the connection only borrows it.
pub fn serve<S>(
    arrival: Arrival<S>,
    service: Arc<Service>,
    shutdown: Shutdown,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let opening = Box::pin(open(arrival, Arc::clone(&service), shutdown.clone()));
    async move {
        let Some(mut connection) = opening.await else { return };
        let (peer, session_id, connection_id) = connection.names();
        let ended = tokio::select! {
            ended = connection.run() => ended,
            () = shutdown.stopped() => Ok(()),
        };
        drop(connection);
        // ZooKeeper's rule: whatever became of the connection, the session keeps its whole timeout.
        service.connection_ended(session_id, connection_id, false);
        match ended {
            Ok(()) => tracing::debug!(%peer, session_id = %session_id, "connection ended"),
            Err(error) => {
                tracing::debug!(%peer, session_id = %session_id, %error, "connection broke");
            }
        }
    }
}

/// Lets a connection come to its session. None if it gets none.
async fn open<S>(
    arrival: Arrival<S>,
    service: Arc<Service>,
    shutdown: Shutdown,
) -> Option<Box<Connection<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let peer = arrival.peer;
    let opened = tokio::select! {
        opened = handshake::open(arrival, &service) => opened,
        () = shutdown.stopped() => return None,
    };
    match opened {
        Ok(opened) => {
            let opened = opened?;
            let session_id = opened.conversation.session_id();
            tracing::debug!(%peer, session_id = %session_id, "session connected");
            Some(Box::new(Connection::new(opened, peer, Arc::clone(&service))))
        }
        Err(error) => {
            tracing::debug!(%peer, %error, "connection broke in its handshake");
            None
        }
    }
}
