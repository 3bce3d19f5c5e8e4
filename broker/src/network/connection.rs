//! One client's connection, as one task: read, dispatch in order, send replies in order.
//!
//! The task is one hand-written `poll`, since its four activities (a request being dispatched, a
//! reply being waited for, bytes going out, bytes coming in) touch the same state, and since a
//! reply that is ready at once then leaves without any task being woken.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_common::kafka::frame::EncodedFrame;
use ottla_common::kafka::request::{RequestHeader, decode_header};
use ottla_common::kafka::wire::{Reader, Segment};
use ottla_common::shutdown::Shutdown;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::frame_reader::FrameReader;
use super::frame_writer::FrameWriter;
use super::memory::{MemoryBudget, Reservation};
use super::reply::{BoxFuture, Close, Reply};
use super::{ConnectionInfo, Dispatch};
use crate::limits;

/// What a connection is held to.
#[derive(Clone, Debug)]
pub struct ConnectionRules {
    /// `socket.request.max.bytes`.
    pub frame_size_max: usize,
    /// Requests under way; then the client is not read from.
    pub in_flight_max: usize,
    /// `connections.max.idle.ms`.
    pub idle_timeout: Duration,
    /// See [`limits::FIRST_BYTE_TIMEOUT`].
    pub first_byte_timeout: Duration,
    /// See [`limits::FRAME_TIMEOUT`].
    pub frame_timeout: Duration,
    /// See [`limits::WRITE_STALL_TIMEOUT`].
    pub write_stall_timeout: Duration,
}

impl Default for ConnectionRules {
    fn default() -> Self {
        Self {
            frame_size_max: limits::FRAME_SIZE_MAX,
            in_flight_max: limits::IN_FLIGHT_MAX,
            idle_timeout: limits::IDLE_TIMEOUT,
            first_byte_timeout: limits::FIRST_BYTE_TIMEOUT,
            frame_timeout: limits::FRAME_TIMEOUT,
            write_stall_timeout: limits::WRITE_STALL_TIMEOUT,
        }
    }
}

/// Serves a connection until it ends, and says why it ended.
pub async fn run<D: Dispatch>(
    socket: TcpStream,
    info: Arc<ConnectionInfo>,
    dispatch: Arc<D>,
    rules: (ConnectionRules, MemoryBudget, Shutdown),
) -> Close {
    let (rules, budget, shutdown) = rules;
    let mut connection = Connection::new(socket, Arc::clone(&info), rules, &budget);
    let start = |header, body| dispatch.dispatch(&info, header, body);
    let mut dispatching = pin!(None);
    let mut stopped = pin!(shutdown.stopped());
    let mut is_stopping = false;
    poll_fn(|context| {
        if !is_stopping && stopped.as_mut().poll(context).is_ready() {
            is_stopping = true;
            connection.close(Close::Stopping);
        }
        connection.poll(context, dispatching.as_mut(), &start)
    })
    .await
}

/// A request that was dispatched and whose reply has not been given to the writer.
struct Waiting {
    reply: WaitingReply,
    /// Given back with the reply.
    _reservation: Reservation,
}

enum WaitingReply {
    Ready(EncodedFrame),
    Pending(BoxFuture<Result<EncodedFrame, Close>>),
}

/// What it takes to dispatch the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// More of it has to be read.
    Bytes,
    /// Replies have to leave first.
    Room,
    /// The client has to wait, since it used more than its quota.
    Silence,
    /// A handler, or the memory budget, wakes the task; or nothing more is dispatched.
    Wakeup,
}

struct Connection {
    socket: TcpStream,
    info: Arc<ConnectionInfo>,
    reader: FrameReader,
    writer: FrameWriter,
    /// In the order of the requests.
    waiting: VecDeque<Waiting>,
    /// Bytes in memory of the ready replies in `waiting`.
    waiting_size: usize,
    /// Of the request that is being dispatched.
    reservation: Reservation,
    rules: ConnectionRules,
    timer: Pin<Box<Sleep>>,
    accepted_at: Instant,
    /// When a request last came or a reply last became due.
    active_at: Instant,
    /// Set when nothing more is read; what is due is still sent until then.
    closing: Option<(Close, Instant)>,
}

/// How much is done before other tasks get their turn.
const ROUNDS_PER_POLL: usize = 32;

impl Connection {
    fn new(
        socket: TcpStream,
        info: Arc<ConnectionInfo>,
        rules: ConnectionRules,
        budget: &MemoryBudget,
    ) -> Self {
        let now = Instant::now();
        Self {
            socket,
            info,
            reader: FrameReader::new(rules.frame_size_max, budget.account()),
            writer: FrameWriter::default(),
            waiting: VecDeque::new(),
            waiting_size: 0,
            reservation: Reservation::default(),
            timer: Box::pin(sleep_until(now + rules.first_byte_timeout)),
            rules,
            accepted_at: now,
            active_at: now,
            closing: None,
        }
    }

    /// Stops reading. What is due is still sent, for a short while.
    fn close(&mut self, close: Close) {
        if self.closing.is_none() {
            self.closing = Some((close, Instant::now() + limits::CLOSING_TIMEOUT));
        }
    }

    /// Does whatever can be done now. Ready when the connection is over.
    fn poll<F, S>(
        &mut self,
        context: &mut Context<'_>,
        mut dispatching: Pin<&mut Option<F>>,
        start: &S,
    ) -> Poll<Close>
    where
        F: Future<Output = Result<Reply, Close>>,
        S: Fn(RequestHeader, Reader) -> F,
    {
        for _ in 0..ROUNDS_PER_POLL {
            let next = self.poll_dispatch(context, dispatching.as_mut(), start);
            self.poll_waiting(context);
            if let Poll::Ready(Err(close)) = self.writer.poll_write(context, &self.socket) {
                return Poll::Ready(close);
            }
            if let Some(close) = self.finished(dispatching.is_some(), next) {
                return Poll::Ready(close);
            }
            match next {
                Next::Bytes => {}
                // Sending made room for requests that are already here.
                Next::Room if self.has_room() => continue,
                Next::Silence if self.has_left(context) => return Poll::Ready(Close::ByClient),
                Next::Room | Next::Silence | Next::Wakeup => {
                    self.reader.pause();
                    let polled = self.poll_timer(context);
                    // The silence may have ended before the timer was set to its end.
                    if next == Next::Silence && self.muted_until().is_none() {
                        context.waker().wake_by_ref();
                    }
                    return polled;
                }
            }
            self.reader.resume();
            match self.reader.poll_read(context, &mut self.socket) {
                Poll::Pending => return self.poll_timer(context),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Close::Socket(error))) => return Poll::Ready(error.into()),
                Poll::Ready(Err(close)) => self.close(close),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Dispatches the requests that are here, as far as there is room. Returns what it takes to go
    /// on.
    fn poll_dispatch<F, S>(
        &mut self,
        context: &mut Context<'_>,
        mut dispatching: Pin<&mut Option<F>>,
        start: &S,
    ) -> Next
    where
        F: Future<Output = Result<Reply, Close>>,
        S: Fn(RequestHeader, Reader) -> F,
    {
        loop {
            if let Some(future) = dispatching.as_mut().as_pin_mut() {
                let Poll::Ready(result) = future.poll(context) else { return Next::Wakeup };
                dispatching.set(None);
                self.accept(result);
            }
            if self.closing.is_some() {
                return Next::Wakeup;
            }
            if !self.has_room() {
                return Next::Room;
            }
            if self.muted_until().is_some() {
                return Next::Silence;
            }
            let frame = match self.reader.poll_frame(context) {
                Poll::Pending => return Next::Wakeup,
                Poll::Ready(Ok(None)) => return Next::Bytes,
                Poll::Ready(Ok(Some(frame))) => frame,
                Poll::Ready(Err(close)) => {
                    self.close(close);
                    return Next::Wakeup;
                }
            };
            self.active_at = Instant::now();
            self.reservation = frame.reservation;
            let mut body = Reader::new(frame.bytes);
            match decode_header(&mut body) {
                Ok(header) => dispatching.set(Some(start(header, body))),
                Err(error) => self.close(error.into()),
            }
        }
    }

    /// Takes what a handler returned.
    fn accept(&mut self, result: Result<Reply, Close>) {
        let reservation = std::mem::take(&mut self.reservation);
        let reply = match result {
            Ok(Reply::None) => return,
            Ok(Reply::Now(frame)) if self.waiting.is_empty() => {
                self.writer.push(frame);
                return;
            }
            Ok(Reply::Now(frame)) => {
                self.waiting_size += memory_size(&frame);
                // A ready reply holds nothing of the request.
                self.waiting.push_back(Waiting {
                    reply: WaitingReply::Ready(frame),
                    _reservation: Reservation::default(),
                });
                return;
            }
            Ok(Reply::Later(future)) => WaitingReply::Pending(future),
            Err(close) => return self.close(close),
        };
        self.waiting.push_back(Waiting { reply, _reservation: reservation });
    }

    /// Gives the replies that are ready to the writer, in order.
    fn poll_waiting(&mut self, context: &mut Context<'_>) {
        while let Some(waiting) = self.waiting.front_mut() {
            if let WaitingReply::Pending(future) = &mut waiting.reply {
                match future.as_mut().poll(context) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(frame)) => {
                        self.waiting_size += memory_size(&frame);
                        waiting.reply = WaitingReply::Ready(frame);
                    }
                    Poll::Ready(Err(close)) => {
                        self.waiting.clear();
                        return self.close(close);
                    }
                }
            }
            if let Some(Waiting { reply: WaitingReply::Ready(frame), .. }) =
                self.waiting.pop_front()
            {
                self.waiting_size = self.waiting_size.saturating_sub(memory_size(&frame));
                self.active_at = Instant::now();
                self.writer.push(frame);
            }
        }
    }

    /// Whether another request may be started.
    fn has_room(&self) -> bool {
        self.waiting.len() + self.writer.frames() < self.rules.in_flight_max
            && self.waiting_size + self.writer.memory_size() < limits::REPLY_SIZE_QUEUED_MAX
    }

    /// Until when the client has to wait, if it has to.
    fn muted_until(&self) -> Option<Instant> {
        self.info.muted_until().filter(|until| *until > Instant::now())
    }

    /// Whether a client that is not read from has closed its side. One that sent more before is not
    /// found out until that is read.
    fn has_left(&self, context: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let peeked = self.socket.poll_peek(context, &mut ReadBuf::new(&mut byte));
        matches!(peeked, Poll::Ready(Ok(0) | Err(_)))
    }

    /// Why the connection is over, if it is.
    fn finished(&mut self, is_busy: bool, next: Next) -> Option<Close> {
        if next == Next::Bytes && self.reader.has_ended() {
            return Some(Close::ByClient);
        }
        let is_idle = !is_busy && self.waiting.is_empty() && self.writer.is_empty();
        if is_idle { self.closing.take().map(|(close, _)| close) } else { None }
    }

    /// The next deadline and what is missed if it passes.
    fn deadline(&self) -> Option<(Instant, &'static str)> {
        if let Some((_, deadline)) = &self.closing {
            return Some((*deadline, "replies did not leave in time before closing"));
        }
        let has_output = !self.writer.is_empty();
        let stalled = has_output.then(|| {
            let deadline = self.writer.progress_at() + self.rules.write_stall_timeout;
            (deadline, "client does not read its replies")
        });
        let partial = self.reader.deadline(self.rules.frame_timeout);
        let partial = partial.filter(|_| !self.reader.is_paused());
        let partial = partial.map(|deadline| (deadline, "request did not arrive in time"));
        let silent = (!self.reader.has_received()).then(|| {
            let deadline = self.accepted_at + self.rules.first_byte_timeout;
            (deadline, "client sent nothing")
        });
        let is_idle = !has_output && self.waiting.is_empty() && !self.reader.is_paused();
        // To wait for one's quota is not to idle. A timeout that is too long to be a time is none.
        let active_at = self.info.muted_until().map_or(self.active_at, |at| at.max(self.active_at));
        let idle_at = active_at.checked_add(self.rules.idle_timeout).filter(|_| is_idle);
        let idle = idle_at.map(|deadline| (deadline, "connection was idle for too long"));
        [stalled, partial, silent, idle].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Ends the connection when a deadline has passed, and goes on when the client has waited for
    /// its quota; otherwise sees to it that the task is woken at the next of these. The timer is
    /// moved only to an earlier time: later ones are found when it fires.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Close> {
        let deadline = self.deadline();
        let due = deadline.map(|(at, _)| at).into_iter().chain(self.muted_until()).min();
        let Some(due) = due else { return Poll::Pending };
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if let Some((_, what)) = deadline.filter(|(at, _)| *at <= now) {
                let closing = self.closing.take().map(|(close, _)| close);
                return Poll::Ready(closing.unwrap_or(Close::TimedOut(what)));
            }
            if due <= now {
                // The client is read from again.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// Bytes of a reply that are in memory.
fn memory_size(frame: &EncodedFrame) -> usize {
    let in_memory = frame.segments.iter().map(|segment| match segment {
        Segment::Bytes(bytes) => bytes.len(),
        Segment::File(_) => 0,
    });
    in_memory.sum()
}
