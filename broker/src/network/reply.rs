//! What a request is answered with, in two stages: what is decided when the handler returns, and
//! what is still waited for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use ottla_common::kafka::frame::EncodedFrame;
use ottla_common::kafka::wire::WireError;

/// A boxed future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The answer to a request whose effects are ordered.
pub enum Reply {
    /// Ready to be sent.
    Now(EncodedFrame),
    /// Waits for something: records to be committed, or to arrive. The future is polled when all
    /// earlier replies of the connection have been sent on, and dropped when the connection closes.
    Later(BoxFuture<Result<EncodedFrame, Close>>),
    /// Nothing is sent (Produce with `acks=0`).
    None,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(frame) => write!(f, "Now({} bytes)", frame.size),
            Self::Later(_) => f.write_str("Later"),
            Self::None => f.write_str("None"),
        }
    }
}

/// Why a connection ends. Replies that were due before are still sent.
#[derive(Debug, thiserror::Error)]
pub enum Close {
    /// The client closed it.
    #[error("closed by the client")]
    ByClient,
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The first bytes are those of another protocol.
    #[error("client speaks {0} to a Kafka listener")]
    OtherProtocol(&'static str),
    /// A request's announced size is impossible.
    #[error("request of {size} bytes, allowed are {min} to {max}")]
    FrameSize {
        /// What the client announced.
        size: i64,
        /// The smallest size that is served.
        min: usize,
        /// The largest size that is served.
        max: usize,
    },
    /// A large request whose first bytes name no API.
    #[error("request of {size} bytes for unknown api {key} version {version}")]
    UnknownApi {
        /// What the client announced.
        size: usize,
        /// The key of the request.
        key: i16,
        /// The version of the request.
        version: i16,
    },
    /// The request has a version that is not served.
    #[error("api {key} version {version} is not served")]
    UnsupportedVersion {
        /// The key of the request.
        key: i16,
        /// The version of the request.
        version: i16,
    },
    /// The request's bytes are not what its version prescribes, or a response cannot be written.
    #[error("malformed message: {0}")]
    Malformed(#[from] WireError),
    /// A deadline passed.
    #[error("{0}")]
    TimedOut(&'static str),
    /// A file that was being sent ended early.
    #[error("log file ended {missing} bytes before the end of a reply")]
    FileEnded {
        /// Bytes that could not be sent.
        missing: usize,
    },
    /// The request asks for what is answered by closing, such as a failed Produce with `acks=0`.
    #[error("{0}")]
    Refused(String),
}

impl Close {
    /// Whether this is how connections normally end, not worth more than a debug line.
    pub fn is_ordinary(&self) -> bool {
        match self {
            Self::ByClient | Self::Stopping | Self::Socket(_) => true,
            Self::TimedOut(_) | Self::OtherProtocol(_) | Self::FrameSize { .. } => false,
            Self::UnknownApi { .. } | Self::UnsupportedVersion { .. } | Self::Malformed(_) => false,
            Self::FileEnded { .. } | Self::Refused(_) => false,
        }
    }
}
