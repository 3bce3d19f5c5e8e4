//! The bytes of a connection, whether they go over the wire as they are or through TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

/// A connection's bytes in both directions.
#[derive(Debug)]
pub enum Stream {
    /// Straight over TCP.
    Plain(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the client sends.
#[derive(Debug)]
pub enum Reader {
    /// Straight over TCP.
    Plain(OwnedReadHalf),
    /// Through TLS.
    Tls(ReadHalf<Box<TlsStream<TcpStream>>>),
}

/// What the client is sent.
#[derive(Debug)]
pub enum Writer {
    /// Straight over TCP.
    Plain(OwnedWriteHalf),
    /// Through TLS.
    Tls(WriteHalf<Box<TlsStream<TcpStream>>>),
}

impl Stream {
    /// Parts the directions, so that two tasks can have one each.
    pub fn into_split(self) -> (Reader, Writer) {
        match self {
            Self::Plain(stream) => {
                let (reader, writer) = stream.into_split();
                (Reader::Plain(reader), Writer::Plain(writer))
            }
            Self::Tls(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                (Reader::Tls(reader), Writer::Tls(writer))
            }
        }
    }
}

/// Hands a poll on to the variant's stream.
macro_rules! pass_on {
    ($self:ident, $poll:ident, $context:ident $(, $argument:ident)*) => {
        match $self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).$poll($context $(, $argument)*),
            Self::Tls(stream) => Pin::new(stream).$poll($context $(, $argument)*),
        }
    };
}

macro_rules! impl_read {
    ($name:ty) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                pass_on!(self, poll_read, context, buffer)
            }
        }
    };
}

macro_rules! impl_write {
    ($name:ty) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                pass_on!(self, poll_write, context, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                pass_on!(self, poll_write_vectored, context, slices)
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(stream) => stream.is_write_vectored(),
                    Self::Tls(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                pass_on!(self, poll_flush, context)
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                pass_on!(self, poll_shutdown, context)
            }
        }
    };
}

impl_read!(Stream);
impl_read!(Reader);
impl_write!(Stream);
impl_write!(Writer);
