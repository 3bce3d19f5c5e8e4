//! `kafka-configs`, for topics and brokers.

use std::fmt::Display;

use clap::Parser;
use ottla_common::config::Settings;
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::Cluster;
use ottla_common::kafka::error_code::ErrorCode;

use super::{CommonArguments, message_of};
use crate::commands::configs::{
    self, ConfigChange, ConfigEntry, ResourceConfigs, ResourceKind, source_name,
};
use crate::output::{Output, misuse};

/// Kafka's number of what was set for a topic.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
/// Kafka's number of what was set for one broker.
const DYNAMIC_BROKER_CONFIG: i8 = 2;
/// Kafka's number of what was set for all brokers.
const DYNAMIC_DEFAULT_BROKER_CONFIG: i8 = 3;

/// This tool helps to manipulate and describe entity config for a topic or a broker.
#[derive(Debug, Parser)]
#[command(name = "kafka-configs", version)]
pub struct Configs {
    #[command(flatten)]
    common: CommonArguments,
    /// Alter the configuration for the entity.
    #[arg(long)]
    alter: bool,
    /// List configs for the given entity.
    #[arg(long)]
    describe: bool,
    /// List all configs for the given entity, not just those that were set.
    #[arg(long)]
    all: bool,
    /// Type of entity: topics or brokers.
    #[arg(long)]
    entity_type: Option<String>,
    /// Name of entity.
    #[arg(long)]
    entity_name: Option<String>,
    /// The default entity name, for brokers.
    #[arg(long)]
    entity_default: bool,
    /// The topic's name.
    #[arg(long)]
    topic: Option<String>,
    /// The broker's number.
    #[arg(long)]
    broker: Option<String>,
    /// The config defaults for all brokers.
    #[arg(long)]
    broker_defaults: bool,
    /// Key Value pairs of configs to add; square brackets can be used to group values.
    #[arg(long)]
    add_config: Option<String>,
    /// A properties file with configs to add.
    #[arg(long)]
    add_config_file: Option<std::path::PathBuf>,
    /// Config keys to remove 'k1,k2'.
    #[arg(long)]
    delete_config: Option<String>,
}

/// Whose configs.
#[derive(Debug, PartialEq, Eq)]
struct Entity {
    kind: ResourceKind,
    /// `None` stands for each of the kind; empty for the default of brokers.
    name: Option<String>,
}

/// Runs the tool.
pub async fn run(arguments: &Configs) -> anyhow::Result<()> {
    if arguments.alter == arguments.describe {
        return Err(misuse("Command must include exactly one action: --describe, --alter"));
    }
    let entity = entity(arguments)?;
    let changes = changes(arguments)?;
    let cluster = arguments.common.cluster().await?;
    if arguments.describe {
        return describe(arguments, &cluster, &entity).await;
    }
    let Some(name) = &entity.name else {
        return Err(misuse("an entity name must be specified with --alter"));
    };
    if changes.is_empty() {
        return Err(misuse(
            "At least one of --add-config, --add-config-file, or --delete-config must be specified \
             with --alter",
        ));
    }
    match configs::alter(&cluster, entity.kind, name, &changes).await {
        Ok(()) if name.is_empty() => {
            print("Completed updating default config for brokers in the cluster.")
        }
        Ok(()) => print(format_args!("Completed updating config for {} {name}.", noun(&entity))),
        Err(error) => anyhow::bail!("Error while executing config command: {}", message_of(&error)),
    }
}

fn print(line: impl Display) -> anyhow::Result<()> {
    Output { json: false }.line(line)
}

fn noun(entity: &Entity) -> &'static str {
    match entity.kind {
        ResourceKind::Topic => "topic",
        ResourceKind::Broker => "broker",
    }
}

fn entity(arguments: &Configs) -> anyhow::Result<Entity> {
    let topic = |name: Option<String>| Entity { kind: ResourceKind::Topic, name };
    let broker = |name: Option<String>| Entity { kind: ResourceKind::Broker, name };
    if let Some(name) = &arguments.topic {
        return Ok(topic(Some(name.clone())));
    }
    if let Some(name) = &arguments.broker {
        return Ok(broker(Some(name.clone())));
    }
    if arguments.broker_defaults {
        return Ok(broker(Some(String::new())));
    }
    let name = arguments.entity_name.clone();
    match arguments.entity_type.as_deref() {
        Some("topics") => Ok(topic(name)),
        Some("brokers") if arguments.entity_default => Ok(broker(Some(String::new()))),
        Some("brokers") => Ok(broker(name)),
        Some(other) => Err(misuse(format!("--entity-type {other} is not offered yet"))),
        None => Err(misuse("At least one of --entity-type, --topic or --broker must be specified")),
    }
}

fn changes(arguments: &Configs) -> anyhow::Result<Vec<ConfigChange>> {
    let mut changes = Vec::new();
    if let Some(file) = &arguments.add_config_file {
        let mut settings = Settings::new();
        settings.add_file(file)?;
        let set = settings.iter();
        changes.extend(set.map(|(key, set)| ConfigChange::set(key.to_owned(), set.value.clone())));
    }
    for text in arguments.add_config.iter().flat_map(|text| split_outside_brackets(text)) {
        let Some((key, value)) = text.split_once('=') else {
            return Err(misuse(format!("Invalid entity config: {text:?} is not key=value")));
        };
        let value = value.trim();
        let grouped = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
        let value = grouped.unwrap_or(value).to_owned();
        changes.push(ConfigChange::set(key.trim().to_owned(), value));
    }
    let removed = arguments.delete_config.iter().flat_map(|keys| keys.split(','));
    changes.extend(removed.map(|key| ConfigChange::unset(key.trim().to_owned())));
    Ok(changes)
}

/// The parts between commas, but not those within square brackets.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

async fn describe(arguments: &Configs, cluster: &Cluster, entity: &Entity) -> anyhow::Result<()> {
    let metadata = cluster.refresh_all().await?;
    let names: Vec<String> = match (&entity.name, entity.kind) {
        (Some(name), _) => vec![name.clone()],
        (None, ResourceKind::Topic) => {
            metadata.topics().map(|topic| topic.name.to_string()).collect()
        }
        (None, ResourceKind::Broker) => {
            let brokers = metadata.brokers.keys().map(|id| id.0.to_string());
            brokers.chain([String::new()]).collect()
        }
    };
    for name in &names {
        match configs::describe(cluster, entity.kind, &[name]).await {
            Ok(described) => {
                for resource in &described {
                    print_configs(arguments, entity, resource)?;
                }
            }
            Err(error) if is_missing(&error) && entity.kind == ResourceKind::Topic => {
                print(format_args!(
                    "The topic '{name}' doesn't exist and doesn't have dynamic config."
                ))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_missing(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::UnknownTopicOrPartition)
}

fn print_configs(
    arguments: &Configs,
    entity: &Entity,
    resource: &ResourceConfigs,
) -> anyhow::Result<()> {
    let (name, noun) = (&resource.name, noun(entity));
    let which = if arguments.all { "All" } else { "Dynamic" };
    if name.is_empty() {
        print("Default configs for brokers in the cluster are:")?;
    } else {
        print(format_args!("{which} configs for {noun} {name} are:"))?;
    }
    let wanted = match entity.kind {
        ResourceKind::Topic => DYNAMIC_TOPIC_CONFIG,
        ResourceKind::Broker if name.is_empty() => DYNAMIC_DEFAULT_BROKER_CONFIG,
        ResourceKind::Broker => DYNAMIC_BROKER_CONFIG,
    };
    let mut entries: Vec<&ConfigEntry> = resource.entries.iter().collect();
    entries.retain(|entry| arguments.all || entry.source == wanted);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.into_iter().try_for_each(|entry| print(entry_line(entry)))
}

fn entry_line(entry: &ConfigEntry) -> String {
    let null = |value: &Option<String>| value.clone().unwrap_or("null".to_owned());
    let synonyms: Vec<String> = entry
        .synonyms
        .iter()
        .map(|(source, key, value)| format!("{}:{key}={}", source_name(*source), null(value)))
        .collect();
    let (name, sensitive) = (&entry.name, entry.sensitive);
    let synonyms = synonyms.join(", ");
    format!("  {name}={} sensitive={sensitive} synonyms={{{synonyms}}}", null(&entry.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_commas_stand_in_brackets() {
        let parts = split_outside_brackets("a=1,b=[x,y],c=");
        assert_eq!(parts, ["a=1", "b=[x,y]", "c="]);
    }

    #[test]
    fn a_config_is_printed_as_kafka_prints_it() {
        let entry = ConfigEntry {
            name: "cleanup.policy".to_owned(),
            value: Some("compact".to_owned()),
            source: 1,
            sensitive: false,
            synonyms: vec![
                (1, "cleanup.policy".to_owned(), Some("compact".to_owned())),
                (5, "log.cleanup.policy".to_owned(), Some("delete".to_owned())),
            ],
            documentation: String::new(),
        };
        assert_eq!(
            entry_line(&entry),
            "  cleanup.policy=compact sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:\
             cleanup.policy=compact, DEFAULT_CONFIG:log.cleanup.policy=delete}"
        );
    }
}
