//! Sends replies: what is in memory by vectored writes, what is in log files by `sendfile`, from
//! the page cache to the socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use ottla_common::kafka::frame::EncodedFrame;
use ottla_common::kafka::wire::{FileRegion, Segment};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::reply::Close;
use crate::limits;

/// The writing half of a connection.
#[derive(Debug)]
pub struct FrameWriter {
    /// What is to be sent, and whether it ends a reply.
    pieces: VecDeque<(Segment, bool)>,
    /// Replies not yet sent whole.
    frames: usize,
    /// Bytes of `pieces` that are in memory.
    memory_size: usize,
    /// When the client last accepted a byte, or the queue became non-empty.
    progress_at: Instant,
}

/// A writer with nothing to send.
impl Default for FrameWriter {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), frames: 0, memory_size: 0, progress_at: Instant::now() }
    }
}

impl FrameWriter {
    /// Appends a reply.
    pub fn push(&mut self, frame: EncodedFrame) {
        if self.pieces.is_empty() {
            self.progress_at = Instant::now();
        }
        self.frames += 1;
        let last = frame.segments.len().saturating_sub(1);
        for (index, segment) in frame.segments.into_iter().enumerate() {
            if let Segment::Bytes(bytes) = &segment {
                self.memory_size += bytes.len();
            }
            self.pieces.push_back((segment, index == last));
        }
    }

    /// Whether everything was handed to the kernel.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Replies not yet sent whole.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes in memory that wait to be sent.
    pub fn memory_size(&self) -> usize {
        self.memory_size
    }

    /// When the client last accepted a byte.
    pub fn progress_at(&self) -> Instant {
        self.progress_at
    }

    /// Sends until nothing is left (ready) or the socket takes no more (pending).
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        socket: &TcpStream,
    ) -> Poll<Result<(), Close>> {
        while !self.pieces.is_empty() {
            ready!(socket.poll_write_ready(context))?;
            match socket.try_io(Interest::WRITABLE, || self.write_some(socket)) {
                Ok(Written::Progress) => self.progress_at = Instant::now(),
                Ok(Written::FileEnded { missing }) => {
                    return Poll::Ready(Err(Close::FileEnded { missing }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(Close::Socket(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// One system call's worth.
    fn write_some(&mut self, socket: &TcpStream) -> io::Result<Written> {
        if let Some((Segment::File(region), _)) = self.pieces.front_mut() {
            let sent = send_file(socket, region)?;
            if sent == 0 && region.length > 0 {
                return Ok(Written::FileEnded { missing: region.length });
            }
            region.position += sent as u64;
            region.length = region.length.saturating_sub(sent);
            if region.length == 0 {
                self.pop();
            }
            return Ok(Written::Progress);
        }
        let in_memory = self.pieces.iter().map_while(|(piece, _)| match piece {
            Segment::Bytes(bytes) => Some(IoSlice::new(bytes)),
            Segment::File(_) => None,
        });
        let slices: Vec<_> = in_memory.take(limits::WRITE_PIECES_MAX).collect();
        let has_more = self.pieces.len() > slices.len();
        let sent = send_slices(socket, &slices, has_more)?;
        self.advance(sent);
        Ok(Written::Progress)
    }

    /// Takes `sent` bytes off the pieces in memory at the head.
    fn advance(&mut self, mut sent: usize) {
        self.memory_size = self.memory_size.saturating_sub(sent);
        while let Some((Segment::Bytes(bytes), _)) = self.pieces.front_mut() {
            let part = sent.min(bytes.len());
            bytes.advance(part);
            sent -= part;
            if !bytes.is_empty() {
                break;
            }
            self.pop();
        }
        assert_eq!(sent, 0, "the kernel took more than it was given");
    }

    fn pop(&mut self) {
        if let Some((_, true)) = self.pieces.pop_front() {
            self.frames -= 1;
        }
    }
}

enum Written {
    Progress,
    FileEnded { missing: usize },
}

/// `has_more` keeps the kernel from sending a small packet before the file that follows.
fn send_slices(socket: &TcpStream, slices: &[IoSlice<'_>], has_more: bool) -> io::Result<usize> {
    let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    if has_more {
        flags |= more_follows();
    }
    let mut no_control = SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(socket, slices, &mut no_control, flags)?)
}

#[cfg(target_os = "linux")]
fn more_follows() -> SendFlags {
    SendFlags::MORE
}

#[cfg(not(target_os = "linux"))]
fn more_follows() -> SendFlags {
    SendFlags::empty()
}

#[cfg(target_os = "linux")]
fn send_file(socket: &TcpStream, region: &FileRegion) -> io::Result<usize> {
    let mut position = region.position;
    Ok(rustix::fs::sendfile(socket.as_fd(), &*region.file, Some(&mut position), region.length)?)
}

#[cfg(not(target_os = "linux"))]
fn send_file(socket: &TcpStream, region: &FileRegion) -> io::Result<usize> {
    let bytes = read_region(region)?;
    send_slices(socket, &[IoSlice::new(&bytes)], false)
}

/// The head of a region, at most [`limits::FILE_COPY_SIZE`] bytes of it, for sockets that
/// `sendfile` cannot serve.
pub fn read_region(region: &FileRegion) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; region.length.min(limits::FILE_COPY_SIZE)];
    let read = region.file.read_at(&mut bytes, region.position)?;
    bytes.truncate(read);
    Ok(Bytes::from(bytes))
}
