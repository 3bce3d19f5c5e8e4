//! The tools that only look: `kafka-cluster`, `kafka-log-dirs`, `kafka-get-offsets`,
//! `kafka-broker-api-versions`; and `kafka-delete-records`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::cluster::Isolation;
use ottla_common::kafka::messages::ApiKey;
use ottla_common::types::TopicPartition;
use serde::{Deserialize, Serialize};

use super::{CommonArguments, Shown, TopicPattern, exception_of};
use crate::output::{Output, misuse};

/// This tool helps to look at a cluster.
#[derive(Debug, Parser)]
#[command(name = "kafka-cluster", version)]
pub struct Cluster {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Get information about the ID of a cluster.
    ClusterId {
        #[command(flatten)]
        common: CommonArguments,
    },
    /// List endpoints by broker.
    ListEndpoints {
        #[command(flatten)]
        common: CommonArguments,
    },
}

/// This tool helps to query log directory usage on the specified brokers.
#[derive(Debug, Parser)]
#[command(name = "kafka-log-dirs", version)]
pub struct LogDirs {
    #[command(flatten)]
    common: CommonArguments,
    /// Describe the log directories on the specified brokers.
    #[arg(long)]
    describe: bool,
    /// The topics to be queried: topic1,topic2.
    #[arg(long, value_delimiter = ',')]
    topic_list: Vec<String>,
    /// The brokers to be queried: 0,1,2.
    #[arg(long, value_delimiter = ',')]
    broker_list: Vec<i32>,
}

/// An interactive shell for getting topic-partition offsets.
#[derive(Debug, Parser)]
#[command(name = "kafka-get-offsets", version)]
pub struct GetOffsets {
    #[command(flatten)]
    common: CommonArguments,
    /// Regular expression of the topics.
    #[arg(long)]
    topic: Option<String>,
    /// Comma separated list of partition ids.
    #[arg(long, value_delimiter = ',')]
    partitions: Vec<i32>,
    /// Comma separated list of topic:partition.
    #[arg(long, conflicts_with_all = ["topic", "partitions"], value_delimiter = ',')]
    topic_partitions: Vec<String>,
    /// A timestamp in milliseconds, -1 or latest, -2 or earliest, -3 or max-timestamp.
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    time: String,
    /// By default, internal topics are included.
    #[arg(long)]
    exclude_internal_topics: bool,
}

/// This tool helps to delete records of the given partitions down to the specified offset.
#[derive(Debug, Parser)]
#[command(name = "kafka-delete-records", version)]
pub struct DeleteRecords {
    #[command(flatten)]
    common: CommonArguments,
    /// The JSON file with offset per partition:
    /// {"partitions": [{"topic": "foo", "partition": 1, "offset": 1}], "version":1}
    #[arg(long)]
    offset_json_file: PathBuf,
}

/// This tool helps to retrieve broker version information.
#[derive(Debug, Parser)]
#[command(name = "kafka-broker-api-versions", version)]
pub struct BrokerApiVersions {
    #[command(flatten)]
    common: CommonArguments,
}

fn print(line: impl Display) -> anyhow::Result<()> {
    Output { json: false }.line(line)
}

/// Runs `kafka-cluster`.
pub async fn cluster(arguments: &Cluster) -> anyhow::Result<()> {
    match &arguments.command {
        ClusterCommand::ClusterId { common } => {
            let described = Admin::new(common.cluster().await?).describe_cluster(false).await?;
            print(format_args!("Cluster ID: {}", described.cluster_id))
        }
        ClusterCommand::ListEndpoints { common } => {
            let described = Admin::new(common.cluster().await?).describe_cluster(true).await?;
            let width =
                described.brokers.iter().map(|broker| broker.host.len()).max().unwrap_or(0).max(8);
            print(format_args!(
                "{:<10} {:<width$}  {:<10} {:<10} {:<10} {:<15}",
                "ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE"
            ))?;
            for broker in &described.brokers {
                let state = if broker.is_fenced { "fenced" } else { "unfenced" };
                let rack = broker.rack.as_deref().unwrap_or("null");
                let (id, host, port) = (broker.broker_id, broker.host.as_str(), broker.port);
                print(format_args!(
                    "{id:<10} {host:<width$}  {port:<10} {rack:<10} {state:<10} {:<15}",
                    "broker"
                ))?;
            }
            Ok(())
        }
    }
}

#[derive(Serialize)]
struct DirsJson {
    brokers: Vec<BrokerJson>,
    version: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BrokerJson {
    broker: i32,
    log_dirs: Vec<DirJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DirJson {
    partitions: Vec<PartitionJson>,
    error: Option<String>,
    log_dir: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionJson {
    partition: String,
    size: i64,
    offset_lag: i64,
    is_future: bool,
}

/// Runs `kafka-log-dirs`.
pub async fn log_dirs(arguments: &LogDirs) -> anyhow::Result<()> {
    if !arguments.describe {
        return Err(misuse("Missing required argument \"[describe]\""));
    }
    let admin = Admin::new(arguments.common.cluster().await?);
    let metadata = admin.cluster().refresh_all().await?;
    let asked = &arguments.broker_list;
    let joined = |ids: Vec<i32>| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let missing: Vec<i32> = asked
        .iter()
        .copied()
        .filter(|asked| !metadata.brokers.keys().any(|broker| broker.0 == *asked))
        .collect();
    if !missing.is_empty() {
        eprintln!(
            "ERROR: The given brokers do not exist from --broker-list: {}. Current existent \
             brokers: {}",
            joined(missing),
            joined(metadata.brokers.keys().map(|broker| broker.0).collect())
        );
        return Err(Shown.into());
    }
    let brokers: Vec<_> = metadata
        .brokers
        .keys()
        .filter(|broker| asked.is_empty() || asked.contains(&broker.0))
        .collect();
    print("Querying brokers for log directories information")?;
    let names: Vec<&str> = arguments.topic_list.iter().map(String::as_str).collect();
    let wanted = (!names.is_empty()).then_some(names.as_slice());
    let mut json = DirsJson { brokers: Vec::new(), version: 1 };
    for broker in &brokers {
        let dirs = admin.describe_log_dirs(**broker, wanted).await?;
        let log_dirs = dirs.iter().map(|dir| DirJson {
            partitions: dir
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |each| (topic, each)))
                .map(|(topic, each)| PartitionJson {
                    partition: format!("{}-{}", topic.name, each.partition_index),
                    size: each.partition_size,
                    offset_lag: each.offset_lag,
                    is_future: each.is_future_key,
                })
                .collect(),
            error: (dir.error_code != 0).then(|| dir.error_code.to_string()),
            log_dir: dir.log_dir.to_string(),
        });
        json.brokers.push(BrokerJson { broker: broker.0, log_dirs: log_dirs.collect() });
    }
    let ids: Vec<String> = brokers.iter().map(ToString::to_string).collect();
    print(format_args!("Received log directory information from brokers {}", ids.join(",")))?;
    print(serde_json::to_string(&json)?)
}

/// Runs `kafka-get-offsets`.
pub async fn get_offsets(arguments: &GetOffsets) -> anyhow::Result<()> {
    let timestamp = match arguments.time.as_str() {
        "latest" => -1,
        "earliest" => -2,
        "max-timestamp" => -3,
        "earliest-local" => -4,
        "latest-tiered" => -5,
        text => text.parse().map_err(|_| misuse(format!("Malformed time argument {text}")))?,
    };
    let admin = Admin::new(arguments.common.cluster().await?);
    let chosen = chosen_partitions(arguments, &admin).await?;
    if chosen.is_empty() {
        eprintln!(
            "Error occurred: Could not match any topic-partitions with the specified filters"
        );
        return Err(Shown.into());
    }
    let wanted: Vec<_> = chosen.into_iter().map(|partition| (partition, timestamp)).collect();
    let mut lines = Vec::new();
    for (partition, listed) in admin.list_offsets(&wanted, Isolation::ReadUncommitted).await {
        // There is none if no record is so late. The partition has no line then.
        if let Some(offset) = listed?.offset {
            let number = partition.partition.to_string();
            lines.push((partition.topic, number, offset));
        }
    }
    // As the tool does, by the numbers' text: 10 goes before 2.
    lines.sort();
    for (topic, number, offset) in lines {
        print(format_args!("{topic}:{number}:{offset}"))?;
    }
    Ok(())
}

async fn chosen_partitions(
    arguments: &GetOffsets,
    admin: &Admin,
) -> anyhow::Result<Vec<TopicPartition>> {
    let pattern = arguments.topic.as_deref().map(TopicPattern::new).transpose()?;
    let listed: BTreeSet<&str> = arguments.topic_partitions.iter().map(String::as_str).collect();
    let mut chosen = Vec::new();
    for topic in admin.list_topics().await? {
        let matches = pattern.as_ref().is_none_or(|pattern| pattern.matches(&topic.name));
        if !matches || (topic.is_internal && arguments.exclude_internal_topics) {
            continue;
        }
        for partition in topic.partitions.iter().map(|partition| partition.partition) {
            let name = format!("{}:{partition}", topic.name);
            let is_listed = listed.is_empty()
                || listed.contains(name.as_str())
                || listed.contains(topic.name.as_ref());
            let asked = &arguments.partitions;
            if is_listed && (asked.is_empty() || asked.contains(&partition)) {
                chosen.push(TopicPartition::new(Arc::clone(&topic.name), partition));
            }
        }
    }
    Ok(chosen)
}

#[derive(Deserialize)]
struct OffsetsJson {
    partitions: Vec<OffsetJson>,
}

#[derive(Deserialize)]
struct OffsetJson {
    topic: String,
    partition: i32,
    offset: i64,
}

/// Runs `kafka-delete-records`.
pub async fn delete_records(arguments: &DeleteRecords) -> anyhow::Result<()> {
    let file = &arguments.offset_json_file;
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let json: OffsetsJson =
        serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
    let before: Vec<_> = json
        .partitions
        .into_iter()
        .map(|each| (TopicPartition::new(each.topic, each.partition), each.offset))
        .collect();
    let admin = Admin::new(arguments.common.cluster().await?);
    print("Executing records delete operation")?;
    let mut results = admin.delete_records(&before).await;
    results.sort_by(|(a, _), (b, _)| a.cmp(b));
    print("Records delete operation completed:")?;
    for (TopicPartition { topic, partition }, result) in results {
        match result {
            Ok(low) => print(format_args!("partition: {topic}-{partition}\tlow_watermark: {low}"))?,
            Err(error) => {
                let error = exception_of(&error);
                print(format_args!("partition: {topic}-{partition}\terror: {error}"))?;
            }
        }
    }
    Ok(())
}

/// Runs `kafka-broker-api-versions`.
pub async fn broker_api_versions(arguments: &BrokerApiVersions) -> anyhow::Result<()> {
    let cluster = arguments.common.cluster().await?;
    let metadata = cluster.refresh_all().await?;
    for (id, node) in &metadata.brokers {
        let connection = cluster.connection(*id).await?;
        let versions = connection.versions();
        let lines: Vec<String> = ApiKey::ALL
            .iter()
            .map(|key| {
                let name = format!("\t{}({})", key.name(), key.code());
                match versions.offered(*key) {
                    None => format!("{name}: UNSUPPORTED"),
                    Some((low, high)) => {
                        let range =
                            if low == high { low.to_string() } else { format!("{low} to {high}") };
                        let usable = high.min(key.max_version());
                        format!("{name}: {range} [usable: {usable}]")
                    }
                }
            })
            .collect();
        let rack = node.rack.as_deref().unwrap_or("null");
        print(format_args!(
            "{} (id: {id} rack: {rack} isFenced: false) -> (\n{}\n)",
            node.address(),
            lines.join(",\n")
        ))?;
    }
    Ok(())
}
