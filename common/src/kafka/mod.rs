//! Kafka's wire protocol.
//!
//! [`messages`] holds a structure for every request, response and stored record of `schema/`, which
//! the build turns into Rust. Around it: [`wire`] the primitives, [`frame`] the delimiting of
//! messages on a connection, [`request`] and [`response`] the headers, [`error_code`] the codes.
//! [`record_batch`], [`records`] and [`compression`] are what topics hold; [`partitioner`] says to
//! which partition a key belongs.
//!
//! Bytes come in as one `Bytes` per frame, which strings, bytes and records keep sharing; they go
//! out as a list of segments, in which large bytes and files are referred to. No byte of a record
//! batch is copied either way.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod admin;
pub mod client;
pub mod cluster;
pub mod compression;
pub mod consumer;
pub mod error_code;
#[cfg(test)]
mod fake_cluster;
pub mod frame;
pub mod membership;
pub mod messages;
pub mod partitioner;
pub mod producer;
pub mod record_batch;
pub mod records;
pub mod request;
pub mod response;
pub mod varint;
pub mod wire;

pub use error_code::ErrorCode;
pub use messages::ApiKey;
pub use request::Request;
pub use response::Response;
pub use wire::{Decode, Encode};
