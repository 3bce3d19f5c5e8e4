//! Cuts what a client sends into requests.
//!
//! One buffer is read into; a complete request is split off without copying (small ones are copied,
//! so that they do not keep the buffer). Room for a large request is made as its bytes arrive: for
//! four times what came, or twice the largest request that this connection completed. A steady
//! producer of large batches therefore gets room for the whole request at once, and a client that
//! announces much and sends little gets little.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_common::kafka::ApiKey;
use tokio::io::AsyncRead;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::memory::{MemoryAccount, Reservation};
use super::reply::Close;
use crate::limits;

/// The 4 bytes of the size before each request.
const SIZE_SIZE: usize = 4;

/// One request's bytes, header and body, and the memory that they are accounted for with.
#[derive(Debug)]
pub struct Frame {
    /// What follows the size.
    pub bytes: Bytes,
    /// To be dropped when the request is no longer under way.
    pub reservation: Reservation,
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    account: MemoryAccount,
    reservation: Reservation,
    frame_size_max: usize,
    /// The size of the largest request completed so far; 0 = none yet.
    largest: usize,
    /// When the first byte of the incomplete request came.
    started_at: Option<Instant>,
    paused_at: Option<Instant>,
    received: bool,
    ended: bool,
}

impl FrameReader {
    /// A reader that refuses requests of more than `frame_size_max` bytes.
    pub fn new(frame_size_max: usize, account: MemoryAccount) -> Self {
        Self {
            buffer: BytesMut::new(),
            account,
            reservation: Reservation::default(),
            frame_size_max,
            largest: 0,
            started_at: None,
            paused_at: None,
            received: false,
            ended: false,
        }
    }

    /// Whether any byte ever came.
    pub fn has_received(&self) -> bool {
        self.received
    }

    /// Whether the client will send nothing more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// When the request that is arriving must be complete.
    pub fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let earned = Duration::from_secs(self.buffer.len() as u64 / limits::FRAME_RATE_MIN);
        self.started_at.map(|started_at| started_at + timeout + earned)
    }

    /// Says that the client is not being read from: its deadline stands still.
    pub fn pause(&mut self) {
        self.paused_at.get_or_insert_with(Instant::now);
    }

    /// Whether the client is not being read from.
    pub fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// Says that the client is being read from again.
    pub fn resume(&mut self) {
        if let Some(paused_at) = self.paused_at.take() {
            self.started_at = self.started_at.map(|started_at| started_at + paused_at.elapsed());
        }
    }

    /// The next complete request, `None` if more has to be read first; pending while its memory is
    /// not to be had.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame>, Close>> {
        let size = match self.announced() {
            Ok(Some(size)) if self.buffer.len() >= SIZE_SIZE + size => size,
            Ok(_) => return Poll::Ready(Ok(None)),
            Err(close) => return Poll::Ready(Err(close)),
        };
        if size > limits::FRAME_COPY_SIZE_MAX {
            ready!(self.account.poll_grow(context, &mut self.reservation, size));
        }
        self.buffer.advance(SIZE_SIZE);
        let bytes = if size > limits::FRAME_COPY_SIZE_MAX {
            self.buffer.split_to(size).freeze()
        } else {
            self.buffer.copy_to_bytes_of(size)
        };
        if size > limits::READ_SIZE && self.buffer.is_empty() {
            // Or the buffer would take the request's room back once it is free, and keep it.
            self.buffer = BytesMut::new();
        }
        self.largest = self.largest.max(size);
        self.started_at = (!self.buffer.is_empty()).then(Instant::now);
        Poll::Ready(Ok(Some(Frame { bytes, reservation: mem::take(&mut self.reservation) })))
    }

    /// Reads what is there. Ready when something came or the client ended.
    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<Result<(), Close>> {
        let total = match self.announced() {
            Ok(size) => size.map(|size| SIZE_SIZE + size),
            Err(close) => return Poll::Ready(Err(close)),
        };
        let length = self.buffer.len();
        let limit = match total {
            Some(total) if total > limits::READ_SIZE => {
                let trusted = limits::READ_SIZE.max(2 * self.largest).max(4 * length);
                let goal = total.min(trusted);
                ready!(self.account.poll_grow(context, &mut self.reservation, goal));
                self.make_room(goal - length, goal - length);
                goal - length
            }
            _ => {
                let missing = total.unwrap_or(0).saturating_sub(length);
                self.make_room(missing.max(limits::READ_SIZE_MIN), limits::READ_SIZE);
                (self.buffer.capacity() - length).min(limits::READ_SIZE)
            }
        };
        let mut target = (&mut self.buffer).limit(limit);
        let read = ready!(poll_read_buf(Pin::new(socket), context, &mut target))?;
        self.ended = read == 0;
        if read > 0 {
            self.received = true;
            self.started_at.get_or_insert_with(Instant::now);
        }
        Poll::Ready(Ok(()))
    }

    /// Sees to it that the buffer has room for `least` more bytes; if not, makes room for `more`.
    fn make_room(&mut self, least: usize, more: usize) {
        if self.buffer.capacity() - self.buffer.len() < least {
            self.buffer.reserve(more.max(least));
        }
    }

    /// The size of the request at the head of the buffer, checked, once that much is known.
    fn announced(&self) -> Result<Option<usize>, Close> {
        let mut head = self.buffer.as_ref();
        if self.largest == 0 {
            check_hello(head)?;
        }
        let Ok(announced) = head.try_get_i32() else { return Ok(None) };
        let (min, max) = (limits::FRAME_SIZE_MIN, self.frame_size_max);
        let size = usize::try_from(announced).ok().filter(|size| (min..=max).contains(size));
        let Some(size) = size else {
            return Err(Close::FrameSize { size: i64::from(announced), min, max });
        };
        if size > limits::UNCHECKED_FRAME_SIZE_MAX {
            let (Ok(key), Ok(version)) = (head.try_get_i16(), head.try_get_i16()) else {
                return Ok(None);
            };
            check_api(size, key, version)?;
        }
        Ok(Some(size))
    }
}

/// Tells the protocols that find a Kafka port by mistake, for a message that helps.
fn check_hello(head: &[u8]) -> Result<(), Close> {
    let protocol = match head.get(..4) {
        Some([0x15 | 0x16, 0x03, ..]) => "TLS",
        Some(b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" | b"DELE" | b"CONN" | b"PRI ") => {
            "HTTP"
        }
        Some(b"SSH-") => "SSH",
        _ => return Ok(()),
    };
    Err(Close::OtherProtocol(protocol))
}

/// Checks the header of a request that is too large to be let in unseen.
fn check_api(size: usize, key: i16, version: i16) -> Result<(), Close> {
    match ApiKey::try_from(key) {
        Ok(api) if api.has_version(version) || api == ApiKey::ApiVersions => Ok(()),
        _ => Err(Close::UnknownApi { size, key, version }),
    }
}

/// Copying a head off a buffer.
trait CopyToBytes {
    fn copy_to_bytes_of(&mut self, size: usize) -> Bytes;
}

impl CopyToBytes for BytesMut {
    /// The first `size` bytes as an allocation of their own (`copy_to_bytes` would share).
    fn copy_to_bytes_of(&mut self, size: usize) -> Bytes {
        let bytes = Bytes::copy_from_slice(self.get(..size).unwrap_or_default());
        self.advance(size);
        bytes
    }
}
