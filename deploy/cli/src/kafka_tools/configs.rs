//! `kafka-configs`, for topics and brokers; [`quotas`](super::quotas) has users, client ids and
//! addresses.

use std::ffi::OsString;
use std::fmt::Display;

use clap::Parser;
use ottla_common::config::Settings;
use ottla_common::kafka::admin::{
    Admin, ConfigChange, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource,
};
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::error_code::ErrorCode;

use super::quotas::Entities;
use super::{CommonArguments, message_of};
use crate::commands::configs::{self, source_name};
use crate::output::{Output, misuse};

/// This tool helps to manipulate and describe entity config for a topic, client, user, broker or
/// ip.
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
    /// Type of entity: topics, brokers, users, clients or ips; users and clients go together.
    #[arg(long)]
    entity_type: Vec<String>,
    /// Name of entity.
    #[arg(long)]
    entity_name: Vec<String>,
    /// The default entity name, for brokers, users, clients and ips.
    #[arg(long)]
    entity_default: bool,
    /// The client's ID.
    #[arg(long)]
    client: Option<String>,
    /// The config defaults for all clients.
    #[arg(long)]
    client_defaults: bool,
    /// The user's principal name.
    #[arg(long)]
    user: Option<String>,
    /// The config defaults for all users.
    #[arg(long)]
    user_defaults: bool,
    /// The IP address.
    #[arg(long)]
    ip: Option<String>,
    /// The config defaults for all IPs.
    #[arg(long)]
    ip_defaults: bool,
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

/// The flags with `--entity-default` as the empty name that it stands for: which type a name is of
/// is told by their order alone.
pub fn with_defaults_named(arguments: Vec<OsString>) -> Vec<OsString> {
    let named = |argument: OsString| match argument.to_str() {
        Some("--entity-default") => "--entity-name=".into(),
        _ => argument,
    };
    arguments.into_iter().map(named).collect()
}

/// Whose quotas are meant, if quotas are.
fn quota_entities(arguments: &Configs) -> anyhow::Result<Option<Entities>> {
    let default = |is_meant: bool| is_meant.then(String::new);
    // In the order in which Kafka's tool looks for them.
    let flags = [
        ("clients", arguments.client.clone()),
        ("users", arguments.user.clone()),
        ("ips", arguments.ip.clone()),
        ("clients", default(arguments.client_defaults)),
        ("users", default(arguments.user_defaults)),
        ("ips", default(arguments.ip_defaults)),
    ];
    let flags = flags.into_iter().filter_map(|(kind, name)| Some((kind.to_owned(), name?)));
    let (types, names): (Vec<String>, Vec<String>) = flags.unzip();
    if types.is_empty() {
        return Entities::new(&arguments.entity_type, &arguments.entity_name);
    }
    if !arguments.entity_type.is_empty() || !arguments.entity_name.is_empty() {
        return Err(misuse(
            "--entity-{type,name,default} should not be used in conjunction with specific entity \
             flags",
        ));
    }
    Entities::new(&types, &names)
}

/// Runs the tool.
pub async fn run(arguments: &Configs) -> anyhow::Result<()> {
    if arguments.alter == arguments.describe {
        return Err(misuse("Command must include exactly one action: --describe, --alter"));
    }
    let quotas = quota_entities(arguments)?;
    let changes = changes(arguments)?;
    if arguments.alter && changes.is_empty() {
        return Err(misuse(
            "At least one of --add-config, --add-config-file, or --delete-config must be specified \
             with --alter",
        ));
    }
    if let Some(quotas) = quotas {
        let admin = Admin::new(arguments.common.cluster().await?);
        return match arguments.describe {
            true => quotas.describe(&admin).await,
            false => quotas.alter(&admin, &changes).await,
        };
    }
    let entity = entity(arguments)?;
    let admin = Admin::new(arguments.common.cluster().await?);
    if arguments.describe {
        return describe(arguments, &admin, &entity).await;
    }
    let Some(name) = &entity.name else {
        return Err(misuse("an entity name must be specified with --alter"));
    };
    let resource = ConfigResource { kind: entity.kind, name: name.clone() };
    match configs::alter(&admin, resource, changes).await {
        Ok(()) if name.is_empty() => {
            print("Completed updating default config for brokers in the cluster.")
        }
        Ok(()) => print(format_args!("Completed updating config for {} {name}.", noun(&entity))),
        Err(error) => anyhow::bail!("Error while executing config command: {}", message_of(&error)),
    }
}

/// Prints a line.
pub fn print(line: impl Display) -> anyhow::Result<()> {
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
    let name = arguments.entity_name.first().cloned();
    match arguments.entity_type.as_slice() {
        [kind] if kind == "topics" => Ok(topic(name)),
        [kind] if kind == "brokers" => Ok(broker(name)),
        [kind] => Err(misuse(format!("--entity-type {kind} is not offered yet"))),
        [_, ..] => Err(misuse("Only 'users' and 'clients' entity types may be specified together")),
        [] => Err(misuse("At least one of --entity-type, --topic or --broker must be specified")),
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
