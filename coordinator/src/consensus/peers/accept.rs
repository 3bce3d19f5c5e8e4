//! What other members send: connections that they dialled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ottla_common::coordination::codec::{CodecError, decode_message, take_frame};
use ottla_common::types::MemberId;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::handshake::{self, Dialler, HandshakeError, Side};
use super::{Incoming, PeerMessage, Receiver, Shared};
use crate::limits::{PEER_FRAME_SIZE_MAX, PEER_HANDSHAKE_DEADLINE_MS, PEER_HANDSHAKES_MAX};

/// How much is asked of the socket at once, at least.
const READ_SIZE: usize = 64 * 1024;

/// How long accepting pauses after the system refused a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the member stops.
pub async fn accept<M, R>(shared: Arc<Shared<M, R>>, listener: TcpListener)
where
    M: PeerMessage,
    R: Receiver<M>,
{
    let strangers = Arc::new(Semaphore::new(PEER_HANDSHAKES_MAX));
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.shutdown.stopped() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a member's connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Whoever has not proved who he is takes a place among few; beyond that he is not heard.
        let Ok(place) = Arc::clone(&strangers).try_acquire_owned() else { continue };
        number += 1;
        let owner = Arc::clone(&shared);
        shared.shutdown.spawn(async move {
            let greeted = greet(&owner, stream, peer).await;
            drop(place);
            if let Some((stream, Dialler { member_id: from, address, read })) = greeted {
                owner.welcome(from, address);
                let end = Arc::new(Notify::new());
                owner.arrive(from, Incoming { number, end: Arc::clone(&end) });
                let result = tokio::select! {
                    result = receive_all(&owner, stream, (from, read)) => result,
                    () = end.notified() => Ok(()),
                    () = owner.shutdown.stopped() => Ok(()),
                };
                if let Err(error) = result {
                    tracing::info!(member_id = %from, %peer, %error, "a member's connection broke");
                }
                owner.leave(from, number);
            }
        });
    }
}

/// The handshake; none if it failed, which has been told.
async fn greet<M: PeerMessage, R: Receiver<M>>(
    shared: &Shared<M, R>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TcpStream, Dialler)> {
    let _ = stream.set_nodelay(true);
    let side = Side {
        member_id: shared.options.member_id,
        key: &shared.options.key,
        cluster_id: shared.receiver.cluster_id(),
        address: &shared.options.address,
    };
    let deadline = Duration::from_millis(PEER_HANDSHAKE_DEADLINE_MS);
    let greeted = handshake::accept(&mut stream, &side, |id| shared.is_member(id));
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(deadline, greeted) => greeted,
        () = shared.shutdown.stopped() => return None,
    };
    match greeted {
        Ok(Ok(dialler)) => Some((stream, dialler)),
        Ok(Err(error @ (HandshakeError::Codec(CodecError::Io(_)) | HandshakeError::NotAPeer))) => {
            tracing::debug!(%peer, %error, "no handshake with a member");
            None
        }
        Ok(Err(error)) => {
            let what = format!("{}: {error}", peer.ip());
            if let Some(before) = shared.refusals.is_due(&what, Instant::now()) {
                tracing::warn!(%peer, %error, before, "refused a member's connection");
            }
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "no handshake with a member in time");
            None
        }
    }
}

/// Hands over what a member says until it ends.
async fn receive_all<M: PeerMessage, R: Receiver<M>>(
    shared: &Shared<M, R>,
    mut stream: TcpStream,
    (from, mut read): (MemberId, BytesMut),
) -> Result<(), CodecError> {
    loop {
        while let Some(frame) = take_frame(&mut read, PEER_FRAME_SIZE_MAX)? {
            shared.receiver.received(from, decode_message(&frame)?).await;
        }
        read.reserve(READ_SIZE);
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
}

impl<M: PeerMessage, R: Receiver<M>> Shared<M, R> {
    /// A member has connected; an older connection of it is over.
    fn arrive(&self, from: MemberId, incoming: Incoming) {
        if let Some(older) = self.incoming.lock().insert(from, incoming) {
            older.end.notify_one();
        }
    }

    fn leave(&self, from: MemberId, number: u64) {
        let mut incoming = self.incoming.lock();
        if incoming.get(&from).is_some_and(|incoming| incoming.number == number) {
            incoming.remove(&from);
        }
    }
}
