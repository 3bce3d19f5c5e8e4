//! How a connection begins: with which session.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ottla_common::coordination::protocol::{CoordinationError, SessionRequest};
use ottla_common::types::{SessionId, Zxid};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Arrival;
use super::jute::{Jute, Reader, put_message};
use super::messages::{ConnectRequest, ConnectResponse};
use crate::frontends::connections::Registered;
use crate::limits::{HELLO_DEADLINE_MS, PASSWORD_SIZE};
use crate::requests::{Conversation, Granted, Opening, Service};
use crate::tree::Identity;
use crate::watches::{ConnectionKind, Outbox};

/// The shortest first message, in bytes: without a password, as old clients send it.
pub const SIZE_MIN: u32 = 28;

/// The longest.
pub const SIZE_MAX: u32 = 1024;

/// A connection that has its session.
pub struct Opened<S> {
    pub stream: S,
    /// What has been read behind the first message.
    pub read: BytesMut,
    pub conversation: Conversation,
    pub outbox: Outbox,
    /// Counts what is exchanged.
    pub figures: Registered,
}

/// Reads the first message and answers it. None if the client gets no session.
pub async fn open<S>(arrival: Arrival<S>, service: &Arc<Service>) -> io::Result<Option<Opened<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Arrival { mut stream, peer, mut read, certificate_subject, connection } = arrival;
    let deadline = Duration::from_millis(HELLO_DEADLINE_MS);
    let request = tokio::time::timeout(deadline, first_message(&mut stream, &mut read)).await;
    let request = request.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let session = match request.session_id {
        0 => {
            SessionRequest::New { session_timeout_ms: u32::try_from(request.time_out).unwrap_or(0) }
        }
        session_id => SessionRequest::Resume {
            session_id: SessionId(session_id),
            password: request.passwd.unwrap_or_default(),
        },
    };
    let proved = certificate_subject.map(|id| Identity { scheme: "x509".to_owned(), id });
    let opening = Opening {
        session,
        last_zxid_seen: Zxid(request.last_zxid_seen),
        address: peer.ip(),
        proved: proved.into_iter().collect(),
        must_authenticate: service.options().sasl.is_required,
        kind: ConnectionKind::ZooKeeper,
    };
    let outbox = Outbox::new();
    // Old clients do not expect to be told what they did not ask about.
    let told = |is_read_only| request.read_only.map(|_| is_read_only);
    let opened = if !service.is_leaderless() {
        service.open_session(opening, outbox.clone()).await
    } else if request.read_only == Some(true) && service.options().zookeeper.read_only_mode {
        service.open_read_only(opening, outbox.clone())
    } else {
        Err(CoordinationError::Unavailable)
    };
    match opened {
        Ok(Granted { grant, conversation }) => {
            let response = ConnectResponse {
                protocol_version: 0,
                time_out: i32::try_from(grant.session_timeout_ms).unwrap_or(i32::MAX),
                session_id: grant.session_id.0,
                passwd: Some(grant.password),
                read_only: told(conversation.is_read_only()),
            };
            if let Err(error) = send(&mut stream, &response).await {
                let (session_id, id) = (conversation.session_id(), conversation.connection_id());
                service.connection_ended(session_id, id, false);
                return Err(error);
            }
            let figures = connection;
            figures.session_opened(grant.session_id.0, grant.session_timeout_ms);
            Ok(Some(Opened { stream, read, conversation, outbox, figures }))
        }
        Err(CoordinationError::SessionExpired) => {
            let passwd = Some(vec![0; PASSWORD_SIZE]);
            let read_only = told(false);
            let response = ConnectResponse { passwd, read_only, ..ConnectResponse::default() };
            send(&mut stream, &response).await?;
            stream.shutdown().await?;
            Ok(None)
        }
        // The client tries another member.
        Err(error) => {
            tracing::info!(%peer, %error, "session refused");
            Ok(None)
        }
    }
}

async fn first_message<S>(stream: &mut S, read: &mut BytesMut) -> io::Result<ConnectRequest>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some((length, rest)) = read.split_first_chunk() {
            let length = u32::from_be_bytes(*length);
            if !(SIZE_MIN..=SIZE_MAX).contains(&length) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a first message"));
            }
            let length = length as usize;
            if let Some(message) = rest.get(..length) {
                let request = Reader::new(message).read();
                read.advance(4 + length);
                return request.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn send<S>(stream: &mut S, response: &ConnectResponse) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut bytes = BytesMut::new();
    put_message(&mut bytes, |bytes| response.encode(bytes));
    stream.write_all(&bytes).await?;
    stream.flush().await
}
