//! The two tasks of a connection, and the queue of what is in flight between them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::ClientOptions;
use super::error::ClientError;
use crate::kafka::frame::{EncodedFrame, FrameCodec};
use crate::kafka::wire::Segment;

/// How many bytes the writer collects before it writes them.
const WRITE_BYTES: usize = 1 << 20;

/// A request that was or will be written, and waits for its answer.
pub(super) struct InFlight {
    pub correlation_id: i32,
    pub api: &'static str,
    pub deadline: Instant,
    pub answer: oneshot::Sender<Result<Bytes, ClientError>>,
    /// The place in the queue that the request takes; it is free again when this is dropped.
    pub _place: OwnedSemaphorePermit,
}

/// What the two tasks and the connection's handles share.
pub(super) struct Shared {
    pub address: String,
    state: Mutex<State>,
    /// Patience with every answer.
    pub request_timeout: Duration,
    /// Stops both tasks.
    pub stop: CancellationToken,
}

struct State {
    next_correlation_id: i32,
    in_flight: VecDeque<InFlight>,
    to_write: Option<mpsc::UnboundedSender<EncodedFrame>>,
    /// Why the connection ended.
    failure: Option<String>,
}

impl Shared {
    /// Starts the tasks of a connection over `stream`.
    pub fn start<S>(address: String, stream: S, options: &ClientOptions) -> Arc<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        // Bounded by the places in flight: each request in it holds one.
        let (to_write, requests) = mpsc::unbounded_channel();
        let shared = Arc::new(Self {
            address,
            state: Mutex::new(State {
                next_correlation_id: 0,
                in_flight: VecDeque::new(),
                to_write: Some(to_write),
                failure: None,
            }),
            request_timeout: Duration::from_millis(options.request_timeout_ms),
            stop: CancellationToken::new(),
        });
        let (read_half, write_half) = tokio::io::split(stream);
        let frames = FramedRead::new(read_half, FrameCodec::new(options.response_bytes_max));
        tokio::spawn(read_answers(Arc::clone(&shared), frames));
        tokio::spawn(write_requests(Arc::clone(&shared), write_half, requests));
        shared
    }

    /// Puts a request into the queue, and its bytes on their way, in one step, so that the order of
    /// both is the same. `encode` is given the correlation id.
    ///
    /// # Errors
    /// If the connection has ended, or the request cannot be encoded; then nothing happened.
    pub fn enqueue(
        &self,
        api: &'static str,
        encode: impl FnOnce(i32) -> Result<EncodedFrame, ClientError>,
        in_flight: impl FnOnce(i32) -> Option<InFlight>,
    ) -> Result<(), ClientError> {
        let mut state = self.state.lock();
        let Some(to_write) = &state.to_write else {
            return Err(self.disconnected(api, state.failure.as_deref()));
        };
        let correlation_id = state.next_correlation_id;
        let frame = encode(correlation_id)?;
        if to_write.send(frame).is_err() {
            return Err(self.disconnected(api, state.failure.as_deref()));
        }
        state.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        state.in_flight.extend(in_flight(correlation_id));
        Ok(())
    }

    /// Whether no request can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.state.lock().to_write.is_none()
    }

    /// Ends the connection, and fails what was in flight.
    pub fn fail(&self, reason: &str) {
        let mut state = self.state.lock();
        state.to_write = None;
        state.failure.get_or_insert_with(|| reason.to_owned());
        let lost = std::mem::take(&mut state.in_flight);
        drop(state);
        self.stop.cancel();
        for request in lost {
            let _ = request.answer.send(Err(self.disconnected(request.api, Some(reason))));
        }
    }

    fn disconnected(&self, api: &'static str, reason: Option<&str>) -> ClientError {
        let reason = reason.unwrap_or("it was closed").to_owned();
        ClientError::Disconnected { address: self.address.clone(), api, reason }
    }

    /// The deadline of the request that must be answered next.
    fn deadline(&self) -> Option<Instant> {
        self.state.lock().in_flight.front().map(|request| request.deadline)
    }

    /// Ends the connection because its first request was not answered in time.
    fn time_out(&self) {
        let first = self.state.lock().in_flight.pop_front();
        if let Some(first) = first {
            let api = first.api;
            let timeout_ms = u64::try_from(self.request_timeout.as_millis()).unwrap_or(u64::MAX);
            let address = self.address.clone();
            let _ = first.answer.send(Err(ClientError::TimedOut { address, api, timeout_ms }));
            self.fail(&format!("{api} was not answered within {timeout_ms} ms"));
        }
    }

    /// Hands an answer to the request that it belongs to.
    fn deliver(&self, frame: Bytes) -> Result<(), &'static str> {
        let correlation_id = frame.first_chunk().copied().map(i32::from_be_bytes);
        let correlation_id = correlation_id.ok_or("an answer has no header")?;
        let first = self.state.lock().in_flight.pop_front();
        let first = first.ok_or("an answer came that nobody asked for")?;
        if first.correlation_id != correlation_id {
            let reason = "an answer came with the correlation id of another request";
            let _ = first.answer.send(Err(self.disconnected(first.api, Some(reason))));
            return Err(reason);
        }
        // Who asked may have gone away.
        let _ = first.answer.send(Ok(frame));
        Ok(())
    }
}

async fn read_answers<R>(shared: Arc<Shared>, mut frames: FramedRead<R, FrameCodec>)
where
    R: AsyncRead + Unpin,
{
    let timer = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(timer);
    // The timer is set only when it has run out, not for each request. It never waits longer than
    // one timeout, so it cannot oversleep the deadline of a request that came meanwhile.
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return shared.fail("it was closed"),
            () = &mut timer => match shared.deadline() {
                Some(deadline) if deadline <= Instant::now() => return shared.time_out(),
                Some(deadline) => timer.as_mut().reset(deadline),
                None => timer.as_mut().reset(Instant::now() + shared.request_timeout),
            },
            frame = frames.next() => {
                let reason = match frame {
                    Some(Ok(frame)) => match shared.deliver(frame) {
                        Ok(()) => continue,
                        Err(reason) => reason.to_owned(),
                    },
                    Some(Err(error)) => error.to_string(),
                    None => "the broker closed it".to_owned(),
                };
                return shared.fail(&reason);
            }
        }
    }
}

async fn write_requests<W>(
    shared: Arc<Shared>,
    mut writer: W,
    mut requests: mpsc::UnboundedReceiver<EncodedFrame>,
) where
    W: AsyncWrite + Unpin,
{
    loop {
        let first = tokio::select! {
            () = shared.stop.cancelled() => return,
            first = requests.recv() => first,
        };
        let Some(first) = first else {
            return;
        };
        let mut outgoing = Outgoing::default();
        outgoing.push(first);
        while outgoing.remaining < WRITE_BYTES
            && let Ok(next) = requests.try_recv()
        {
            outgoing.push(next);
        }
        let written = tokio::select! {
            () = shared.stop.cancelled() => return,
            written = writer.write_all_buf(&mut outgoing) => written,
        };
        if let Err(error) = written {
            return shared.fail(&error.to_string());
        }
    }
}

/// Segments to be written, which one vectored write takes together.
#[derive(Default)]
struct Outgoing {
    segments: VecDeque<Bytes>,
    remaining: usize,
}

impl Outgoing {
    fn push(&mut self, frame: EncodedFrame) {
        for segment in frame.segments {
            // A client sends nothing from files; `enqueue` has refused them.
            if let Segment::Bytes(bytes) = segment {
                self.remaining += bytes.len();
                self.segments.push_back(bytes);
            }
        }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&[], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.segments);
        pairs.map(|(slice, segment)| *slice = IoSlice::new(segment)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining -= count;
        while let Some(first) = self.segments.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.segments.pop_front();
        }
    }
}
