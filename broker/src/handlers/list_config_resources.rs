//! ListConfigResources (key 74), versions 0 to 1 (KIP-1142).
//!
//! Behaviour:
//! - What has configs, of the types asked for, all if none is named: topics, brokers, groups
//!   that have some of their own, and subscriptions to clients' metrics.
//!
//! Version notes: 0 was ListClientMetricsResources (KIP-1000); 1 types.
//!
//! Missing: broker loggers.

use ottla_common::cluster_tree::ConfigKind;
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
    for (kind, resource_type) in
        [(ConfigKind::Groups, GROUP), (ConfigKind::ClientMetrics, CLIENT_METRICS)]
    {
        let configs = context.image.other_configs.iter().filter(|_| asked.contains(&resource_type));
        let set = configs.filter(|((of, _), set)| *of == kind && !set.value.is_empty());
        set.for_each(|((_, name), _)| list(resource_type, name.as_str().into()));
    }
    ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() }
}
