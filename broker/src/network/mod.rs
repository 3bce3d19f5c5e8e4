//! The broker's side of a client's socket: accept, read requests, hand them over in order, send the
//! replies in order.
//!
//! - [`listener`] accepts, within limits;
//! - [`connection`] runs one connection, as one task, with [`frame_reader`] for what comes and
//!   [`frame_writer`] for what goes;
//! - [`memory`] bounds what all requests under way take together;
//! - [`reply`] is what a request may be answered with.
//!
//! Nothing here knows an API. Whoever serves requests implements [`Dispatch`].
//!
//! # Order
//!
//! A connection's requests are given to [`Dispatch::dispatch`] one after the other: the next one
//! only when the last returned. So whatever a handler does before it returns is done in the order
//! in which the client asked. It may return a [`Reply::Later`] whose future only *waits*; then the
//! next request starts at once. Replies leave in the order of the requests, whatever the order in
//! which they are ready.
//!
//! # Why no queue grows
//!
//! A connection stops reading while it is muted, since its client used more than its quota; and
//! while it has as many requests under way, or as many bytes of replies waiting, as
//! [`limits`](crate::limits) allow; its reader holds at most one incomplete request; and the bytes
//! of all requests together come out of one budget, taken as they arrive.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod accept_rate;
pub mod connection;
pub mod frame_reader;
pub mod frame_writer;
pub mod listener;
pub mod memory;
pub mod reply;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ottla_common::kafka::request::RequestHeader;
use ottla_common::kafka::wire::Reader;
use ottla_common::types::BrokerId;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use reply::{Close, Reply};

/// The client's software as it named itself in ApiVersions (KIP-511).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSoftware {
    /// For example `apache-kafka-java`.
    pub name: String,
    /// For example `4.4.0`.
    pub version: String,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Unique among the connections of its listener.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The name of the listener that it came through.
    pub listener: Arc<str>,
    /// Known after the first ApiVersions request that says it.
    pub client_software: OnceLock<ClientSoftware>,
    /// The broker at the other end, once it has proved to be one.
    pub peer_broker: OnceLock<BrokerId>,
    /// How far such a proof has come.
    pub proof: Mutex<Proof>,
    /// Until when nothing more is read from the client, since it used more than it may (KIP-219).
    pub muted_until: Mutex<Option<Instant>>,
    /// Whatever whoever serves the requests keeps for this connection; it goes with it.
    pub attachment: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

/// The longest that a connection is muted, which nobody sees the end of.
const MUTED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl ConnectionInfo {
    /// Reads nothing more from the client for that long at least. What is under way goes on.
    pub fn mute(&self, length: Duration) {
        let until = Instant::now() + length.min(MUTED_MAX);
        let mut muted_until = self.muted_until.lock();
        *muted_until = Some(muted_until.map_or(until, |known| known.max(until)));
    }

    /// Until when it is muted, or was.
    pub fn muted_until(&self) -> Option<Instant> {
        *self.muted_until.lock()
    }
}

/// How far a broker at the other end has come with proving that it is one.
#[derive(Debug, Default)]
pub enum Proof {
    /// It has not begun.
    #[default]
    None,
    /// It has said that it will.
    Announced,
    /// It was given a challenge: who it says it is, and what both sides have said.
    Challenged {
        /// Who it says it is.
        peer: BrokerId,
        /// What its answer has to fit to.
        transcript: Vec<u8>,
    },
}

/// What serves the requests of a listener's connections.
pub trait Dispatch: Send + Sync + 'static {
    /// Serves one request, whose `body` stands right behind the header. When the returned future
    /// completes, the order of the request's effects is fixed, and the connection's next request is
    /// dispatched.
    fn dispatch(
        &self,
        connection: &Arc<ConnectionInfo>,
        header: RequestHeader,
        body: Reader,
    ) -> impl Future<Output = Result<Reply, Close>> + Send;
}
