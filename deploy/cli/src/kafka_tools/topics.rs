//! `kafka-topics`.

use std::fmt::Display;

use anyhow::bail;
use clap::Parser;
use ottla_common::kafka::admin::{Admin, ConfigEntry, ConfigResource, ConfigSource, NewTopic};
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::describe_topic_partitions::response::{
    DescribeTopicPartitionsResponsePartition as Partition,
    DescribeTopicPartitionsResponseTopic as Topic,
};
use ottla_common::types::BrokerId;

use super::{CommonArguments, Shown, TopicPattern, message_of};
use crate::commands::configs::{self, value_text};
use crate::commands::topics::{self, leader, pairs};
use crate::output::{Output, misuse};

const COLLISION_WARNING: &str = "WARNING: Due to limitations in metric names, topics with a period \
     ('.') or underscore ('_') could collide. To avoid issues it is best to use either, but not \
     both.";

/// This tool helps to create, delete, describe, or change a topic.
#[derive(Debug, Parser)]
#[command(name = "kafka-topics", version)]
pub struct Topics {
    #[command(flatten)]
    common: CommonArguments,
    /// Create a new topic.
    #[arg(long)]
    create: bool,
    /// List all available topics.
    #[arg(long)]
    list: bool,
    /// List details for the given topics.
    #[arg(long)]
    describe: bool,
    /// Alter the number of partitions and replica assignment.
    #[arg(long)]
    alter: bool,
    /// Delete a topic.
    #[arg(long)]
    delete: bool,
    /// The topic; but for --create, a regular expression.
    #[arg(long)]
    topic: Option<String>,
    /// The number of partitions for the topic being created or altered.
    #[arg(long)]
    partitions: Option<i32>,
    /// The replication factor for each partition in the topic being created.
    #[arg(long)]
    replication_factor: Option<i16>,
    /// Partition-to-broker assignments: 1:2,2:3 (brokers of partition 0, then of partition 1).
    #[arg(long)]
    replica_assignment: Option<String>,
    /// A topic configuration override for the topic being created: name=value.
    #[arg(long)]
    config: Vec<String>,
    /// The action will only execute if the topic exists.
    #[arg(long)]
    if_exists: bool,
    /// The action will only execute if the topic does not already exist.
    #[arg(long)]
    if_not_exists: bool,
    /// Exclude internal topics when running list or describe.
    #[arg(long)]
    exclude_internal: bool,
    /// Only show topics that have overridden configs.
    #[arg(long)]
    topics_with_overrides: bool,
    /// Only show under replicated partitions.
    #[arg(long)]
    under_replicated_partitions: bool,
    /// Only show partitions whose leader is not available.
    #[arg(long)]
    unavailable_partitions: bool,
    /// Only show partitions whose ISR count is less than the configured minimum.
    #[arg(long)]
    under_min_isr_partitions: bool,
    /// Only show partitions whose ISR count is equal to the configured minimum.
    #[arg(long)]
    at_min_isr_partitions: bool,
    /// Taken for compatibility: answers of any size are read.
    #[arg(long)]
    partition_size_limit_per_response: Option<i32>,
}

/// Runs the tool.
pub async fn run(arguments: &Topics) -> anyhow::Result<()> {
    let Topics { create, list, describe, alter, delete, .. } = arguments;
    if [create, list, describe, alter, delete].into_iter().filter(|action| **action).count() != 1 {
        let actions = "--list, --describe, --create, --alter or --delete";
        return Err(misuse(format!("Command must include exactly one action: {actions}")));
    }
    if arguments.topic.is_none() && (*create || *alter || *delete) {
        return Err(misuse("Missing required argument \"[topic]\""));
    }
    let admin = Admin::new(arguments.common.cluster().await?);
    let done = if *create {
        create_topic(arguments, &admin).await
    } else if *list {
        list_topics(arguments, &admin).await
    } else if *describe {
        describe_topics(arguments, &admin).await
    } else if *alter {
        alter_topics(arguments, &admin).await
    } else {
        delete_topics(arguments, &admin).await
    };
    let Err(error) = done else { return Ok(()) };
    let message = match error.downcast_ref::<ClientError>() {
        Some(error) => message_of(error),
        None => error.to_string(),
    };
    print(format_args!("Error while executing topic command : {message}"))?;
    Err(Shown.into())
}

fn print(line: impl Display) -> anyhow::Result<()> {
    Output { json: false }.line(line)
}

/// `1:2,3:4`: the brokers of each partition.
fn assignments(text: &str) -> anyhow::Result<Vec<Vec<BrokerId>>> {
    let brokers = |part: &str| -> anyhow::Result<Vec<BrokerId>> {
        let ids = part.split(':').map(|id| id.trim().parse().map(BrokerId));
        ids.collect::<Result<_, std::num::ParseIntError>>()
            .map_err(|_| misuse(format!("{part:?} are no broker numbers")))
    };
    text.split(',').map(brokers).collect()
}

async fn create_topic(arguments: &Topics, admin: &Admin) -> anyhow::Result<()> {
    let name = arguments.topic.clone().unwrap_or_default();
    if name.contains(['.', '_']) {
        print(COLLISION_WARNING)?;
    }
    let assigned = arguments.replica_assignment.as_deref().map(assignments).transpose()?;
    let partitions = arguments.partitions.unwrap_or(-1);
    let topic = NewTopic {
        assignments: (0..).zip(assigned.unwrap_or_default()).collect(),
        configs: pairs("--config", &arguments.config)?.into_iter().collect(),
        ..NewTopic::new(&name, partitions, arguments.replication_factor.unwrap_or(-1))
    };
    match admin.create_topic(&topic).await {
        Err(error)
            if arguments.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => print(format_args!("Created topic {name}.")),
    }
}

/// The names of the topics that were asked for.
async fn chosen(arguments: &Topics, admin: &Admin) -> anyhow::Result<Vec<String>> {
    let pattern = arguments.topic.as_deref().map(TopicPattern::new).transpose()?;
    let topics = admin.list_topics().await?;
    let names: Vec<String> = topics
        .iter()
        .filter(|topic| !(arguments.exclude_internal && topic.is_internal))
        .filter(|topic| pattern.as_ref().is_none_or(|pattern| pattern.matches(&topic.name)))
        .map(|topic| topic.name.to_string())
        .collect();
    Ok(names)
}

/// Those that must be there.
async fn existing(arguments: &Topics, admin: &Admin) -> anyhow::Result<Vec<String>> {
    let names = chosen(arguments, admin).await?;
    match &arguments.topic {
        Some(topic) if names.is_empty() && !arguments.if_exists => {
            bail!("Topic '{topic}' does not exist as expected")
        }
        _ => Ok(names),
    }
}

async fn list_topics(arguments: &Topics, admin: &Admin) -> anyhow::Result<()> {
    chosen(arguments, admin).await?.iter().try_for_each(print)
}

async fn alter_topics(arguments: &Topics, admin: &Admin) -> anyhow::Result<()> {
    let Some(partitions) = arguments.partitions else {
        return Err(misuse("Missing required argument \"[partitions]\""));
    };
    for name in existing(arguments, admin).await? {
        let assigned = arguments.replica_assignment.as_deref().map(assignments).transpose()?;
        let current = admin.cluster().topic(&name).await?.partitions.len();
        let added = assigned.map(|all| all.into_iter().skip(current).collect());
        topics::add_partitions(admin, &name, partitions, added).await?;
    }
    Ok(())
}

async fn delete_topics(arguments: &Topics, admin: &Admin) -> anyhow::Result<()> {
    let names = existing(arguments, admin).await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (_, deleted) in admin.delete_topics(&names).await? {
        deleted?;
    }
    Ok(())
}

async fn describe_topics(arguments: &Topics, admin: &Admin) -> anyhow::Result<()> {
    let names = existing(arguments, admin).await?;
    if names.is_empty() {
        return Ok(());
    }
    for topic in &topics::describe(admin, &names).await? {
        let resource = ConfigResource::topic(topic.name.as_deref().unwrap_or_default());
        describe_topic(arguments, topic, &configs::describe(admin, resource).await?)?;
    }
    Ok(())
}

fn describe_topic(
    arguments: &Topics,
    topic: &Topic,
    configs: &[ConfigEntry],
) -> anyhow::Result<()> {
    let filtered = arguments.under_replicated_partitions
        || arguments.unavailable_partitions
        || arguments.under_min_isr_partitions
        || arguments.at_min_isr_partitions;
    let name = topic.name.as_deref().unwrap_or_default();
    let set: Vec<String> = configs
        .iter()
        .filter(|entry| entry.source != ConfigSource::Default)
        .map(|entry| format!("{}={}", entry.name, value_text(entry)))
        .collect();
    let hidden = filtered || (arguments.topics_with_overrides && set.is_empty());
    if !hidden {
        print(format_args!(
            "Topic: {name}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}",
            topic.topic_id,
            topic.partitions.len(),
            topic.partitions.first().map_or(0, |first| first.replica_nodes.len()),
            set.join(",")
        ))?;
    }
    if arguments.topics_with_overrides {
        return Ok(());
    }
    let minimum = configs.iter().find(|entry| entry.name == "min.insync.replicas");
    let minimum = minimum.and_then(|entry| value_text(entry).parse().ok()).unwrap_or(1);
    let partitions = topic.partitions.iter();
    for partition in partitions.filter(|each| !filtered || shows(arguments, each, minimum)) {
        print(partition_line(name, partition))?;
    }
    Ok(())
}

/// Whether a partition is one of those that were asked for.
fn shows(arguments: &Topics, partition: &Partition, minimum: usize) -> bool {
    let in_sync = partition.isr_nodes.len();
    (arguments.under_replicated_partitions && in_sync < partition.replica_nodes.len())
        || (arguments.unavailable_partitions && leader(partition).is_none())
        || (arguments.under_min_isr_partitions && in_sync < minimum)
        || (arguments.at_min_isr_partitions && in_sync == minimum)
}

fn partition_line(topic: &str, partition: &Partition) -> String {
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let optional = |list: &Option<Vec<i32>>| list.as_deref().map_or("N/A".to_owned(), ids);
    let leader = leader(partition).map_or("none".to_owned(), |leader| leader.to_string());
    format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}\tElr: {}\t\
         LastKnownElr: {}",
        partition.partition_index,
        ids(&partition.replica_nodes),
        ids(&partition.isr_nodes),
        optional(&partition.eligible_leader_replicas),
        optional(&partition.last_known_elr),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_described_as_kafka_describes_it() {
        let partition = Partition {
            partition_index: 2,
            leader_id: -1,
            leader_epoch: 4,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1],
            eligible_leader_replicas: Some(vec![2]),
            last_known_elr: None,
            ..Partition::default()
        };
        assert_eq!(
            partition_line("t", &partition),
            "\tTopic: t\tPartition: 2\tLeader: none\tReplicas: 1,2\tIsr: 1\tElr: 2\t\
             LastKnownElr: N/A"
        );
    }

    #[test]
    fn topics_are_chosen_by_pattern_and_brokers_by_assignment() {
        let pattern = TopicPattern::new("orders.*, users").unwrap();
        let chosen = ["orders-eu", "users", "users2"].map(|topic| pattern.matches(topic));
        assert_eq!(chosen, [true, true, false]);
        assert_eq!(
            assignments("1:2,3").unwrap(),
            [vec![BrokerId(1), BrokerId(2)], vec![BrokerId(3)]]
        );
        assert!(assignments("1:x").is_err());
    }
}
