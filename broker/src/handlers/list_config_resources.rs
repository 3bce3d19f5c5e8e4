//! ListConfigResources (key 74), versions 0 to 1 (KIP-1142).
//!
//! Behaviour:
//! - What has configs, of the types asked for, all if none is named: topics and brokers.
//!
//! Version notes: 0 was ListClientMetricsResources (KIP-1000); 1 types.
//!
//! Missing: client metrics, groups and broker loggers, of which there are none.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::list_config_resources::response::ConfigResource;
use ottla_common::kafka::messages::list_config_resources::{
    ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use ottla_common::kafka::wire::KafkaString;

use super::config_resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::context::Context;

/// Serves a request.
pub fn handle(
    context: &Context,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let asked = match request.resource_types.as_slice() {
        _ if context.version() == 0 => &[CLIENT_METRICS],
        [] => &known[..],
        asked => asked,
    };
    if asked.iter().any(|asked| !known.contains(asked)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..ListConfigResourcesResponse::default()
        };
    }
    let mut config_resources = Vec::new();
    let mut list = |resource_type: i8, name: KafkaString| {
        config_resources.push(ConfigResource {
            resource_name: name,
            resource_type,
            ..ConfigResource::default()
        });
    };
    if asked.contains(&BROKER) {
        context.image.brokers.keys().for_each(|id| list(BROKER, id.to_string().into()));
    }
    if asked.contains(&TOPIC) {
        context.image.topics.keys().for_each(|name| list(TOPIC, name.clone().into()));
    }
    ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() }
}
