//! What is sent to another member: on a connection that is dialled again and again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use ottla_common::coordination::codec::CodecError;
use ottla_common::types::MemberId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::handshake::{self, HandshakeError, Side};
use super::{PeerMessage, Receiver, Shared};
use crate::limits::{PEER_FRAME_SIZE_MAX, PEER_HANDSHAKE_DEADLINE_MS, PEER_WRITE_DEADLINE_MS};

/// How long the first pause between two attempts is, and how long the longest.
const PAUSE_MIN_MS: u64 = 20;
const PAUSE_MAX_MS: u64 = 1_000;

/// About how much is written at once.
const BATCH_SIZE: usize = 256 * 1024;

/// Keeps a member connected until it is no longer one, or this member stops.
pub async fn dial<M, R>(shared: Weak<Shared<M, R>>, to: MemberId, address: String)
where
    M: PeerMessage,
    R: Receiver<M>,
{
    let mut pause_ms = PAUSE_MIN_MS;
    loop {
        let Some(owner) = shared.upgrade() else { return };
        let shutdown = owner.shutdown.clone();
        let attempt = async {
            match connect(&owner, to, &address).await {
                Ok(stream) => {
                    tracing::debug!(member_id = %to, address, "connected to a member");
                    converse(&owner, to, stream).await;
                    true
                }
                Err(error) => {
                    owner.tell(to, &address, &error);
                    false
                }
            }
        };
        let was_connected = tokio::select! {
            was_connected = attempt => was_connected,
            () = shutdown.stopped() => return,
        };
        drop(owner);
        pause_ms = if was_connected { PAUSE_MIN_MS } else { (2 * pause_ms).min(PAUSE_MAX_MS) };
        let pause = Duration::from_millis(fastrand::u64(pause_ms / 2..=pause_ms));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.stopped() => return,
        }
    }
}

async fn connect<M: PeerMessage, R: Receiver<M>>(
    shared: &Shared<M, R>,
    to: MemberId,
    address: &str,
) -> Result<TcpStream, HandshakeError> {
    let side = Side {
        member_id: shared.options.member_id,
        key: &shared.options.key,
        cluster_id: shared.receiver.cluster_id(),
        address: &shared.options.address,
    };
    let connecting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        handshake::dial(&mut stream, &side, to).await?;
        Ok(stream)
    };
    let deadline = Duration::from_millis(PEER_HANDSHAKE_DEADLINE_MS);
    let connected = tokio::time::timeout(deadline, connecting).await;
    connected.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

/// Sends what is queued until the connection breaks.
async fn converse<M: PeerMessage, R: Receiver<M>>(
    shared: &Shared<M, R>,
    to: MemberId,
    stream: TcpStream,
) {
    let (mut source, sink) = stream.into_split();
    let Some((queued, size)) = shared.open(to) else { return };
    let _closing = Closing { shared, to, size: Arc::clone(&size) };
    let ended = async {
        // Nothing is said on this way: whatever comes tells that it is over.
        let mut byte = [0; 1];
        source.read(&mut byte).await
    };
    let result = tokio::select! {
        result = send_all(sink, queued, &size) => result,
        _ = ended => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
    };
    if let Err(error) = result {
        tracing::info!(member_id = %to, %error, "the connection to a member broke");
    }
}

/// Closes the way to a member however its task ends.
struct Closing<'a, M: PeerMessage, R: Receiver<M>> {
    shared: &'a Shared<M, R>,
    to: MemberId,
    size: Arc<AtomicUsize>,
}

impl<M: PeerMessage, R: Receiver<M>> Drop for Closing<'_, M, R> {
    fn drop(&mut self) {
        self.shared.close(self.to, &self.size);
    }
}

async fn send_all<M: PeerMessage>(
    mut sink: OwnedWriteHalf,
    mut queued: mpsc::Receiver<M>,
    size: &AtomicUsize,
) -> Result<(), CodecError> {
    let deadline = Duration::from_millis(PEER_WRITE_DEADLINE_MS);
    let mut bytes = BytesMut::new();
    while let Some(message) = queued.recv().await {
        let mut taken = message.size();
        encode(&message, &mut bytes)?;
        while bytes.len() < BATCH_SIZE
            && let Ok(message) = queued.try_recv()
        {
            taken += message.size();
            encode(&message, &mut bytes)?;
        }
        size.fetch_sub(taken, Ordering::Relaxed);
        let written = tokio::time::timeout(deadline, sink.write_all(&bytes)).await;
        written.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        bytes.clear();
        if bytes.capacity() > 4 * BATCH_SIZE {
            bytes = BytesMut::new();
        }
    }
    Ok(())
}

fn encode<M: PeerMessage>(message: &M, bytes: &mut BytesMut) -> Result<(), CodecError> {
    let start = bytes.len();
    bytes.put_u32(0);
    rmp_serde::encode::write(&mut (&mut *bytes).writer(), message)?;
    let size = bytes.len() - start - 4;
    let length = u32::try_from(size).ok().filter(|_| size <= PEER_FRAME_SIZE_MAX);
    match (length, bytes.get_mut(start..start + 4)) {
        (Some(length), Some(place)) => {
            place.copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        _ => Err(CodecError::TooLong { size, size_max: PEER_FRAME_SIZE_MAX }),
    }
}

impl<M: PeerMessage, R: Receiver<M>> Shared<M, R> {
    /// Tells why a member cannot be reached: that it is away is ordinary, that it is refused is
    /// not.
    fn tell(&self, to: MemberId, address: &str, error: &HandshakeError) {
        if let HandshakeError::Codec(CodecError::Io(error)) = error {
            tracing::debug!(member_id = %to, address, %error, "cannot reach a member");
            return;
        }
        let what = format!("{address}: {error}");
        if let Some(before) = self.refusals.is_due(&what, Instant::now()) {
            tracing::warn!(member_id = %to, address, %error, before, "a member is refused");
        }
    }
}
