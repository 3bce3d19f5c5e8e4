//! `ottla configs`: what topics and brokers are set to, and why.

use clap::{Subcommand, ValueEnum};
use ottla_common::kafka::admin::{Admin, ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
use ottla_common::kafka::client::ClientError;
use ottla_common::types::BrokerId;

use super::topics::pairs;
use crate::context::Context;
use crate::output::{Output, misuse};

/// What configs are of, as `ottla configs` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResourceKind {
    /// A topic, by its name.
    Topic,
    /// A broker, by its number.
    Broker,
}

/// Configs.
#[derive(Debug, Subcommand)]
pub enum ConfigsCommand {
    /// Print what is set, and where it was set.
    Describe {
        /// Of what.
        kind: ResourceKind,
        /// Its name; for brokers, `default` stands for the defaults of all.
        name: String,
        /// What nobody set too.
        #[arg(short, long)]
        all: bool,
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

/// Kafka's name of where a config was set.
pub fn source_name(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
        ConfigSource::Other(_) => "UNKNOWN",
    }
}

/// A config's value for people.
pub fn value_text(entry: &ConfigEntry) -> &str {
    entry.value.as_deref().unwrap_or(if entry.is_sensitive { "(secret)" } else { "(none)" })
}

/// Runs `ottla configs`.
pub async fn run(context: &Context, command: ConfigsCommand) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    match command {
        ConfigsCommand::Describe { kind, name, all } => {
            let entries = describe(&admin, resource(kind, &name)?).await?;
            print(context.output, &entries, all)
        }
        ConfigsCommand::Set { kind, name, configs } => {
            let changes = pairs("ottla configs set", &configs)?;
            let changes: Vec<ConfigChange> =
                changes.into_iter().map(|(key, value)| ConfigChange::set(key, value)).collect();
            let set = changes.len();
            alter(&admin, resource(kind, &name)?, changes).await?;
            context.output.done(format_args!("{set} set"))
        }
        ConfigsCommand::Unset { kind, name, keys } => {
            let changes: Vec<ConfigChange> = keys.into_iter().map(ConfigChange::delete).collect();
            let unset = changes.len();
            alter(&admin, resource(kind, &name)?, changes).await?;
            context.output.done(format_args!("{unset} given back to the default"))
        }
    }
}

fn resource(kind: ResourceKind, name: &str) -> anyhow::Result<ConfigResource> {
    match kind {
        ResourceKind::Topic => Ok(ConfigResource::topic(name)),
        ResourceKind::Broker if name == "default" => Ok(ConfigResource::all_brokers()),
        ResourceKind::Broker => match name.parse() {
            Ok(id) => Ok(ConfigResource::broker(BrokerId(id))),
            Err(_) => Err(misuse(format!("a broker has a number, or is `default`, not {name:?}"))),
        },
    }
}

fn print(output: Output, entries: &[ConfigEntry], all: bool) -> anyhow::Result<()> {
    let entries = entries.iter().filter(|entry| all || entry.source != ConfigSource::Default);
    output.rows(
        ["key", "value", "set by"],
        entries.map(|entry| {
            let source = source_name(entry.source).to_lowercase();
            [entry.name.as_str().into(), entry.value.clone().into(), source.into()]
        }),
    )
}

/// The configs of one resource.
///
/// # Errors
/// `Refused` with what the cluster says.
pub async fn describe(
    admin: &Admin,
    resource: ConfigResource,
) -> Result<Vec<ConfigEntry>, ClientError> {
    let mut described = Vec::new();
    for (_, entries) in admin.describe_configs(&[resource], None).await? {
        described.extend(entries?);
    }
    Ok(described)
}

/// Changes configs of one resource, all or none.
///
/// # Errors
/// `Refused` with what the cluster says.
pub async fn alter(
    admin: &Admin,
    resource: ConfigResource,
    changes: Vec<ConfigChange>,
) -> Result<(), ClientError> {
    let results = admin.incremental_alter_configs(&[(resource, changes)], false).await?;
    results.into_iter().try_for_each(|(_, result)| result)
}
