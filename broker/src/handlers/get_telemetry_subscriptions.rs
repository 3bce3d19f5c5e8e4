//! GetTelemetrySubscriptions (key 71), version 0 (KIP-714).
//!
//! Behaviour:
//! - Gives a client its instance id, if it has none, and says which of its metrics to push, how
//!   often and in which codecs, by all subscriptions that it matches. A client that matches none is
//!   asked for nothing and asks again after five minutes.
//! - Who asks again before its interval is over gets THROTTLING_QUOTA_EXCEEDED, unless its last
//!   push was refused for its subscription or its codec.
//! - Sums are asked for as totals, not as growth, since Prometheus takes totals.
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};

use super::context::Context;
use crate::network::ConnectionInfo;
use crate::telemetry::ACCEPTED_COMPRESSION_TYPES;
use crate::telemetry::clients::ClientMetadata;
use crate::telemetry::otlp::shortened;

/// What a client is called that does not name its software.
const UNKNOWN: &str = "unknown";

/// Serves a request.
pub fn handle(
    context: &Context,
    request: GetTelemetrySubscriptionsRequest,
) -> GetTelemetrySubscriptionsResponse {
    let telemetry = &context.parts.telemetry;
    let asked = request.client_instance_id;
    match telemetry.subscribe(asked, metadata_of(context), &context.image) {
        Ok((client_instance_id, told)) => GetTelemetrySubscriptionsResponse {
            client_instance_id,
            subscription_id: told.subscription_id,
            accepted_compression_types: ACCEPTED_COMPRESSION_TYPES.to_vec(),
            push_interval_ms: told.wanted.interval_ms,
            telemetry_max_bytes: i32::try_from(telemetry.size_max()).unwrap_or(i32::MAX),
            delta_temporality: false,
            requested_metrics: told.wanted.metrics.into_iter().map(Into::into).collect(),
            ..GetTelemetrySubscriptionsResponse::default()
        },
        Err(error) => refused(error),
    }
}

fn refused(error: ErrorCode) -> GetTelemetrySubscriptionsResponse {
    GetTelemetrySubscriptionsResponse {
        error_code: error.code(),
        ..GetTelemetrySubscriptionsResponse::default()
    }
}

/// What is known of the client that asks.
pub fn metadata_of(context: &Context) -> ClientMetadata {
    let connection: &ConnectionInfo = &context.connection;
    let software = connection.client_software.get();
    let named = |text: Option<&str>| shortened(text.unwrap_or(UNKNOWN)).to_owned();
    ClientMetadata {
        client_id: shortened(context.header.client_id.as_deref().unwrap_or_default()).to_owned(),
        software_name: named(software.map(|software| software.name.as_str())),
        software_version: named(software.map(|software| software.version.as_str())),
        address: connection.peer,
    }
}
