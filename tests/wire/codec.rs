//! The codecs under test, by key and version instead of by type.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};
use ottla_common::kafka::messages::{self, ApiKey};
use ottla_common::kafka::wire::{Decode, Encode, Reader, WireError};

use crate::Side;

/// A decoded message of ours.
pub trait Message {
    /// Its bytes in `version`.
    fn encode(&self, version: i16) -> Result<Bytes, WireError>;
    /// The size that it claims to have in `version`.
    fn encoded_size(&self, version: i16) -> Result<usize, WireError>;
}

impl<T: Encode> Message for T {
    fn encode(&self, version: i16) -> Result<Bytes, WireError> {
        self.to_bytes(version)
    }

    fn encoded_size(&self, version: i16) -> Result<usize, WireError> {
        Encode::encoded_size(self, version)
    }
}

/// A decoded message and how many bytes it left.
pub type Decoded = (Box<dyn Message>, usize);

fn decode_as<T: Decode + Encode + 'static>(
    frame: Bytes,
    version: i16,
) -> Result<Decoded, WireError> {
    let mut reader = Reader::new(frame);
    let message = T::decode(&mut reader, version)?;
    Ok((Box::new(message), reader.remaining()))
}

macro_rules! decode_by_key {
    ($(($name:ident, $module:ident, $request:ident, $response:ident))*) => {
        /// Decodes a body with our codec.
        pub fn decode(
            key: ApiKey,
            side: Side,
            version: i16,
            frame: Bytes,
        ) -> Result<Decoded, WireError> {
            match (key, side) {
                $(
                    (ApiKey::$name, Side::Request) => {
                        decode_as::<messages::$module::$request>(frame, version)
                    }
                    (ApiKey::$name, Side::Response) => {
                        decode_as::<messages::$module::$response>(frame, version)
                    }
                )*
            }
        }
    };
}

ottla_common::for_each_api!(decode_by_key);

macro_rules! decode_record_by_name {
    ($(($module:ident, $name:ident))*) => {
        /// Decodes a record with our codec.
        pub fn decode_record(name: &str, version: i16, frame: Bytes) -> Result<Decoded, WireError> {
            match name {
                $(stringify!($name) => {
                    decode_as::<messages::records::$module::$name>(frame, version)
                })*
                _ => panic!("no record is named {name}"),
            }
        }
    };
}

ottla_common::for_each_record!(decode_record_by_name);

/// A decoded message of the other implementation.
pub enum Theirs {
    Request(RequestKind),
    Response(ResponseKind),
}

impl Theirs {
    /// Its bytes in `version`.
    pub fn encode(&self, version: i16) -> Result<Bytes, String> {
        let mut bytes = BytesMut::new();
        let done = match self {
            Self::Request(request) => request.encode(&mut bytes, version),
            Self::Response(response) => response.encode(&mut bytes, version),
        };
        done.map(|()| bytes.freeze()).map_err(|error| format!("{error:#}"))
    }
}

/// Decodes a body with the other implementation.
pub fn decode_theirs(
    key: ApiKey,
    side: Side,
    version: i16,
    mut frame: Bytes,
) -> Result<Theirs, String> {
    let key = TheirKey::try_from(key.code()).map_err(|()| "not an API of theirs".to_owned())?;
    match side {
        Side::Request => RequestKind::decode(key, &mut frame, version).map(Theirs::Request),
        Side::Response => ResponseKind::decode(key, &mut frame, version).map(Theirs::Response),
    }
    .map_err(|error| format!("{error:#}"))
}

/// The versions of an API that the other implementation has; empty if it has none.
pub fn their_versions(key: ApiKey, side: Side) -> RangeInclusive<i16> {
    let Ok(theirs) = TheirKey::try_from(key.code()) else { return RangeInclusive::new(0, -1) };
    let versions = theirs.valid_versions();
    let max = match (key, side) {
        // Versions that it lists, but of which it has the response only.
        (ApiKey::OffsetCommit | ApiKey::OffsetFetch, Side::Request) => 9,
        (ApiKey::InitProducerId, Side::Request) => 5,
        _ => versions.max,
    };
    versions.min..=max
}
