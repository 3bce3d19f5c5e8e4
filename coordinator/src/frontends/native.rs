//! Connections of the native protocol: MessagePack frames, as
//! `ottla_common::coordination::protocol` describes them.
//!
//! Three things run at once in a connection's task: one reads requests, as many as may be in
//! flight; one answers them (the [`Conversation`]); one sends what is in the outbox.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use ottla_common::coordination::codec::{CodecError, decode_message, encode_frame, take_frame};
use ottla_common::coordination::protocol::{
    Change, ClientHello, CoordinationError, FRAME_SIZE_MAX, PREAMBLE, PROTOCOL_VERSION,
    REQUEST_SIZE_MAX, Request, RequestFrame, Response, ServerFrame, ServerHello, SessionGrant,
    SessionRequest, SnapshotNode,
};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::SessionId;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};

use super::{Arrival, Reader, Writer, admin};
use crate::limits::{
    CLOSE_DEADLINE_MS, HELLO_DEADLINE_MS, HELLO_SIZE_MAX, REQUEST_BYTES_IN_FLIGHT_MAX,
    REQUESTS_IN_FLIGHT_MAX,
};
use crate::requests::{Administrator, Ask, Conversation, Granted, Opening, Service, Submission};
use crate::tree;
use crate::watches::{Answer, Closed, ConnectionKind, Outbox, Outgoing};

/// How much is put into bytes at once, and the least that is asked of the socket at once.
const BATCH_SIZE: usize = 256 * 1024;
const READ_SIZE: usize = 16 * 1024;

/// How often a session is counted as heard from while its requests cannot be taken.
const KEEP_ALIVE_MS: u64 = 100;

/// The bytes that a request takes in memory beside its frame.
const REQUEST_OVERHEAD: usize = 256;

/// Requests as they arrive.
struct Requests {
    stream: Reader,
    read: BytesMut,
    /// Some have come: the client uses this connection and relies on none before it any more.
    has_any: Arc<AtomicBool>,
}

/// A frame whose request this member does not know.
#[derive(Deserialize)]
pub(super) struct UnknownRequest {
    pub(super) xid: u64,
    #[serde(rename = "request")]
    _request: IgnoredAny,
}

/// Serves a connection from its hello to its end.
pub async fn serve(arrival: Arrival, service: Arc<Service>, shutdown: Shutdown) {
    let Arrival { stream, peer, mut read, connection, .. } = arrival;
    let _ = read.split_to(PREAMBLE.len());
    let (stream, mut sink) = stream.into_split();
    let has_spoken = Arc::new(AtomicBool::new(false));
    let mut requests = Requests { stream, read, has_any: Arc::clone(&has_spoken) };
    let deadline = Duration::from_millis(HELLO_DEADLINE_MS);
    let hello = tokio::select! {
        hello = tokio::time::timeout(deadline, requests.hello()) => hello,
        () = shutdown.stopped() => return,
    };
    let hello = match hello {
        Ok(Ok(Some(hello))) => hello,
        Ok(Ok(None)) => return tracing::debug!(%peer, "connection closed before its hello"),
        Ok(Err(error)) => return tracing::info!(%peer, %error, "connection closed: bad hello"),
        Err(_) => return tracing::debug!(%peer, "connection closed: no hello"),
    };
    if hello.session == SessionRequest::None && hello.version_max >= 1 {
        return serve_administrator((requests, sink), peer, (&service, &shutdown)).await;
    }
    let client_name: String = hello.client_name.chars().take(64).collect();
    let outbox = Outbox::new();
    let member_id = service.member_id();
    let version = PROTOCOL_VERSION.min(hello.version_max);
    let session = if version < hello.version_min.max(1) {
        Err(CoordinationError::UnsupportedVersion)
    } else {
        let (session, last_zxid_seen) = (hello.session, hello.last_zxid_seen);
        let opening = Opening {
            session,
            last_zxid_seen,
            address: peer.ip(),
            proved: Vec::new(),
            must_authenticate: false,
            kind: ConnectionKind::Native,
        };
        service.open_session(opening, outbox.clone()).await
    };
    let (session, conversation) = match session {
        Ok(Granted { grant, conversation }) => {
            connection.session_opened(grant.session_id.0, grant.session_timeout_ms);
            (Ok(grant), Some(conversation))
        }
        Err(error) => {
            tracing::info!(%peer, client_name, %error, "session refused");
            (Err(error), None)
        }
    };
    let sent = send(&mut sink, &ServerHello { version, member_id, session }).await;
    let Some(conversation) = conversation else { return };
    let session_id = conversation.session_id();
    let connection_id = conversation.connection_id();
    tracing::debug!(%peer, client_name, session_id = %session_id, "session connected");
    let ending = match sent {
        Ok(()) => converse(requests, sink, conversation, (&service, &outbox, &shutdown)).await,
        Err(_) => Ending::ClientLeft,
    };
    // A client that never used this connection may have come here before it went to another member,
    // be served there by now, and rely on its whole timeout.
    let has_spoken = has_spoken.load(Ordering::Relaxed);
    let client_left = has_spoken && ending == Ending::ClientLeft && !shutdown.is_stopping();
    service.connection_ended(session_id, connection_id, client_left);
    tracing::debug!(%peer, client_name, session_id = %session_id, ?ending, "connection ended");
}

/// Serves a connection without a session.
async fn serve_administrator(
    (requests, mut sink): (Requests, Writer),
    peer: SocketAddr,
    (service, shutdown): (&Service, &Shutdown),
) {
    let grant = SessionGrant {
        session_id: SessionId(0),
        password: Vec::new(),
        session_timeout_ms: 0,
        disconnect_grace_ms: 0,
        zxid: service.live().zxid(),
    };
    let (version, member_id) = (PROTOCOL_VERSION, service.member_id());
    let hello = ServerHello { version, member_id, session: Ok(grant) };
    let serving = async {
        send(&mut sink, &hello).await?;
        let administrator = Administrator::new(peer.ip());
        let Requests { stream, read, .. } = requests;
        admin::serve((stream, sink), read, (service, administrator)).await
    };
    let served = tokio::select! {
        served = serving => served,
        () = shutdown.stopped() => return,
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "administrator's connection broke");
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The client closed the connection, or died.
    ClientLeft,
    /// The client closed its session.
    SessionClosed,
    /// This member ended it.
    ByMember,
}

impl Ending {
    /// Whether an error tells that the client's side is closed.
    fn of(error: &CodecError) -> Self {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error {
            CodecError::Io(error)
                if matches!(
                    error.kind(),
                    BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
                ) =>
            {
                Self::ClientLeft
            }
            _ => Self::ByMember,
        }
    }
}

/// Runs a connection after its hello.
async fn converse(
    mut requests: Requests,
    sink: Writer,
    conversation: Conversation,
    (service, outbox, shutdown): (&Service, &Outbox, &Shutdown),
) -> Ending {
    let session_id = conversation.session_id();
    let (submit, submitted) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
    // Where the client leaves, what it asked before is still carried out.
    let reading = async {
        tokio::select! {
            read = requests.submit_all(submit, (service, outbox, session_id)) => match read {
                Ok(()) => Ending::ClientLeft,
                Err(error) => {
                    tracing::info!(session_id = %session_id, %error, "connection broke");
                    Ending::of(&error)
                }
            },
            () = shutdown.stopped() => Ending::ByMember,
            () = outbox.until_closed() => Ending::ByMember,
        }
    };
    let answering = async {
        let was_closed = conversation.run(submitted).await;
        outbox.close(Closed::Quietly);
        was_closed
    };
    let asking = async {
        match tokio::join!(answering, reading) {
            (true, _) => Ending::SessionClosed,
            (false, ending) => ending,
        }
    };
    let sending = send_all(sink, outbox);
    tokio::pin!(asking, sending);
    tokio::select! {
        ending = &mut asking => {
            sending.await;
            ending
        }
        // What cannot be sent need not be answered.
        ending = &mut sending => ending,
    }
}

impl Requests {
    async fn hello(&mut self) -> Result<Option<ClientHello>, CodecError> {
        let frame = self.next(HELLO_SIZE_MAX).await?;
        frame.map(|frame| decode_message(&frame)).transpose()
    }

    /// Reads requests and hands them over until the client ends.
    async fn submit_all(
        &mut self,
        submit: mpsc::Sender<Submission>,
        (service, outbox, session_id): (&Service, &Outbox, SessionId),
    ) -> Result<(), CodecError> {
        let budget = Arc::new(Semaphore::new(REQUEST_BYTES_IN_FLIGHT_MAX));
        while let Some(frame) = self.next(REQUEST_SIZE_MAX).await? {
            self.has_any.store(true, Ordering::Relaxed);
            service.touch(session_id);
            let size = u32::try_from(frame.len() + REQUEST_OVERHEAD).unwrap_or(u32::MAX);
            let (xid, ask) = match decode_message(&frame) {
                Ok(RequestFrame { xid, request: Request::Ping }) => (xid, Ask::ConfirmedPing),
                Ok(RequestFrame { xid, request }) => (xid, Ask::Common(request)),
                // A newer client's request? Then it is told, and may go on with others.
                Err(error) => match decode_message(&frame) {
                    Ok(UnknownRequest { xid, .. }) => {
                        (xid, Ask::Refused(CoordinationError::Unimplemented))
                    }
                    Err(_) => return Err(error),
                },
            };
            let submitting = async {
                let permit = Arc::clone(&budget).acquire_many_owned(size).await.ok()?;
                let permit = Some(permit);
                submit.send(Submission { xid, ask, size: 0, permit }).await.ok()
            };
            if keep_alive(submitting, (service, outbox, session_id)).await.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next frame; none if the client ended between two.
    async fn next(&mut self, frame_size_max: usize) -> Result<Option<BytesMut>, CodecError> {
        loop {
            if let Some(frame) = take_frame(&mut self.read, frame_size_max)? {
                return Ok(Some(frame));
            }
            self.read.reserve(READ_SIZE);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                let is_between = self.read.is_empty();
                let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return if is_between { Ok(None) } else { Err(cut().into()) };
            }
        }
    }
}

/// Waits for something of this member's, and meanwhile counts the session as heard from: its client
/// may well have sent more that cannot be read yet. But not where it is the client that does not
/// read.
async fn keep_alive<T>(
    waiting: impl Future<Output = T>,
    (service, outbox, session_id): (&Service, &Outbox, SessionId),
) -> T {
    tokio::pin!(waiting);
    loop {
        match tokio::time::timeout(Duration::from_millis(KEEP_ALIVE_MS), &mut waiting).await {
            Ok(done) => return done,
            Err(_) if outbox.is_full() => {}
            Err(_) => service.touch(session_id),
        }
    }
}

async fn send(sink: &mut Writer, hello: &ServerHello) -> Result<(), CodecError> {
    let mut bytes = BytesMut::new();
    encode_frame(hello, FRAME_SIZE_MAX, &mut bytes)?;
    sink.write_all(&bytes).await?;
    Ok(sink.flush().await?)
}

/// Sends what is put into the outbox until the connection ends, and then says why.
async fn send_all(mut sink: Writer, outbox: &Outbox) -> Ending {
    let deadline = async {
        outbox.until_closed().await;
        tokio::time::sleep(Duration::from_millis(CLOSE_DEADLINE_MS)).await;
    };
    let sending = async {
        let mut bytes = BytesMut::new();
        while let Some(batch) = outbox.take(BATCH_SIZE).await {
            for outgoing in batch {
                encode(outgoing, &mut bytes)?;
            }
            sink.write_all(&bytes).await?;
            sink.flush().await?;
            bytes.clear();
            if bytes.capacity() > 4 * BATCH_SIZE {
                bytes = BytesMut::new();
            }
        }
        if let Some(Closed::Because(error)) = outbox.closed() {
            encode_frame(&ServerFrame::Closed { error }, FRAME_SIZE_MAX, &mut bytes)?;
            sink.write_all(&bytes).await?;
        }
        sink.shutdown().await?;
        Ok::<_, CodecError>(())
    };
    tokio::select! {
        sent = sending => match sent {
            Ok(()) => Ending::ByMember,
            Err(error) => {
                tracing::debug!(%error, "cannot send");
                Ending::of(&error)
            }
        },
        () = deadline => {
            tracing::debug!("connection ended without taking what was queued");
            Ending::ByMember
        }
    }
}

fn encode(outgoing: Outgoing, bytes: &mut BytesMut) -> Result<(), CodecError> {
    let frame = frame_of(outgoing);
    match (encode_frame(&frame, FRAME_SIZE_MAX, bytes), frame) {
        (Err(CodecError::TooLong { .. }), ServerFrame::Reply { xid, zxid, .. }) => {
            let limit = format!("{FRAME_SIZE_MAX} bytes in a reply");
            let result = Err(CoordinationError::LimitReached { limit });
            encode_frame(&ServerFrame::Reply { xid, zxid, result }, FRAME_SIZE_MAX, bytes)
        }
        (encoded, _) => encoded,
    }
}

fn frame_of(outgoing: Outgoing) -> ServerFrame {
    match outgoing {
        Outgoing::Reply { xid, zxid, result } => {
            ServerFrame::Reply { xid, zxid, result: result.map(response_of) }
        }
        Outgoing::Watch(event) => ServerFrame::Watch(event),
        Outgoing::Snapshot { subscription, zxid, nodes, last } => {
            let nodes = nodes.into_iter().map(|(path, node)| {
                let (data, stat) = (node.data().to_vec(), node.stat());
                SnapshotNode { path, data, stat }
            });
            ServerFrame::Snapshot { subscription, zxid, nodes: nodes.collect(), last }
        }
        Outgoing::Changes { subscription, zxid, changes, last } => {
            let changes = changes.into_iter().map(change_of).collect();
            ServerFrame::Changes { subscription, zxid, changes, last }
        }
    }
}

fn change_of(change: tree::Change) -> Change {
    Change {
        kind: change.kind,
        path: change.path.to_string(),
        data: change.data.into(),
        stat: change.stat,
    }
}

fn response_of(answer: Answer) -> Response {
    match answer {
        Answer::Done => Response::Done,
        Answer::Written(result) => Response::Written(result),
        Answer::Multi(results) => Response::Multi(results),
        Answer::Data(node) => Response::Data { data: node.data().to_vec(), stat: node.stat() },
        Answer::Exists(stat) => Response::Exists(stat),
        Answer::Children(node) => {
            let mut names = Vec::with_capacity(node.children.len());
            node.children.each_name(&mut |name| names.push(name.to_owned()));
            Response::Children { names, stat: node.stat() }
        }
        Answer::Acl(acl, stat) => Response::Acl { acl, stat },
        Answer::Ephemerals(paths) => Response::Ephemerals(paths),
        Answer::Status(status) => Response::Status(status),
        Answer::Subscribed { resumed } => Response::Subscribed { resumed },
        // The answers to what only ZooKeeper's clients ask.
        Answer::Token(_) | Answer::Count(_) | Answer::Identities(_) | Answer::Many(_) => {
            Response::Done
        }
    }
}
