//! `ottla configs`: what topics and brokers are set to, and why.

use clap::{Subcommand, ValueEnum};
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::Cluster;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::describe_configs::DescribeConfigsRequest;
use ottla_common::kafka::messages::describe_configs::request::DescribeConfigsResource;
use ottla_common::kafka::messages::describe_configs::response::DescribeConfigsResult;
use ottla_common::kafka::messages::incremental_alter_configs::IncrementalAlterConfigsRequest;
use ottla_common::kafka::messages::incremental_alter_configs::request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_common::types::BrokerId;

use super::topics::pairs;
use crate::context::Context;
use crate::output::{Output, misuse};

/// What configs are of, as `ottla configs` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResourceKind {
    /// A topic, by its name.
    Topic,
    /// A broker, by its number; an empty name stands for all of them.
    Broker,
}

impl ResourceKind {
    /// Kafka's number.
    fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
        }
    }
}

/// Configs.
#[derive(Debug, Subcommand)]
pub enum ConfigsCommand {
    /// Print what is set, and where it was set.
    Describe {
        /// Of what.
        kind: ResourceKind,
        /// Its name; for brokers, none stands for the defaults of all.
        #[arg(default_value = "")]
        name: String,
        /// What nobody set too.
        #[arg(short, long)]
        all: bool,
        /// What each config means too.
        #[arg(short, long)]
        documentation: bool,
    },
    /// Set configs.
    Set {
        /// Of what.
        kind: ResourceKind,
        /// Its name; for brokers, `default` stands for the defaults of all.
        name: String,
        /// What to set.
        #[arg(required = true, value_name = "KEY=VALUE")]
        configs: Vec<String>,
    },
    /// Give configs back to their defaults.
    Unset {
        /// Of what.
        kind: ResourceKind,
        /// Its name; for brokers, `default` stands for the defaults of all.
        name: String,
        /// What to give back.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

/// The configs of a topic or a broker.
#[derive(Clone, Debug)]
pub struct ResourceConfigs {
    /// Its name.
    pub name: String,
    /// Its configs, in the broker's order.
    pub entries: Vec<ConfigEntry>,
}

/// A config.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    /// Its key.
    pub name: String,
    /// Its value, unless it is secret.
    pub value: Option<String>,
    /// Where the value was set, as Kafka numbers it.
    pub source: i8,
    /// Whether it is secret.
    pub sensitive: bool,
    /// All values, from the one in force to the default: source, key, value.
    pub synonyms: Vec<(i8, String, Option<String>)>,
    /// What it means.
    pub documentation: String,
}

/// Kafka's number of what nobody set.
const DEFAULT_CONFIG: i8 = 5;

impl ConfigEntry {
    /// Whether nobody set it.
    pub fn is_default(&self) -> bool {
        self.source == DEFAULT_CONFIG
    }

    /// Its value for people.
    pub fn value_text(&self) -> &str {
        self.value.as_deref().unwrap_or("(secret)")
    }
}

/// Kafka's name of where a config was set.
pub fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        DEFAULT_CONFIG => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

/// Runs `ottla configs`.
pub async fn run(context: &Context, command: ConfigsCommand) -> anyhow::Result<()> {
    let cluster = context.cluster().await?;
    match command {
        ConfigsCommand::Describe { kind, name, all, documentation } => {
            let name = resource_name(kind, &name)?;
            let described = describe(&cluster, kind, &[&name]).await?;
            for resource in &described {
                print(context.output, resource, all, documentation)?;
            }
            Ok(())
        }
        ConfigsCommand::Set { kind, name, configs } => {
            let changes = pairs("ottla configs set", &configs)?;
            let changes: Vec<ConfigChange> =
                changes.into_iter().map(|(key, value)| ConfigChange::set(key, value)).collect();
            let name = resource_name(kind, &name)?;
            alter(&cluster, kind, &name, &changes).await?;
            context.output.done(format_args!("{} set", changes.len()))
        }
        ConfigsCommand::Unset { kind, name, keys } => {
            let changes: Vec<ConfigChange> = keys.into_iter().map(ConfigChange::unset).collect();
            let name = resource_name(kind, &name)?;
            alter(&cluster, kind, &name, &changes).await?;
            context.output.done(format_args!("{} given back to the default", changes.len()))
        }
    }
}

fn resource_name(kind: ResourceKind, name: &str) -> anyhow::Result<String> {
    match kind {
        ResourceKind::Topic if name.is_empty() => Err(misuse("name the topic")),
        ResourceKind::Broker if name == "default" => Ok(String::new()),
        _ => Ok(name.to_owned()),
    }
}

fn print(
    output: Output,
    resource: &ResourceConfigs,
    all: bool,
    documentation: bool,
) -> anyhow::Result<()> {
    let entries = resource.entries.iter().filter(|entry| all || !entry.is_default());
    if documentation && !output.json {
        for entry in entries {
            let source = source_name(entry.source).to_lowercase();
            output.line(format_args!("{} = {} ({source})", entry.name, entry.value_text()))?;
            output.line(format_args!("    {}", entry.documentation))?;
        }
        return Ok(());
    }
    output.rows(
        ["key", "value", "set by"],
        entries.map(|entry| {
            let source = source_name(entry.source).to_lowercase();
            [entry.name.as_str().into(), entry.value.clone().into(), source.into()]
        }),
    )
}

/// Describes resources of one kind, in the order of their names here.
///
/// # Errors
/// `Refused` with what the cluster says.
pub async fn describe(
    cluster: &Cluster,
    kind: ResourceKind,
    names: &[&str],
) -> Result<Vec<ResourceConfigs>, ClientError> {
    let mut described = Vec::new();
    // A broker tells what itself is set to; any broker tells the rest, many at once.
    let chunks = names.chunks(if kind == ResourceKind::Broker { 1 } else { 500 });
    for names in chunks {
        let resources = names.iter().map(|name| DescribeConfigsResource {
            resource_type: kind.code(),
            resource_name: (*name).into(),
            configuration_keys: None,
            ..Default::default()
        });
        let request = DescribeConfigsRequest {
            resources: resources.collect(),
            include_synonyms: true,
            include_documentation: true,
            ..Default::default()
        };
        let response = match broker_named(kind, names.first().copied().unwrap_or_default()) {
            Some(broker) => cluster.send_to(broker, &request).await?,
            None => cluster.send_to_any(&request).await?,
        };
        for result in response.results {
            let code = ErrorCode::from_code(result.error_code);
            let message = result.error_message.as_deref();
            let subject = || format!("describe configs of {:?}", result.resource_name.as_str());
            ClientError::check(subject, code, message)?;
            described.push(resource_configs(&result));
        }
    }
    described.sort_by_key(|resource| names.iter().position(|name| *name == resource.name));
    Ok(described)
}

/// The broker that must be asked.
fn broker_named(kind: ResourceKind, name: &str) -> Option<BrokerId> {
    name.parse().ok().filter(|_| kind == ResourceKind::Broker).map(BrokerId)
}

fn resource_configs(result: &DescribeConfigsResult) -> ResourceConfigs {
    let entries = result.configs.iter().map(|config| ConfigEntry {
        name: config.name.to_string(),
        value: config.value.as_deref().map(str::to_owned),
        source: config.config_source,
        sensitive: config.is_sensitive,
        synonyms: config
            .synonyms
            .iter()
            .map(|each| {
                (each.source, each.name.to_string(), each.value.as_deref().map(str::to_owned))
            })
            .collect(),
        documentation: config.documentation.as_deref().unwrap_or_default().to_owned(),
    });
    ResourceConfigs { name: result.resource_name.to_string(), entries: entries.collect() }
}

/// A change of one config, as IncrementalAlterConfigs names it.
#[derive(Clone, Debug)]
pub struct ConfigChange {
    key: String,
    value: Option<String>,
    /// 0 sets, 1 deletes.
    operation: i8,
}

impl ConfigChange {
    /// Sets a value.
    pub fn set(key: String, value: String) -> Self {
        Self { key, value: Some(value), operation: 0 }
    }

    /// Gives a key back to its default.
    pub fn unset(key: String) -> Self {
        Self { key, value: None, operation: 1 }
    }
}

/// Changes configs of one resource, all or none.
///
/// # Errors
/// `Refused` with what the cluster says.
pub async fn alter(
    cluster: &Cluster,
    kind: ResourceKind,
    name: &str,
    changes: &[ConfigChange],
) -> Result<(), ClientError> {
    let configs = changes.iter().map(|change| AlterableConfig {
        name: change.key.as_str().into(),
        config_operation: change.operation,
        value: change.value.as_deref().map(Into::into),
        ..Default::default()
    });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind.code(),
            resource_name: name.into(),
            configs: configs.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = match broker_named(kind, name) {
        Some(broker) => cluster.send_to(broker, &request).await?,
        None => cluster.send_to_any(&request).await?,
    };
    for result in &response.responses {
        let code = ErrorCode::from_code(result.error_code);
        let message = result.error_message.as_deref();
        ClientError::check(|| format!("change configs of {name:?}"), code, message)?;
    }
    Ok(())
}
