//! What the config APIs name by a type and a name: topics, groups, subscriptions to clients'
//! metrics, this broker, all brokers.

use ottla_common::kafka::ErrorCode;
use ottla_common::types::BrokerId;

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::topics::is_valid_name;
use crate::controller::admin::AdminError;
use crate::controller::configs::ConfigChange;

/// The resource types of Kafka's protocol.
pub const TOPIC: i8 = 2;
/// A broker, or all of them.
pub const BROKER: i8 = 4;
/// The loggers of a broker.
pub const BROKER_LOGGER: i8 = 8;
/// Subscriptions to clients' metrics.
pub const CLIENT_METRICS: i8 = 16;
/// Consumer, share and streams groups.
pub const GROUP: i8 = 32;

/// What has configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigResource<'a> {
    /// A topic, which need not be there.
    Topic(&'a str),
    /// A group, which need not be there.
    Group(&'a str),
    /// A subscription to clients' metrics, which need not be there.
    ClientMetrics(&'a str),
    /// This broker.
    ThisBroker,
    /// What is set for all brokers.
    AllBrokers,
}

/// An error code with words for people.
pub type Refusal = (ErrorCode, String);

/// What a type and a name mean.
pub fn resource<'a>(
    context: &Context,
    resource_type: i8,
    name: &'a str,
) -> Result<ConfigResource<'a>, Refusal> {
    let invalid = |text: String| Err((ErrorCode::InvalidRequest, text));
    match resource_type {
        TOPIC => check_topic_name(name).map(|()| ConfigResource::Topic(name)),
        BROKER if name.is_empty() => Ok(ConfigResource::AllBrokers),
        BROKER => match name.parse::<i32>() {
            Ok(id) if BrokerId(id) == context.parts.broker_id => Ok(ConfigResource::ThisBroker),
            Ok(id) => invalid(format!(
                "Unexpected broker id, expected {} or empty string, but received {id}",
                context.parts.broker_id
            )),
            Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
        },
        GROUP if name.is_empty() => invalid("Default group resources are not allowed.".to_owned()),
        GROUP => Ok(ConfigResource::Group(name)),
        CLIENT_METRICS if name.is_empty() => {
            invalid("Client metrics subscription name must not be empty".to_owned())
        }
        CLIENT_METRICS => Ok(ConfigResource::ClientMetrics(name)),
        BROKER_LOGGER => {
            invalid(format!("This broker has no configs of resource type {resource_type}."))
        }
        other => invalid(format!("Unknown resource type {other}")),
    }
}

fn check_topic_name(name: &str) -> Result<(), Refusal> {
    if is_valid_name(name) {
        return Ok(());
    }
    let text = match name {
        "" => "Topic name is invalid: the empty string is not allowed".to_owned(),
        "." | ".." => format!("Topic name is invalid: '{name}' is not allowed"),
        long if long.len() > 249 => format!(
            "Topic name is invalid: the length of '{long}' is longer than the max allowed length \
             249"
        ),
        other => format!(
            "Topic name is invalid: '{other}' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'"
        ),
    };
    Err((ErrorCode::InvalidTopicException, text))
}

/// Changes the configs of what a type and a name mean.
pub async fn change(
    context: &Context,
    (resource_type, name): (i8, &str),
    change: ConfigChange,
    validate_only: bool,
) -> Result<(), Refusal> {
    let denied = |code| Err((code, "Authorization failed.".to_owned()));
    let admin = &context.parts.admin;
    if resource_type == CLIENT_METRICS && name.is_empty() {
        let text = "Subscription name can't be empty";
        return Err((ErrorCode::InvalidRequest, text.to_owned()));
    }
    let changed = match resource(context, resource_type, name)? {
        ConfigResource::Topic(topic) => {
            if !context.is_authorized(Operation::AlterConfigs, Resource::Topic(topic)) {
                return denied(ErrorCode::TopicAuthorizationFailed);
            }
            if context.parts.image.load().topic(topic).is_none() {
                let text = format!("The topic '{topic}' does not exist.");
                return Err((ErrorCode::UnknownTopicOrPartition, text));
            }
            admin.alter_topic_config(topic, &change, validate_only).await
        }
        ConfigResource::Group(group) => {
            if !context.is_authorized(Operation::AlterConfigs, Resource::Group(group)) {
                return denied(ErrorCode::GroupAuthorizationFailed);
            }
            admin.alter_group_config(group, &change, validate_only).await
        }
        ConfigResource::ClientMetrics(name) => {
            if !context.is_authorized(Operation::AlterConfigs, Resource::Cluster) {
                return denied(ErrorCode::ClusterAuthorizationFailed);
            }
            admin.alter_client_metrics_config(name, &change, validate_only).await
        }
        broker => {
            if !context.is_authorized(Operation::AlterConfigs, Resource::Cluster) {
                return denied(ErrorCode::ClusterAuthorizationFailed);
            }
            let one = (broker == ConfigResource::ThisBroker).then_some(context.parts.broker_id);
            admin.alter_broker_config(one, &change, validate_only).await
        }
    };
    changed.map_err(|AdminError { code, message }| (code, message))
}
