//! Configuration of topics, brokers, groups and so on.

use std::collections::BTreeMap;

use super::{Admin, Results, check};
use crate::kafka::Request;
use crate::kafka::client::ClientError;
use crate::kafka::messages::alter_configs::AlterConfigsRequest;
use crate::kafka::messages::alter_configs::request as alter;
use crate::kafka::messages::describe_configs::DescribeConfigsRequest;
use crate::kafka::messages::describe_configs::request::DescribeConfigsResource;
use crate::kafka::messages::describe_configs::response::DescribeConfigsResourceResult;
use crate::kafka::messages::incremental_alter_configs::IncrementalAlterConfigsRequest;
use crate::kafka::messages::incremental_alter_configs::request as incremental;
use crate::kafka::messages::list_config_resources::ListConfigResourcesRequest;

use crate::types::BrokerId;

/// What a configuration is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResourceType {
    /// A topic.
    Topic,
    /// A broker, by its id; all brokers, by the empty name.
    Broker,
    /// The log levels of a broker.
    BrokerLogger,
    /// A subscription to clients' metrics (KIP-714).
    ClientMetrics,
    /// A group.
    Group,
    /// What a later broker has.
    Other(i8),
}

impl ConfigResourceType {
    /// The number on the wire.
    pub fn wire(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
            Self::Other(number) => number,
        }
    }

    /// What the number on the wire means.
    pub fn from_wire(number: i8) -> Self {
        match number {
            2 => Self::Topic,
            4 => Self::Broker,
            8 => Self::BrokerLogger,
            16 => Self::ClientMetrics,
            32 => Self::Group,
            number => Self::Other(number),
        }
    }
}

/// Something that has a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    /// What it is.
    pub kind: ConfigResourceType,
    /// Its name.
    pub name: String,
}

impl ConfigResource {
    /// A topic.
    pub fn topic(name: impl Into<String>) -> Self {
        Self { kind: ConfigResourceType::Topic, name: name.into() }
    }

    /// A broker.
    pub fn broker(id: BrokerId) -> Self {
        Self { kind: ConfigResourceType::Broker, name: id.to_string() }
    }

    /// What holds for all brokers that say nothing else.
    pub fn all_brokers() -> Self {
        Self { kind: ConfigResourceType::Broker, name: String::new() }
    }

    /// The broker that must be asked: each knows its own configuration.
    fn only_at(&self) -> Option<BrokerId> {
        let of_broker =
            matches!(self.kind, ConfigResourceType::Broker | ConfigResourceType::BrokerLogger);
        if of_broker { self.name.parse().ok().map(BrokerId) } else { None }
    }
}

impl std::fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            ConfigResourceType::Topic => write!(f, "topic {:?}", self.name),
            ConfigResourceType::Broker if self.name.is_empty() => f.write_str("all brokers"),
            ConfigResourceType::Broker => write!(f, "broker {}", self.name),
            ConfigResourceType::BrokerLogger => write!(f, "the loggers of broker {}", self.name),
            ConfigResourceType::ClientMetrics => write!(f, "client metrics {:?}", self.name),
            ConfigResourceType::Group => write!(f, "group {:?}", self.name),
            ConfigResourceType::Other(number) => {
                write!(f, "resource {:?} of type {number}", self.name)
            }
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic's own.
    DynamicTopic,
    /// The broker's own.
    DynamicBroker,
    /// That of all brokers.
    DynamicDefaultBroker,
    /// The broker's configuration file.
    StaticBroker,
    /// The default.
    Default,
    /// Anything else, by its number.
    Other(i8),
}

impl ConfigSource {
    /// What the number on the wire means.
    pub fn from_wire(number: i8) -> Self {
        match number {
            1 => Self::DynamicTopic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            number => Self::Other(number),
        }
    }
}

/// An option and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The option.
    pub name: String,
    /// Its value; null if it is secret, or has none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether it is secret.
    pub is_sensitive: bool,
    /// Values that the option has in other places, the one that counts first: place, name, value.
    pub synonyms: Vec<(ConfigSource, String, Option<String>)>,
    /// What the option means, if it was asked for.
    pub documentation: Option<String>,
}

impl ConfigEntry {
    fn new(entry: DescribeConfigsResourceResult) -> Self {
        let synonyms = entry.synonyms.into_iter().map(|synonym| {
            let value = synonym.value.map(|value| value.to_string());
            (ConfigSource::from_wire(synonym.source), synonym.name.to_string(), value)
        });
        Self {
            name: entry.name.to_string(),
            value: entry.value.map(|value| value.to_string()),
            source: ConfigSource::from_wire(entry.config_source),
            read_only: entry.read_only,
            is_sensitive: entry.is_sensitive,
            synonyms: synonyms.collect(),
            documentation: entry.documentation.map(|text| text.to_string()),
        }
    }
}

/// What to do with an option (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Give it this value.
    Set,
    /// Give it its default.
    Delete,
    /// Add to a list.
    Append,
    /// Take off a list.
    Subtract,
}

/// A change of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The option.
    pub name: String,
    /// What to do with it.
    pub operation: ConfigOperation,
    /// The value, which deletion does not need.
    pub value: Option<String>,
}

impl ConfigChange {
    /// Gives an option a value.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        let operation = ConfigOperation::Set;
        Self { name: name.into(), operation, value: Some(value.into()) }
    }

    /// Gives an option its default.
    pub fn delete(name: impl Into<String>) -> Self {
        Self { name: name.into(), operation: ConfigOperation::Delete, value: None }
    }
}

impl Admin {
    /// The configurations of resources: all options, or those of `keys`.
    ///
    /// # Errors
    /// If a broker does not answer.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
        keys: Option<&[&str]>,
    ) -> Result<Results<ConfigResource, Vec<ConfigEntry>>, ClientError> {
        let mut results = Vec::new();
        for (broker, resources) in by_broker(resources, |resource| resource) {
            let wire = |resource: &&ConfigResource| DescribeConfigsResource {
                resource_type: resource.kind.wire(),
                resource_name: resource.name.as_str().into(),
                configuration_keys: keys.map(|keys| keys.iter().map(|&key| key.into()).collect()),
                ..Default::default()
            };
            let request = DescribeConfigsRequest {
                resources: resources.iter().map(wire).collect(),
                include_synonyms: true,
                include_documentation: false,
                ..Default::default()
            };
            let response = self.send_for(broker, &request).await?;
            for result in response.results {
                let kind = ConfigResourceType::from_wire(result.resource_type);
                let resource = ConfigResource { kind, name: result.resource_name.to_string() };
                let subject = format!("the configuration of {resource}");
                let error = check(&subject, result.error_code, result.error_message.as_ref());
                let entries = result.configs.into_iter().map(ConfigEntry::new).collect();
                results.push((resource, error.map(|()| entries)));
            }
        }
        Ok(results)
    }

    /// Changes options and leaves the others as they are, or only says what would come of it.
    ///
    /// # Errors
    /// If a broker does not answer.
    pub async fn incremental_alter_configs(
        &self,
        changes: &[(ConfigResource, Vec<ConfigChange>)],
        validate_only: bool,
    ) -> Result<Results<ConfigResource, ()>, ClientError> {
        let mut results = Vec::new();
        for (broker, changes) in by_broker(changes, |(resource, _)| resource) {
            let resources =
                changes.into_iter().map(|(resource, changes)| incremental::AlterConfigsResource {
                    resource_type: resource.kind.wire(),
                    resource_name: resource.name.as_str().into(),
                    configs: changes.iter().map(incremental_wire).collect(),
                    ..Default::default()
                });
            let request = IncrementalAlterConfigsRequest {
                resources: resources.collect(),
                validate_only,
                ..Default::default()
            };
            let response = self.send_for(broker, &request).await?;
            for answer in response.responses {
                let resource = (answer.resource_type, answer.resource_name.as_str());
                let error = (answer.error_code, answer.error_message.as_ref());
                results.push(altered(resource, error));
            }
        }
        Ok(results)
    }

    /// Replaces whole configurations (the older request): what is not named gets its default.
    ///
    /// # Errors
    /// If a broker does not answer.
    pub async fn alter_configs(
        &self,
        configs: &[(ConfigResource, BTreeMap<String, String>)],
        validate_only: bool,
    ) -> Result<Results<ConfigResource, ()>, ClientError> {
        let mut results = Vec::new();
        for (broker, configs) in by_broker(configs, |(resource, _)| resource) {
            let config = |(name, value): (&String, &String)| alter::AlterableConfig {
                name: name.as_str().into(),
                value: Some(value.as_str().into()),
                ..Default::default()
            };
            let resources =
                configs.into_iter().map(|(resource, configs)| alter::AlterConfigsResource {
                    resource_type: resource.kind.wire(),
                    resource_name: resource.name.as_str().into(),
                    configs: configs.iter().map(config).collect(),
                    ..Default::default()
                });
            let request = AlterConfigsRequest {
                resources: resources.collect(),
                validate_only,
                ..Default::default()
            };
            let response = self.send_for(broker, &request).await?;
            for answer in response.responses {
                let resource = (answer.resource_type, answer.resource_name.as_str());
                let error = (answer.error_code, answer.error_message.as_ref());
                results.push(altered(resource, error));
            }
        }
        Ok(results)
    }

    /// Asks the broker whose configuration it is, or any.
    async fn send_for<R: Request + Sync>(
        &self,
        broker: Option<BrokerId>,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        match broker {
            Some(broker) => self.cluster.send_to(broker, request).await,
            None => self.cluster.send_to_any(request).await,
        }
    }

    /// The resources of these types that have a configuration; of all types, if none is given.
    ///
    /// # Errors
    /// If no broker answers, or it refuses.
    pub async fn list_config_resources(
        &self,
        kinds: &[ConfigResourceType],
    ) -> Result<Vec<ConfigResource>, ClientError> {
        let request = ListConfigResourcesRequest {
            resource_types: kinds.iter().map(|kind| kind.wire()).collect(),
            ..Default::default()
        };
        let response = self.cluster.send_to_any(&request).await?;
        check("ListConfigResources", response.error_code, None)?;
        let resources = response.config_resources.into_iter().map(|resource| ConfigResource {
            kind: ConfigResourceType::from_wire(resource.resource_type),
            name: resource.resource_name.to_string(),
        });
        Ok(resources.collect())
    }
}

/// Groups items by the broker that must be asked about their resource, if there is one.
fn by_broker<T>(
    items: &[T],
    resource: impl Fn(&T) -> &ConfigResource,
) -> BTreeMap<Option<BrokerId>, Vec<&T>> {
    let mut groups: BTreeMap<_, Vec<&T>> = BTreeMap::new();
    for item in items {
        groups.entry(resource(item).only_at()).or_default().push(item);
    }
    groups
}

fn incremental_wire(change: &ConfigChange) -> incremental::AlterableConfig {
    let config_operation = match change.operation {
        ConfigOperation::Set => 0,
        ConfigOperation::Delete => 1,
        ConfigOperation::Append => 2,
        ConfigOperation::Subtract => 3,
    };
    incremental::AlterableConfig {
        name: change.name.as_str().into(),
        config_operation,
        value: change.value.as_deref().map(Into::into),
        ..Default::default()
    }
}

fn altered(
    (kind, name): (i8, &str),
    (code, message): (i16, Option<&crate::kafka::wire::KafkaString>),
) -> (ConfigResource, Result<(), ClientError>) {
    let kind = ConfigResourceType::from_wire(kind);
    let resource = ConfigResource { kind, name: name.to_owned() };
    let error = check(&format!("changing the configuration of {resource}"), code, message);
    (resource, error)
}
