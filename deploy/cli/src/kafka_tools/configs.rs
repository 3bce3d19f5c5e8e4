//! `kafka-configs`, for topics and brokers.

use std::fmt::Display;

use clap::Parser;
use ottla_common::config::Settings;
use ottla_common::kafka::admin::{
    Admin, ConfigChange, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource,
};
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::error_code::ErrorCode;

use super::{CommonArguments, message_of};
use crate::commands::configs::{self, source_name};
use crate::output::{Output, misuse};

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
    kind: ConfigResourceType,
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
    let admin = Admin::new(arguments.common.cluster().await?);
    if arguments.describe {
        return describe(arguments, &admin, &entity).await;
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
    let resource = ConfigResource { kind: entity.kind, name: name.clone() };
    match configs::alter(&admin, resource, changes).await {
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
        ConfigResourceType::Topic => "topic",
        _ => "broker",
    }
}

fn entity(arguments: &Configs) -> anyhow::Result<Entity> {
    let topic = |name: Option<String>| Entity { kind: ConfigResourceType::Topic, name };
    let broker = |name: Option<String>| Entity { kind: ConfigResourceType::Broker, name };
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
    changes.extend(removed.map(|key| ConfigChange::delete(key.trim())));
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

async fn describe(arguments: &Configs, admin: &Admin, entity: &Entity) -> anyhow::Result<()> {
    let names: Vec<String> = match (&entity.name, entity.kind) {
        (Some(name), _) => vec![name.clone()],
        (None, ConfigResourceType::Topic) => {
            admin.list_topics().await?.iter().map(|topic| topic.name.to_string()).collect()
        }
        (None, _) => {
            let metadata = admin.cluster().refresh_all().await?;
            let brokers = metadata.brokers.keys().map(ToString::to_string);
            brokers.chain([String::new()]).collect()
        }
    };
    for name in &names {
        let resource = ConfigResource { kind: entity.kind, name: name.clone() };
        match configs::describe(admin, resource).await {
            Ok(entries) => print_configs(arguments, (entity, name), &entries)?,
            Err(error) if is_missing(&error) && entity.kind == ConfigResourceType::Topic => {
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
    (entity, name): (&Entity, &str),
    entries: &[ConfigEntry],
) -> anyhow::Result<()> {
    let noun = noun(entity);
    let which = if arguments.all { "All" } else { "Dynamic" };
    if name.is_empty() {
        print("Default configs for brokers in the cluster are:")?;
    } else {
        print(format_args!("{which} configs for {noun} {name} are:"))?;
    }
    let wanted = match entity.kind {
        ConfigResourceType::Topic => ConfigSource::DynamicTopic,
        _ if name.is_empty() => ConfigSource::DynamicDefaultBroker,
        _ => ConfigSource::DynamicBroker,
    };
    let mut entries: Vec<&ConfigEntry> = entries.iter().collect();
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
    let (name, sensitive) = (&entry.name, entry.is_sensitive);
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
        let synonym =
            |source, key: &str, value: &str| (source, key.to_owned(), Some(value.to_owned()));
        let entry = ConfigEntry {
            name: "cleanup.policy".to_owned(),
            value: Some("compact".to_owned()),
            source: ConfigSource::DynamicTopic,
            read_only: false,
            is_sensitive: false,
            synonyms: vec![
                synonym(ConfigSource::DynamicTopic, "cleanup.policy", "compact"),
                synonym(ConfigSource::Default, "log.cleanup.policy", "delete"),
            ],
            documentation: None,
        };
        assert_eq!(
            entry_line(&entry),
            "  cleanup.policy=compact sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:\
             cleanup.policy=compact, DEFAULT_CONFIG:log.cleanup.policy=delete}"
        );
    }
}
