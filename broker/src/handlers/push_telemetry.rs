//! PushTelemetry (key 72), version 0 (KIP-714).
//!
//! Behaviour:
//! - Takes the metrics that a client was asked for, as OpenTelemetry writes them, and keeps the
//!   newest for monitoring: gauges and sums.
//! - INVALID_REQUEST for an id that no client has and after a client's last push;
//!   THROTTLING_QUOTA_EXCEEDED before the interval is over; UNKNOWN_SUBSCRIPTION_ID if something
//!   else is wanted by now; UNSUPPORTED_COMPRESSION_TYPE; TELEMETRY_TOO_LARGE beyond
//!   `telemetry.max.bytes`, and beyond a bound of its own once decompressed, which Kafka does not
//!   look at; INVALID_RECORD for what cannot be read.
//!
//! Missing: histograms are passed over.

use ottla_common::kafka::messages::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse};

use super::context::Context;
use super::get_telemetry_subscriptions::metadata_of;
use crate::telemetry::Push;

/// Serves a request.
pub fn handle(context: &Context, request: PushTelemetryRequest) -> PushTelemetryResponse {
    let push = Push {
        client_instance_id: request.client_instance_id,
        subscription_id: request.subscription_id,
        terminating: request.terminating,
        compression_type: request.compression_type,
        metrics: request.metrics,
    };
    let taken = context.parts.telemetry.push(&push, metadata_of(context), &context.image);
    PushTelemetryResponse {
        error_code: taken.err().map_or(0, |error| error.code()),
        ..PushTelemetryResponse::default()
    }
}
