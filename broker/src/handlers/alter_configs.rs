//! AlterConfigs (key 33), versions 0 to 2.
//!
//! Behaviour:
//! - Replaces everything that is set for a topic, a group, a subscription to clients' metrics, this
//!   broker or all brokers by what the request has.
//! - A resource that is named twice is INVALID_REQUEST.
//!
//! Version notes: 2 flexible. Deprecated in favour of IncrementalAlterConfigs, and still used.
//!
//! Missing: broker loggers are INVALID_REQUEST.

use std::collections::BTreeSet;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::alter_configs::response::AlterConfigsResourceResponse;
use ottla_common::kafka::messages::alter_configs::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_resources::change;
use super::context::Context;
use crate::controller::configs::ConfigChange;

/// Serves a request.
pub async fn handle(context: Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut seen = BTreeSet::new();
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let is_first = seen.insert((asked.resource_type, asked.resource_name.clone()));
        let entries = asked.configs.iter().map(|config| {
            let value = config.value.as_ref().map(ToString::to_string);
            (config.name.to_string(), value)
        });
        let entries = ConfigChange::Replace(entries.collect());
        let key = (asked.resource_type, asked.resource_name.as_str());
        let changed = match is_first {
            true => change(&context, key, entries, request.validate_only).await,
            false => Err((ErrorCode::InvalidRequest, "Duplicate resource.".to_owned())),
        };
        let (error, message) = match changed {
            Ok(()) => (ErrorCode::None, None),
            Err((error, message)) => (error, Some(message.into())),
        };
        responses.push(AlterConfigsResourceResponse {
            error_code: error.code(),
            error_message: message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            ..AlterConfigsResourceResponse::default()
        });
    }
    AlterConfigsResponse { responses, ..AlterConfigsResponse::default() }
}
