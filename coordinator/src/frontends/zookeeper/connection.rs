//! A connection that has its session: one task that reads requests, hands them over, and sends what
//! is in the outbox.
//!
//! Each turn of it takes all requests that have been read and are allowed to be in flight, puts all
//! that is in the outbox into one buffer, and writes that at once. A request that needs no waiting
//! is thus read, answered and sent without another task or a queue in between.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ottla_common::coordination::protocol::CoordinationError;
use ottla_common::types::SessionId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::handshake::Opened;
use super::messages::opcode;
use super::reply;
use super::translate::{self, Expected};
use crate::frontends::connections::Registered;
use crate::limits::CLOSE_DEADLINE_MS;
use crate::requests::{Conversation, Service, Submission};
use crate::watches::{ConnectionId, Outbox, Outgoing};

/// How much is put into bytes at once.
const BATCH_SIZE: usize = 256 * 1024;

/// How much is asked of the socket at once.
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    /// Where connections read into, all that a thread runs in turn: one that waits for its client
    /// needs no buffer.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of replies that is longer than this is given back when it is empty.
const KEPT_SIZE_MAX: usize = 4 * 1024;

/// The bytes that a request takes in memory beside its message.
const REQUEST_OVERHEAD: usize = 256;

/// How often a session is counted as heard from while its requests cannot be taken.
const KEEP_ALIVE: Duration = Duration::from_millis(100);

pub struct Connection<S> {
    peer: SocketAddr,
    service: Arc<Service>,
    stream: S,
    conversation: Conversation,
    outbox: Outbox,
    figures: Registered,
    input: Input,
    output: Output,
    /// What the requests in flight are to be answered with, in their order.
    expected: VecDeque<Expected>,
    taken: Vec<Outgoing>,
    requests_ever: u64,
}

/// What has been read.
struct Input {
    bytes: BytesMut,
    is_over: bool,
}

/// What is to be written.
#[derive(Default)]
struct Output {
    bytes: BytesMut,
    /// Whether something was written that the stream may still hold back.
    is_unflushed: bool,
    /// Whether nothing is kept for the next replies.
    rests: bool,
}

/// What a connection's stream has done.
enum Exchanged {
    Read(usize),
    Written,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub fn new(opened: Opened<S>, peer: SocketAddr, service: Arc<Service>) -> Self {
        let Opened { stream, read, conversation, outbox, figures } = opened;
        Self {
            peer,
            service,
            stream,
            conversation,
            outbox,
            figures,
            input: Input { bytes: read, is_over: false },
            output: Output::default(),
            expected: VecDeque::new(),
            taken: Vec::new(),
            requests_ever: 0,
        }
    }

    /// Where the client is, its session and its connection.
    pub fn names(&self) -> (SocketAddr, SessionId, ConnectionId) {
        (self.peer, self.conversation.session_id(), self.conversation.connection_id())
    }

    /// Serves requests until the client leaves or the session ends.
    pub async fn run(&mut self) -> io::Result<()> {
        loop {
            let takes_more = self.take_requests()?;
            if !self.fill_output() {
                return Box::pin(self.finish()).await;
            }
            let is_busy = self.conversation.is_busy();
            if self.input.is_over && !is_busy {
                return Box::pin(self.finish()).await;
            }
            let is_drained = self.output.bytes.len() < BATCH_SIZE;
            let can_read = takes_more && is_drained && !self.input.is_over;
            tokio::select! {
                biased;
                // Its end is found in the outbox.
                _ = self.conversation.advance(), if is_busy => {}
                exchanged = exchange(
                    &mut self.stream,
                    can_read.then_some(&mut self.input),
                    &mut self.output,
                ) => match exchanged? {
                    Exchanged::Read(0) => self.input.is_over = true,
                    Exchanged::Read(_) | Exchanged::Written => {}
                },
                () = self.outbox.until_filled(), if is_drained => {}
                // The client does not take what is there, and its session has ended.
                () = self.outbox.until_closed(), if !is_drained => {
                    return Box::pin(self.finish()).await;
                }
                // It is not the client who is slow, and it may have sent more.
                () = tokio::time::sleep(KEEP_ALIVE), if !takes_more && is_drained => {
                    self.service.touch(self.conversation.session_id());
                }
            }
        }
    }

    /// Hands over the requests that have been read, as far as there is place for them. Returns
    /// whether there is place for more.
    fn take_requests(&mut self) -> io::Result<bool> {
        let size_max = self.service.options().zookeeper.message_size_max;
        let mut now_ms = None;
        loop {
            if !self.conversation.has_place() || self.outbox.is_full() {
                return Ok(false);
            }
            let Some(message) = self.input.message(size_max)? else { return Ok(true) };
            let size = message.len();
            let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let received_ms = *now_ms.get_or_insert_with(|| {
                self.service.touch(self.conversation.session_id());
                self.service.clock().monotonic_ms()
            });
            let (expected, ask) = translate::request(message, received_ms).map_err(malformed)?;
            self.input.bytes.advance(4 + size);
            self.figures.received(expected.op, expected.xid.into());
            self.requests_ever += 1;
            self.expected.push_back(expected);
            self.conversation.submit(Submission {
                xid: self.requests_ever,
                ask,
                size: size + REQUEST_OVERHEAD,
                permit: None,
            });
        }
    }

    /// Puts what is in the outbox into bytes. Returns whether the connection lives on.
    fn fill_output(&mut self) -> bool {
        let clock = self.service.clock();
        while self.output.bytes.len() < BATCH_SIZE {
            let lives = self.outbox.take_now(BATCH_SIZE, &mut self.taken);
            if self.taken.is_empty() {
                self.rest_if_idle();
                return lives;
            }
            let (now_ms, wall_time_ms) = (clock.monotonic_ms(), clock.wall_time_ms());
            self.figures.sent(self.taken.len() as u64);
            for outgoing in self.taken.drain(..) {
                match outgoing {
                    Outgoing::Reply { zxid, result, .. } => {
                        // What became of the request is not known: the client is told so by the
                        // connection's end.
                        if matches!(result, Err(CoordinationError::Unavailable)) {
                            return false;
                        }
                        let Some(expected) = self.expected.pop_front() else { return false };
                        let latency_ms = now_ms.saturating_sub(expected.received_ms);
                        self.figures.answered(zxid.0, latency_ms, wall_time_ms);
                        self.output.rests = expected.op == opcode::PING;
                        reply::put_reply(&expected, zxid, result, &mut self.output.bytes);
                    }
                    Outgoing::Watch(event) => reply::put_event(&event, &mut self.output.bytes),
                    // Only native clients subscribe.
                    Outgoing::Snapshot { .. } | Outgoing::Changes { .. } => {}
                }
            }
        }
        true
    }

    /// Gives memory back when a ping was all that the client had to say: whoever asks much needs it
    /// again at once, and many sessions only ping.
    fn rest_if_idle(&mut self) {
        if !self.output.rests || !self.expected.is_empty() {
            return;
        }
        self.expected = VecDeque::new();
        self.taken = Vec::new();
        self.outbox.rest();
        self.conversation.rest();
    }

    /// Sends what is left, if the client takes it in time.
    async fn finish(&mut self) -> io::Result<()> {
        let sending = async {
            self.stream.write_all(&self.output.bytes).await?;
            self.stream.shutdown().await
        };
        let deadline = Duration::from_millis(CLOSE_DEADLINE_MS);
        tokio::time::timeout(deadline, sending).await.unwrap_or(Ok(()))
    }
}

impl Input {
    /// The first message, if all of it has been read.
    fn message(&self, size_max: usize) -> io::Result<Option<&[u8]>> {
        let Some((length, rest)) = self.bytes.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        match length.filter(|length| *length <= size_max) {
            Some(length) => Ok(rest.get(..length)),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long")),
        }
    }

    /// Reads what there is.
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(READ_SIZE, 0);
            let mut read = ReadBuf::new(buffer);
            let polled = Pin::new(stream).poll_read(context, &mut read)?;
            self.bytes.extend_from_slice(read.filled());
            polled.map(|()| Ok(read.filled().len()))
        })
    }
}

/// Writes what is to be written and reads what can be read, until either is done.
async fn exchange<S>(
    stream: &mut S,
    mut input: Option<&mut Input>,
    output: &mut Output,
) -> io::Result<Exchanged>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|context| {
        let mut was_written = false;
        while !output.bytes.is_empty() {
            match Pin::new(&mut *stream).poll_write(context, &output.bytes)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(size) => {
                    output.bytes.advance(size);
                    output.is_unflushed = true;
                    was_written = output.bytes.is_empty();
                }
                Poll::Pending => break,
            }
        }
        if output.is_unflushed && Pin::new(&mut *stream).poll_flush(context)?.is_ready() {
            output.is_unflushed = false;
        }
        if was_written && (output.rests || output.bytes.capacity() > KEPT_SIZE_MAX) {
            output.bytes = BytesMut::new();
        }
        if let Some(input) = &mut input
            && let Poll::Ready(size) = input.poll_read(stream, context)?
        {
            return Poll::Ready(Ok(Exchanged::Read(size)));
        }
        if was_written { Poll::Ready(Ok(Exchanged::Written)) } else { Poll::Pending }
    })
    .await
}
