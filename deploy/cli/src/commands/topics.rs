//! `ottla topics`: create, list, describe, alter, delete.

use std::sync::Arc;

use clap::{Args, Subcommand};
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::{Cluster, TopicMetadata};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::create_partitions::CreatePartitionsRequest;
use ottla_common::kafka::messages::create_partitions::request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use ottla_common::kafka::messages::create_topics::CreateTopicsRequest;
use ottla_common::kafka::messages::create_topics::request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_common::kafka::messages::delete_topics::DeleteTopicsRequest;
use ottla_common::kafka::messages::delete_topics::request::DeleteTopicState;
use ottla_common::kafka::messages::describe_topic_partitions::DescribeTopicPartitionsRequest;
use ottla_common::kafka::messages::describe_topic_partitions::request::{Cursor, TopicRequest};
use serde_json::{Value, json};

use super::configs::{self, ResourceKind};
use crate::context::Context;
use crate::output::{Output, misuse};

/// How long the cluster may take for a change, in milliseconds.
const TIMEOUT_MS: i32 = 30_000;

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

/// A topic to make.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partitions; -1 for the cluster's default, and with assignments.
    pub partitions: i32,
    /// Replicas of each; likewise.
    pub replication_factor: i16,
    /// The brokers of each partition, if they are not for the cluster to choose.
    pub assignments: Vec<Vec<i32>>,
    /// Its configs.
    pub configs: Vec<(String, String)>,
    /// Check it, but do not make it.
    pub validate_only: bool,
}

/// A topic that was made.
#[derive(Clone, Copy, Debug)]
pub struct CreatedTopic {
    /// Its partitions; -1 if the broker does not tell.
    pub partitions: i32,
    /// Replicas of each; likewise.
    pub replication_factor: i16,
}

/// What a cluster tells of a topic.
#[derive(Clone, Debug)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
}

/// What a cluster tells of a partition.
#[derive(Clone, Debug)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// Its leader, if it has one.
    pub leader: Option<i32>,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The replicas in sync.
    pub isr: Vec<i32>,
    /// Replicas that may lead though they are not in sync (KIP-966), if the cluster keeps them.
    pub elr: Option<Vec<i32>>,
    /// Those that were before the last of them went, likewise.
    pub last_known_elr: Option<Vec<i32>>,
    /// The replicas that are down.
    pub offline: Vec<i32>,
}

impl TopicDescription {
    /// Replicas of each partition.
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas.len())
    }
}

/// Runs `ottla topics`.
pub async fn run(context: &Context, command: TopicsCommand) -> anyhow::Result<()> {
    let cluster = context.cluster().await?;
    let output = context.output;
    match command {
        TopicsCommand::Create(arguments) => create_all(output, &cluster, &arguments).await,
        TopicsCommand::List { all } => list(output, &cluster, all).await,
        TopicsCommand::Describe { topics } => print_topics(output, &cluster, &topics).await,
        TopicsCommand::Alter { topic, partitions } => {
            add_partitions(&cluster, &topic, partitions, None).await?;
            output.done(format_args!("{topic} has {partitions} partitions"))
        }
        TopicsCommand::Delete { topics, if_exists } => {
            for topic in &topics {
                match delete(&cluster, topic).await {
                    Err(error)
                        if error.code() == Some(ErrorCode::UnknownTopicOrPartition)
                            && if_exists => {}
                    Err(error) => return Err(error.into()),
                    Ok(()) => output.done(format_args!("{topic} is gone"))?,
                }
            }
            Ok(())
        }
    }
}

async fn create_all(
    output: Output,
    cluster: &Cluster,
    arguments: &CreateArguments,
) -> anyhow::Result<()> {
    let configs = pairs("--config", &arguments.config)?;
    for name in &arguments.topics {
        let topic = NewTopic {
            name: name.clone(),
            partitions: arguments.partitions,
            replication_factor: arguments.replication_factor,
            configs: configs.clone(),
            validate_only: arguments.dry_run,
            ..NewTopic::default()
        };
        match create(cluster, &topic).await {
            Err(error)
                if error.code() == Some(ErrorCode::TopicAlreadyExists)
                    && arguments.if_not_exists => {}
            Err(error) => return Err(error.into()),
            Ok(created) => {
                let CreatedTopic { partitions, replication_factor } = created;
                let would = if arguments.dry_run { "would be" } else { "is" };
                output.done(format_args!(
                    "{name} {would} made: {partitions} partitions, {replication_factor} replicas"
                ))?;
            }
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

async fn list(output: Output, cluster: &Cluster, all: bool) -> anyhow::Result<()> {
    let metadata = cluster.refresh_all().await?;
    let topics = metadata.topics().filter(|topic| all || !topic.is_internal);
    output.rows(
        ["topic", "partitions", "replicas", "id"],
        topics.map(|topic| {
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

async fn print_topics(output: Output, cluster: &Cluster, names: &[String]) -> anyhow::Result<()> {
    let topics = describe(cluster, names).await?;
    let resources: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let configs = configs::describe(cluster, ResourceKind::Topic, &resources).await?;
    for (topic, configs) in topics.iter().zip(&configs) {
        let set = configs.entries.iter().filter(|entry| !entry.is_default());
        let set: Vec<(&str, &str)> =
            set.map(|entry| (entry.name.as_str(), entry.value_text())).collect();
        if output.json {
            let configs: serde_json::Map<String, Value> =
                set.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
            let partitions: Vec<Value> = topic.partitions.iter().map(partition_json).collect();
            output.value(&json!({
                "topic": topic.name,
                "id": topic.id,
                "configs": configs,
                "partitions": partitions,
            }))?;
            continue;
        }
        output.line(format_args!("{} ({})", topic.name, topic.id))?;
        for (key, value) in set {
            output.line(format_args!("{key} = {value}"))?;
        }
        output.rows(
            ["partition", "leader", "leader epoch", "replicas", "isr", "offline"],
            topic.partitions.iter().map(|partition| {
                [
                    partition.partition.into(),
                    partition.leader.into(),
                    partition.leader_epoch.into(),
                    partition.replicas.clone().into(),
                    partition.isr.clone().into(),
                    partition.offline.clone().into(),
                ]
            }),
        )?;
    }
    Ok(())
}

fn partition_json(partition: &PartitionDescription) -> Value {
    json!({
        "partition": partition.partition,
        "leader": partition.leader,
        "leader_epoch": partition.leader_epoch,
        "replicas": partition.replicas,
        "isr": partition.isr,
        "elr": partition.elr,
        "offline": partition.offline,
    })
}

/// Makes a topic.
///
/// # Errors
/// `Refused` with what the cluster says.
pub async fn create(cluster: &Cluster, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
    let assignments = (0..).zip(&topic.assignments).map(|(partition_index, brokers)| {
        let broker_ids = brokers.clone();
        CreatableReplicaAssignment { partition_index, broker_ids, ..Default::default() }
    });
    let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: name.as_str().into(),
        value: Some(value.as_str().into()),
        ..Default::default()
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.name.as_str().into(),
            num_partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            assignments: assignments.collect(),
            configs: configs.collect(),
            ..Default::default()
        }],
        timeout_ms: TIMEOUT_MS,
        validate_only: topic.validate_only,
        ..Default::default()
    };
    let response = cluster.send_to_any(&request).await?;
    for result in &response.topics {
        let code = ErrorCode::from_code(result.error_code);
        let message = result.error_message.as_deref();
        ClientError::check(|| format!("create topic {:?}", topic.name), code, message)?;
    }
    let result = response.topics.first();
    Ok(CreatedTopic {
        partitions: result.map_or(-1, |result| result.num_partitions),
        replication_factor: result.map_or(-1, |result| result.replication_factor),
    })
}

/// Removes a topic.
///
/// # Errors
/// `Refused` with what the cluster says.
pub async fn delete(cluster: &Cluster, topic: &str) -> Result<(), ClientError> {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(topic.into()), ..Default::default() }],
        topic_names: vec![topic.into()],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let response = cluster.send_to_any(&request).await?;
    for result in &response.responses {
        let code = ErrorCode::from_code(result.error_code);
        let message = result.error_message.as_deref();
        ClientError::check(|| format!("delete topic {topic:?}"), code, message)?;
    }
    Ok(())
}

/// Gives a topic more partitions: `count` in all, the new ones on these brokers if they are given.
///
/// # Errors
/// `Refused` with what the cluster says.
pub async fn add_partitions(
    cluster: &Cluster,
    topic: &str,
    count: i32,
    assignments: Option<Vec<Vec<i32>>>,
) -> Result<(), ClientError> {
    let assignments = assignments.map(|assignments| {
        let each = assignments.into_iter();
        each.map(|broker_ids| CreatePartitionsAssignment { broker_ids, ..Default::default() })
            .collect()
    });
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: topic.into(),
            count,
            assignments,
            ..Default::default()
        }],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let response = cluster.send_to_any(&request).await?;
    for result in &response.results {
        let code = ErrorCode::from_code(result.error_code);
        let message = result.error_message.as_deref();
        ClientError::check(|| format!("add partitions to topic {topic:?}"), code, message)?;
    }
    Ok(())
}

/// Describes these topics, or all if none are named, by name.
///
/// # Errors
/// `UnknownTopic`, or `Refused` with what the cluster says.
pub async fn describe(
    cluster: &Cluster,
    names: &[String],
) -> Result<Vec<TopicDescription>, ClientError> {
    let topics = names.iter().map(|name| TopicRequest { name: name.into(), ..Default::default() });
    let mut request =
        DescribeTopicPartitionsRequest { topics: topics.collect(), ..Default::default() };
    let mut described: Vec<TopicDescription> = Vec::new();
    loop {
        let response = cluster.send_to_any(&request).await?;
        for topic in response.topics {
            let name = topic.name.as_deref().unwrap_or_default().to_owned();
            let code = ErrorCode::from_code(topic.error_code);
            if code == ErrorCode::UnknownTopicOrPartition {
                return Err(ClientError::UnknownTopic { topic: name });
            }
            ClientError::check(|| format!("describe topic {name:?}"), code, None::<&str>)?;
            let partitions = topic.partitions.into_iter().map(|partition| PartitionDescription {
                partition: partition.partition_index,
                leader: (partition.leader_id >= 0).then_some(partition.leader_id),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes,
                isr: partition.isr_nodes,
                elr: partition.eligible_leader_replicas,
                last_known_elr: partition.last_known_elr,
                offline: partition.offline_replicas,
            });
            match described.last_mut() {
                // The rest of a topic whose beginning came with the answer before.
                Some(last) if last.name == name => last.partitions.extend(partitions),
                _ => described.push(TopicDescription {
                    name,
                    id: topic.topic_id.to_string(),
                    partitions: partitions.collect(),
                }),
            }
        }
        let Some(next) = response.next_cursor else { break };
        request.cursor = Some(Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
            ..Default::default()
        });
    }
    for topic in &mut described {
        topic.partitions.sort_by_key(|partition| partition.partition);
    }
    described.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(described)
}

/// A topic's metadata; it is made if it is not there.
pub async fn ensure(cluster: &Cluster, topic: NewTopic) -> anyhow::Result<Arc<TopicMetadata>> {
    match cluster.topic(&topic.name).await {
        Err(ClientError::UnknownTopic { .. }) => {}
        found => return Ok(found?),
    }
    match create(cluster, &topic).await {
        Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => {
            return Err(error.into());
        }
        _ => {}
    }
    // Another broker may not know the topic for a moment.
    let found = cluster.retry(|| async {
        let missing = |error| match error {
            ClientError::UnknownTopic { topic } => ClientError::NoLeader { topic, partition: 0 },
            error => error,
        };
        let found = cluster.topic(&topic.name).await.map_err(missing)?;
        for partition in &found.partitions {
            cluster.leader(&topic.name, partition.partition).await?;
        }
        Ok(found)
    });
    Ok(found.await?)
}
