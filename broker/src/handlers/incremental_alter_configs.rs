//! IncrementalAlterConfigs (key 44), versions 0 to 1 (KIP-339).
//!
//! Behaviour:
//! - Sets and removes single configs of a topic, a group, a subscription to clients' metrics, this
//!   broker or all brokers, and adds to and takes from lists. All changes of a resource are made,
//!   or none.
//! - A resource that is named twice is INVALID_REQUEST.
//!
//! Version notes: 1 flexible.
//!
//! Missing: broker loggers are INVALID_REQUEST.

use std::collections::BTreeSet;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::incremental_alter_configs::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    request::{AlterConfigsResource, AlterableConfig},
    response::AlterConfigsResourceResponse,
};

use super::config_resources::{Refusal, change};
use super::context::Context;
use crate::config::dynamic::{AlterOp, Alteration};
use crate::controller::configs::ConfigChange;

/// Serves a request.
pub async fn handle(
    context: Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut seen = BTreeSet::new();
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let is_first = seen.insert((asked.resource_type, asked.resource_name.clone()));
        let changed = match is_first {
            true => alter(&context, &asked, request.validate_only).await,
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
    IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
}

async fn alter(
    context: &Context,
    asked: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let changes = asked.configs.iter().map(alteration).collect::<Result<Vec<_>, _>>()?;
    let key = (asked.resource_type, asked.resource_name.as_str());
    change(context, key, ConfigChange::Alter(changes), validate_only).await
}

fn alteration(config: &AlterableConfig) -> Result<Alteration, Refusal> {
    let op = AlterOp::from_code(config.config_operation).ok_or_else(|| {
        let text = format!("Unknown config operation {}", config.config_operation);
        (ErrorCode::InvalidRequest, text)
    })?;
    let value = config.value.as_ref().map(ToString::to_string);
    Ok(Alteration { name: config.name.to_string(), op, value })
}
