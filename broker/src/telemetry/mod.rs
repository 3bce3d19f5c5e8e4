//! What clients tell of themselves (KIP-714): which metrics of which clients are wanted, who has
//! been told so, and what they sent.
//!
//! [`subscriptions`] is what administrators ask for, [`otlp`] reads what clients send, [`clients`]
//! keeps who they are and their newest figures; all of that is pure. [`ClientTelemetry`] puts it
//! together for the handlers and for monitoring. Clients are not trusted: what they send is bounded
//! in size before and after decompression, in series and in labels, and forgotten after a while.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod clients;
pub mod otlp;
pub mod subscriptions;

use bytes::Bytes;
use ottla_common::clock::Clock;
use ottla_common::kafka::compression::{Compression, CompressionError};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::Uuid;
use parking_lot::Mutex;

use crate::limits::{TELEMETRY_DECOMPRESSED_SIZE_MAX, TELEMETRY_SERIES_PER_CLIENT_MAX};
use crate::metadata::image::MetadataImage;
use clients::{ClientMetadata, Clients, TelemetryFigures, Told};
use subscriptions::Subscriptions;

/// The codecs that clients may use, the best first, by their numbers.
pub const ACCEPTED_COMPRESSION_TYPES: [i8; 4] = [4, 3, 1, 2];

/// A client's push.
#[derive(Clone, Debug)]
pub struct Push {
    /// Who it says it is.
    pub client_instance_id: Uuid,
    /// What it was told to send.
    pub subscription_id: i32,
    /// Whether it is its last.
    pub terminating: bool,
    /// The codec, by its number.
    pub compression_type: i8,
    /// The figures.
    pub metrics: Bytes,
}

/// The clients of a broker and what they sent.
#[derive(Debug)]
pub struct ClientTelemetry {
    clock: Clock,
    size_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    subscriptions: Subscriptions,
    clients: Clients,
}

impl ClientTelemetry {
    /// No client yet. `size_max` is `telemetry.max.bytes`.
    pub fn new(clock: Clock, size_max: usize) -> Self {
        Self { clock, size_max, state: Mutex::default() }
    }

    /// `telemetry.max.bytes`.
    pub fn size_max(&self) -> usize {
        self.size_max
    }

    /// What a client is to send. It is given an id if it has none.
    ///
    /// # Errors
    /// THROTTLING_QUOTA_EXCEEDED if it asks again too early.
    pub fn subscribe(
        &self,
        client_instance_id: Uuid,
        metadata: ClientMetadata,
        image: &MetadataImage,
    ) -> Result<(Uuid, Told), ErrorCode> {
        let id = match client_instance_id.is_zero() {
            true => Uuid::random().map_err(|_| ErrorCode::UnknownServerError)?,
            false => client_instance_id,
        };
        let mut state = self.state.lock();
        let State { subscriptions, clients } = &mut *state;
        subscriptions.refresh(image);
        let now_ms = self.clock.monotonic_ms();
        let client = clients.client(id, metadata, subscriptions, now_ms);
        client.take_get(now_ms).map(|told| (id, told))
    }

    /// Takes what a client sends.
    ///
    /// # Errors
    /// INVALID_REQUEST, THROTTLING_QUOTA_EXCEEDED, UNKNOWN_SUBSCRIPTION_ID,
    /// UNSUPPORTED_COMPRESSION_TYPE, TELEMETRY_TOO_LARGE or INVALID_RECORD, as KIP-714 has it.
    pub fn push(
        &self,
        push: &Push,
        metadata: ClientMetadata,
        image: &MetadataImage,
    ) -> Result<(), ErrorCode> {
        let id = push.client_instance_id;
        if is_reserved(id) {
            return Err(ErrorCode::InvalidRequest);
        }
        {
            let mut state = self.state.lock();
            let State { subscriptions, clients } = &mut *state;
            subscriptions.refresh(image);
            let now_ms = self.clock.monotonic_ms();
            let client = clients.client(id, metadata, subscriptions, now_ms);
            client.take_push(push, self.size_max, now_ms)?;
        }
        if push.metrics.is_empty() {
            return Ok(());
        }
        // Not under the lock: it takes a while.
        let read = read(push);
        let mut state = self.state.lock();
        match read {
            Ok(points) => {
                state.clients.store(id, points);
                Ok(())
            }
            Err(error) => {
                state.clients.note_error(id, error);
                Err(error)
            }
        }
    }

    /// What is known now, for monitoring.
    pub fn figures(&self) -> TelemetryFigures {
        let mut state = self.state.lock();
        state.clients.forget_silent(self.clock.monotonic_ms());
        state.clients.figures()
    }
}

/// Ids that no client has.
fn is_reserved(id: Uuid) -> bool {
    let mut one = [0; 16];
    if let Some(last) = one.last_mut() {
        *last = 1;
    }
    id.is_zero() || id == Uuid(one)
}

fn read(push: &Push) -> Result<Vec<otlp::Point>, ErrorCode> {
    let codec = Compression::from_id(i16::from(push.compression_type))
        .map_err(|_| ErrorCode::UnsupportedCompressionType)?;
    let plain = codec.decompress(&push.metrics, TELEMETRY_DECOMPRESSED_SIZE_MAX);
    let plain = plain.map_err(|error| match error {
        CompressionError::TooLarge { .. } => ErrorCode::TelemetryTooLarge,
        _ => ErrorCode::InvalidRecord,
    })?;
    otlp::read(&plain, TELEMETRY_SERIES_PER_CLIENT_MAX).map_err(|_| ErrorCode::InvalidRecord)
}

#[cfg(test)]
mod tests;
