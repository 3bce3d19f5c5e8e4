//! A connection to one broker: requests are pipelined and answered in order, versions are
//! negotiated when it is made, and what is not answered in time ends it.
//!
//! A broker answers the requests of one connection in the order in which they came, so what is in
//! flight is a queue: each answer belongs to its first element, and its correlation id is compared
//! only to be sure. The queue is bounded; who asks for more waits. The number of bytes that wait to
//! be written is bounded by that too, times the size of a request.
//!
//! [`Connection::send`] asks and waits; [`Connection::dispatch`] asks and hands back the answer to
//! come, so that one who must keep an order (a producer, a fetcher) can have many in flight.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod connection;
mod error;
mod transport;
mod versions;

pub use connection::{Connection, Pending};
pub use error::ClientError;
pub use versions::ApiVersionRanges;

/// How a client's connections behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// What the client calls itself in every request: brokers log it, and quotas go by it.
    pub client_id: String,
    /// The name of the software, as ApiVersions tells it (KIP-511).
    pub software_name: String,
    /// The software's version.
    pub software_version: String,
    /// Patience with making a connection, negotiation included, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Patience with an answer, in milliseconds. What takes longer ends the connection, since every
    /// later answer would have to wait too.
    pub request_timeout_ms: u64,
    /// How many requests may wait for their answers on one connection.
    pub in_flight_max: usize,
    /// The largest answer that is accepted, in bytes.
    pub response_bytes_max: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_id: "ottla".to_owned(),
            software_name: "ottla".to_owned(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            connect_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            in_flight_max: 64,
            response_bytes_max: 256 << 20,
        }
    }
}

impl ClientOptions {
    /// The defaults, under this name.
    pub fn named(client_id: impl Into<String>) -> Self {
        Self { client_id: client_id.into(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
