//! `kafka-leader-election`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use ottla_common::kafka::admin::{Admin, ElectionType};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::TopicPartition;
use serde::Deserialize;

use super::{CommonArguments, Shown, exception_as_told};
use crate::output::{Output, misuse};

/// This tool attempts to elect a new leader for a set of topic partitions.
#[derive(Debug, Parser)]
#[command(name = "kafka-leader-election", version)]
pub struct LeaderElection {
    #[command(flatten)]
    common: CommonArguments,
    /// Type of election to attempt.
    #[arg(long, ignore_case = true)]
    election_type: Election,
    /// Perform election on all of the eligible topic partitions.
    #[arg(long)]
    all_topic_partitions: bool,
    /// Name of topic for which to perform an election.
    #[arg(long)]
    topic: Option<String>,
    /// Partition id for which to perform an election.
    #[arg(long)]
    partition: Option<i32>,
    /// The JSON file with the list of partitions for which leader elections should be performed.
    #[arg(long)]
    path_to_json_file: Option<PathBuf>,
    /// As --command-config.
    #[arg(long = "admin.config")]
    admin_config: Option<PathBuf>,
}

/// The types of elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Election {
    Preferred,
    Unclean,
}

impl Election {
    fn name(self) -> &'static str {
        match self {
            Self::Preferred => "PREFERRED",
            Self::Unclean => "UNCLEAN",
        }
    }
}

#[derive(Deserialize)]
struct Partitions {
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Partition {
    topic: String,
    partition: i32,
}

/// Runs the tool.
pub async fn run(arguments: &LeaderElection) -> anyhow::Result<()> {
    let LeaderElection { all_topic_partitions, topic, path_to_json_file, .. } = arguments;
    let chosen = [*all_topic_partitions, topic.is_some(), path_to_json_file.is_some()];
    if chosen.into_iter().filter(|each| *each).count() != 1 {
        let options = "--all-topic-partitions, --topic or --path-to-json-file";
        return Err(misuse(format!("One and only one of {options} is required")));
    }
    let partitions = match (topic, arguments.partition, path_to_json_file) {
        (Some(topic), Some(partition), _) => {
            Some(vec![TopicPartition::new(topic.as_str(), partition)])
        }
        (Some(_), None, _) => return Err(misuse("Missing required argument \"[partition]\"")),
        (_, _, Some(file)) => {
            let named: Partitions = serde_json::from_slice(&std::fs::read(file)?)?;
            let partitions = named.partitions.into_iter();
            Some(partitions.map(|p| TopicPartition::new(p.topic.as_str(), p.partition)).collect())
        }
        _ => None,
    };
    let admin = Admin::new(arguments.common.cluster().await?);
    elect(arguments.election_type, &admin, partitions).await
}

async fn elect(
    election: Election,
    admin: &Admin,
    partitions: Option<Vec<TopicPartition>>,
) -> anyhow::Result<()> {
    let kind = match election {
        Election::Preferred => ElectionType::Preferred,
        Election::Unclean => ElectionType::Unclean,
    };
    let (mut elected, mut not_needed, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (partition, result) in admin.elect_leaders(kind, partitions.as_deref()).await? {
        match result {
            Ok(()) => elected.push(partition.to_string()),
            Err(error) if error.code() == Some(ErrorCode::ElectionNotNeeded) => {
                not_needed.push(partition.to_string());
            }
            Err(error) => failed.push((partition, error)),
        }
    }
    let output = Output { json: false };
    let name = election.name();
    if !elected.is_empty() {
        let list = elected.join(", ");
        output.line(format_args!(
            "Successfully completed leader election ({name}) for partitions {list}"
        ))?;
    }
    if !not_needed.is_empty() {
        let list = not_needed.join(", ");
        output.line(format_args!("Valid replica already elected for partitions {list}"))?;
    }
    for (partition, error) in &failed {
        let text = exception_as_told(error);
        output.line(format_args!(
            "Error completing leader election ({name}) for partition: {partition}: {text}"
        ))?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    eprintln!("{} replica(s) could not be elected", failed.len());
    Err(Shown.into())
}
