//! DescribeConfigs (key 32), versions 1 to 4.
//!
//! Behaviour:
//! - Every config of a topic, a group, a subscription to clients' metrics or of this broker, with
//!   its value, where that comes from, what it hides, and on demand its documentation; or those of
//!   them that are named.
//! - The broker resource with the empty name is what is set at run time for all brokers. Another
//!   broker's configs are that broker's to tell.
//!
//! Version notes: 1 sources and synonyms (KIP-226); 3 types and documentation (KIP-569); 4
//! flexible.
//!
//! Missing: broker loggers are INVALID_REQUEST; of groups, what is for consumer
//! groups alone.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_configs::request::DescribeConfigsResource;
use ottla_common::kafka::messages::describe_configs::response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_common::kafka::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResponse,
};

use super::authorization::{Operation, Resource};
use super::config_resources::{ConfigResource, resource};
use super::context::Context;
use crate::config::client_metrics;
use crate::config::describe::{
    ConfigEntry, describe_all_brokers, describe_broker, describe_group, describe_topic,
};

/// Serves a request.
pub fn handle(context: &Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|asked| {
        let result = DescribeConfigsResult {
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
            ..DescribeConfigsResult::default()
        };
        match entries(context, asked) {
            Ok(entries) => {
                let wanted = entries.into_iter().filter(|entry| is_wanted(asked, entry));
                DescribeConfigsResult {
                    error_message: Some("".into()),
                    configs: wanted.map(|entry| shown(&request, entry)).collect(),
                    ..result
                }
            }
            Err((error, message)) => DescribeConfigsResult {
                error_code: error.code(),
                error_message: Some(message.into()),
                ..result
            },
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() }
}

fn entries(
    context: &Context,
    asked: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, (ErrorCode, String)> {
    let image = &context.image;
    let own = image.broker_overrides(context.parts.broker_id);
    let all = image.default_broker_overrides();
    let layers = context.parts.config.layers(&own, &all);
    match resource(context, asked.resource_type, &asked.resource_name)? {
        ConfigResource::Topic(name) => {
            if !context.is_authorized(Operation::DescribeConfigs, Resource::Topic(name)) {
                return Err((ErrorCode::TopicAuthorizationFailed, String::new()));
            }
            if image.topic(name).is_none() {
                return Err((ErrorCode::UnknownTopicOrPartition, String::new()));
            }
            Ok(describe_topic(&image.topic_overrides(name), &layers))
        }
        ConfigResource::Group(group) => {
            if !context.is_authorized(Operation::DescribeConfigs, Resource::Group(group)) {
                return Err((ErrorCode::GroupAuthorizationFailed, String::new()));
            }
            Ok(describe_group(&image.group_overrides(group), &layers))
        }
        ConfigResource::ClientMetrics(name) => {
            if !context.is_authorized(Operation::DescribeConfigs, Resource::Cluster) {
                return Err((ErrorCode::ClusterAuthorizationFailed, String::new()));
            }
            Ok(client_metrics::describe(&image.client_metrics_overrides(name)))
        }
        ConfigResource::AllBrokers => Ok(describe_all_brokers(&layers)),
        ConfigResource::ThisBroker => Ok(describe_broker(&layers)),
    }
}

fn is_wanted(asked: &DescribeConfigsResource, entry: &ConfigEntry) -> bool {
    match &asked.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| *key == entry.name),
        _ => true,
    }
}

fn shown(request: &DescribeConfigsRequest, entry: ConfigEntry) -> DescribeConfigsResourceResult {
    let config_type = entry.type_code();
    let documentation = entry.doc.unwrap_or_default();
    let synonyms = entry.synonyms.into_iter().map(|synonym| DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.map(Into::into),
        source: synonym.source.code(),
        ..DescribeConfigsSynonym::default()
    });
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
        synonyms: if request.include_synonyms { synonyms.collect() } else { Vec::new() },
        config_type,
        documentation: request.include_documentation.then(|| documentation.into()),
        ..DescribeConfigsResourceResult::default()
    }
}
