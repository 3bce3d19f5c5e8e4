//! `ottla topics`: create, list, describe, alter, delete, move replicas, elect leaders.

pub mod elect;
pub mod log_dirs;
pub mod reassign;
pub mod throttles;

use std::sync::Arc;

use clap::{Args, Subcommand};
use ottla_common::kafka::admin::{Admin, ConfigResource, ConfigSource, NewPartitions, NewTopic};
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::{Cluster, TopicMetadata};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::describe_topic_partitions::response::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_common::types::BrokerId;
use serde_json::{Value, json};

use super::configs;
use crate::context::Context;
use crate::output::{Output, misuse};

/// Topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Make topics.
    Create(CreateArguments),
    /// List the topics.
    List {
        /// Those too that the cluster keeps for itself.
        #[arg(short, long)]
        all: bool,
    },
    /// Print partitions, leaders, replicas and configs.
    Describe {
        /// Only these topics.
        topics: Vec<String>,
    },
    /// Add partitions.
    Alter {
        /// The topic.
        topic: String,
        /// How many partitions it shall have.
        #[arg(short, long)]
        partitions: i32,
    },
    /// Move replicas to other brokers.
    Reassign(reassign::ReassignArguments),
    /// Have leaders elected: the preferred ones, or whoever lives.
    Elect(elect::ElectArguments),
    /// Remove topics and their records.
    Delete {
        /// The topics.
        #[arg(required = true)]
        topics: Vec<String>,
        /// It is no error if one is not there.
        #[arg(long)]
        if_exists: bool,
    },
}

/// Flags of `ottla topics create`.
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// The topics.
    #[arg(required = true)]
    topics: Vec<String>,
    /// Partitions; the cluster has a default (num.partitions).
    #[arg(short, long, default_value_t = -1, hide_default_value = true)]
    partitions: i32,
    /// Replicas of each partition; the cluster has a default (default.replication.factor).
    #[arg(short, long, default_value_t = -1, hide_default_value = true)]
    replication_factor: i16,
    /// A config of the topic; can be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// It is no error if one is there already.
    #[arg(long)]
    if_not_exists: bool,
    /// Check everything, but make nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Runs `ottla topics`.
pub async fn run(context: &Context, command: TopicsCommand) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    let output = context.output;
    match command {
        TopicsCommand::Create(arguments) => create(output, &admin, &arguments).await,
        TopicsCommand::List { all } => list(output, &admin, all).await,
        TopicsCommand::Describe { topics } => print_topics(output, &admin, &topics).await,
        TopicsCommand::Alter { topic, partitions } => {
            add_partitions(&admin, &topic, partitions, None).await?;
            output.done(format_args!("{topic} has {partitions} partitions"))
        }
        TopicsCommand::Reassign(arguments) => reassign::run(output, &admin, &arguments).await,
        TopicsCommand::Elect(arguments) => elect::run(output, &admin, &arguments).await,
        TopicsCommand::Delete { topics, if_exists } => {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            for (name, deleted) in admin.delete_topics(&names).await? {
                match deleted {
                    Err(error)
                        if if_exists
                            && error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
                    Err(error) => return Err(error.into()),
                    Ok(()) => output.done(format_args!("{name} is gone"))?,
                }
            }
            Ok(())
        }
    }
}

async fn create(output: Output, admin: &Admin, arguments: &CreateArguments) -> anyhow::Result<()> {
    let configs = pairs("--config", &arguments.config)?;
    let topics = arguments.topics.iter().map(|name| NewTopic {
        configs: configs.iter().cloned().collect(),
        ..NewTopic::new(name, arguments.partitions, arguments.replication_factor)
    });
    let topics: Vec<NewTopic> = topics.collect();
    let would = if arguments.dry_run { "would be" } else { "is" };
    for (name, created) in admin.create_topics(&topics, arguments.dry_run).await? {
        match created {
            Err(error)
                if arguments.if_not_exists
                    && error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
            Err(error) => return Err(error.into()),
            Ok(created) => output.done(format_args!(
                "{name} {would} made: partitions {}, replication factor {}",
                created.partitions, created.replication_factor
            ))?,
        }
    }
    Ok(())
}

/// The keys and values of `key=value` flags.
pub fn pairs(flag: &str, texts: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let split = texts.iter().map(|text| match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(misuse(format!("{flag} wants KEY=VALUE, not {text:?}"))),
    });
    split.collect()
}

async fn list(output: Output, admin: &Admin, all: bool) -> anyhow::Result<()> {
    let topics = admin.list_topics().await?;
    output.rows(
        ["topic", "partitions", "replicas", "id"],
        topics.iter().filter(|topic| all || !topic.is_internal).map(|topic| {
            let replicas = topic.partitions.first().map_or(0, |first| first.replicas.len());
            [
                topic.name.as_ref().into(),
                topic.partitions.len().into(),
                replicas.into(),
                topic.id.to_string().into(),
            ]
        }),
    )
}

async fn print_topics(output: Output, admin: &Admin, names: &[String]) -> anyhow::Result<()> {
    for topic in &describe(admin, names).await? {
        let name = topic.name.as_deref().unwrap_or_default();
        let configs = configs::describe(admin, ConfigResource::topic(name)).await?;
        let set = configs.iter().filter(|entry| entry.source != ConfigSource::Default);
        let set: Vec<(&str, &str)> =
            set.map(|entry| (entry.name.as_str(), configs::value_text(entry))).collect();
        if output.json {
            let configs: serde_json::Map<String, Value> =
                set.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
            let partitions: Vec<Value> = topic.partitions.iter().map(partition_json).collect();
            output.value(&json!({
                "topic": name,
                "id": topic.topic_id.to_string(),
                "configs": configs,
                "partitions": partitions,
            }))?;
            continue;
        }
        output.line(format_args!("{name} ({})", topic.topic_id))?;
        for (key, value) in set {
            output.line(format_args!("{key} = {value}"))?;
        }
        output.rows(
            ["partition", "leader", "leader epoch", "replicas", "isr", "elr", "offline"],
            topic.partitions.iter().map(|partition| {
                [
                    partition.partition_index.into(),
                    leader(partition).into(),
                    partition.leader_epoch.into(),
                    partition.replica_nodes.clone().into(),
                    partition.isr_nodes.clone().into(),
                    partition.eligible_leader_replicas.clone().unwrap_or_default().into(),
                    partition.offline_replicas.clone().into(),
                ]
            }),
        )?;
    }
    Ok(())
}

fn partition_json(partition: &DescribeTopicPartitionsResponsePartition) -> Value {
    json!({
        "partition": partition.partition_index,
        "leader": leader(partition),
        "leader_epoch": partition.leader_epoch,
        "replicas": partition.replica_nodes,
        "isr": partition.isr_nodes,
        "elr": partition.eligible_leader_replicas,
        "offline": partition.offline_replicas,
    })
}

/// A partition's leader, if it has one.
pub fn leader(partition: &DescribeTopicPartitionsResponsePartition) -> Option<i32> {
    (partition.leader_id >= 0).then_some(partition.leader_id)
}

/// Gives a topic more partitions: `total` in all, the new ones on these brokers if they are given.
///
/// # Errors
/// `Refused` with what the cluster says.
pub async fn add_partitions(
    admin: &Admin,
    topic: &str,
    total: i32,
    assignments: Option<Vec<Vec<BrokerId>>>,
) -> Result<(), ClientError> {
    let wanted = NewPartitions { topic: topic.to_owned(), total, assignments };
    let results = admin.create_partitions(&[wanted], false).await?;
    results.into_iter().try_for_each(|(_, result)| result)
}

/// Describes these topics, or all if none are named, by name.
///
/// # Errors
/// `UnknownTopic`, or `Refused` with what the cluster says.
pub async fn describe(
    admin: &Admin,
    names: &[String],
) -> Result<Vec<DescribeTopicPartitionsResponseTopic>, ClientError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut topics = admin.describe_topic_partitions(&names).await?;
    for topic in &mut topics {
        let name = topic.name.as_deref().unwrap_or_default();
        let code = ErrorCode::from_code(topic.error_code);
        if code == ErrorCode::UnknownTopicOrPartition {
            return Err(ClientError::UnknownTopic { topic: name.to_owned() });
        }
        ClientError::check(|| format!("topic {name:?}"), code, None::<&str>)?;
        topic.partitions.sort_by_key(|partition| partition.partition_index);
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

/// A topic's metadata; it is made if it is not there.
///
/// # Errors
/// If it can neither be found nor made.
pub async fn ensure(
    cluster: &Cluster,
    topic: &NewTopic,
) -> Result<Arc<TopicMetadata>, ClientError> {
    match cluster.topic(&topic.name).await {
        Err(ClientError::UnknownTopic { .. }) => {}
        found => return found,
    }
    match Admin::new(cluster.clone()).create_topic(topic).await {
        Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => return Err(error),
        _ => {}
    }
    // Another broker may not know the topic for a moment: its absence is worth another look.
    let found = cluster.retry(|| async {
        let found = cluster.topic(&topic.name).await.map_err(|error| match error {
            ClientError::UnknownTopic { topic } => ClientError::NoLeader { topic, partition: 0 },
            error => error,
        })?;
        for partition in &found.partitions {
            cluster.leader(&topic.name, partition.partition).await?;
        }
        Ok(found)
    });
    found.await
}
