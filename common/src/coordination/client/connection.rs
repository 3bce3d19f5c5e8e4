//! One connection of a client to a member: how it begins.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::{Framed, FramedRead, FramedWrite};

use super::super::codec::{CodecError, FrameCodec};
use super::super::protocol::{
    ClientHello, CoordinationError, PREAMBLE, PROTOCOL_VERSION, ServerFrame, ServerHello,
    SessionGrant,
};

/// A connection whose hello was answered.
pub struct Connection {
    /// What the member sends.
    pub frames: FramedRead<OwnedReadHalf, FrameCodec<ServerFrame>>,
    /// What the client sends.
    pub requests: FramedWrite<OwnedWriteHalf, FrameCodec<ServerFrame>>,
    /// The session that the member granted.
    pub grant: SessionGrant,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The network, or what came over it.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The member did not answer in time, or hung up.
    #[error("the member did not answer the hello")]
    NoAnswer,
    /// The member refused the session.
    #[error(transparent)]
    Refused(#[from] CoordinationError),
}

/// Connects and says hello; the member has `patience` to answer.
pub async fn connect(
    address: &str,
    hello: &ClientHello,
    patience: Duration,
) -> Result<Connection, ConnectError> {
    let opening = tokio::time::timeout(patience, open(address, hello));
    opening.await.unwrap_or(Err(ConnectError::NoAnswer))
}

async fn open(address: &str, hello: &ClientHello) -> Result<Connection, ConnectError> {
    let mut stream = TcpStream::connect(address).await.map_err(CodecError::from)?;
    stream.set_nodelay(true).map_err(CodecError::from)?;
    stream.write_all(&PREAMBLE).await.map_err(CodecError::from)?;
    let mut framed = Framed::new(stream, FrameCodec::<ServerHello>::new());
    framed.send(hello).await?;
    let answer = framed.next().await.ok_or(ConnectError::NoAnswer)??;
    let grant = answer.session?;
    if answer.version > PROTOCOL_VERSION {
        return Err(CoordinationError::UnsupportedVersion.into());
    }
    // The member may have sent frames right behind its hello: they are in the read buffer.
    let parts = framed.into_parts();
    let (read, write) = parts.io.into_split();
    let mut frames = FramedRead::new(read, FrameCodec::new());
    *frames.read_buffer_mut() = parts.read_buf;
    Ok(Connection { frames, requests: FramedWrite::new(write, FrameCodec::new()), grant })
}
