//! The messages of Kafka's protocol, generated from `schema/` by `codegen/`.
//!
//! `messages::produce::ProduceRequest` is the request of the API Produce, `produce::request::…` and
//! `produce::response::…` are the structures inside; `messages::records::…` is what is stored.
//! Field names and types are those of the schema, `?` became `Option`. Structures of messages with
//! flexible versions also keep the tagged fields that the schema does not know.

// Versions are compared as the schema has them; not every structure needs to know its version.
#![allow(clippy::nonminimal_bool, unused_variables)]

/// What the generated modules use.
mod prelude {
    pub(super) use bytes::Bytes;

    pub(super) use super::ApiKey;
    pub(super) use crate::kafka::request::Request;
    pub(super) use crate::kafka::response::Response;
    pub(super) use crate::kafka::wire::{
        Decode, Encode, KafkaString, Reader, Records, UnknownTaggedField, WireError, Writer,
        required, sort_unknown,
    };
    pub(super) use crate::types::Uuid;
}

use crate::kafka::wire::WireError;

include!(concat!(env!("OUT_DIR"), "/messages.rs"));

impl ApiKey {
    /// The key's number.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether `version` of the messages is in the compact form with tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|from| version >= from)
    }

    /// Whether the schema has `version`.
    pub fn has_version(self, version: i16) -> bool {
        (self.min_version()..=self.max_version()).contains(&version)
    }

    /// The version of the header before a request of `version`.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header before a response of `version`. Always 0 for ApiVersions: a client
    /// that asks for a version that the broker does not know must be able to read the answer
    /// (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != Self::ApiVersions && self.is_flexible(version))
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
