//! `kafka-metadata-quorum describe`: who keeps the cluster's metadata. Here these are the
//! coordinators.

use std::fmt::Display;

use clap::{Args, Parser, Subcommand};
use ottla_common::clock::wall_time_ms;
use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::describe_quorum::response::{PartitionData, ReplicaState};
use ottla_common::kafka::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, request,
};
use ottla_common::types::Uuid;

use super::CommonArguments;
use crate::output::{Output, misuse};

/// This tool describes the quorum that keeps the cluster's metadata.
#[derive(Debug, Parser)]
#[command(name = "kafka-metadata-quorum", version)]
pub struct MetadataQuorum {
    #[command(flatten)]
    common: CommonArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Describe the metadata quorum info.
    Describe(Describe),
}

#[derive(Args, Debug)]
struct Describe {
    /// A short summary of the quorum status.
    #[arg(long)]
    status: bool,
    /// Detailed information about the status of replication.
    #[arg(long)]
    replication: bool,
    /// Times as how long ago they are.
    #[arg(long)]
    human_readable: bool,
}

fn print(line: impl Display) -> anyhow::Result<()> {
    Output { json: false }.line(line)
}

/// Runs the tool.
pub async fn run(arguments: &MetadataQuorum) -> anyhow::Result<()> {
    let Command::Describe(wanted) = &arguments.command;
    let only_one = "Only one of --status or --replication should be specified with describe \
                    sub-command";
    match (wanted.status, wanted.replication) {
        (true, true) => return Err(misuse(only_one)),
        (false, false) => {
            let text = "One of --status or --replication must be specified with describe \
                        sub-command";
            return Err(misuse(text));
        }
        (true, false) if wanted.human_readable => {
            let text = "The option --human-readable is only supported along with --replication";
            return Err(misuse(text));
        }
        _ => {}
    }
    let admin = Admin::new(arguments.common.cluster().await?);
    let told = ask(&admin).await?;
    let Some(quorum) = told.topics.first().and_then(|topic| topic.partitions.first()) else {
        anyhow::bail!("the broker tells of no quorum");
    };
    if wanted.replication {
        return print_replication(quorum, wanted.human_readable);
    }
    let cluster_id = admin.describe_cluster(false).await?.cluster_id;
    print_status(&told, quorum, cluster_id.as_str())
}

async fn ask(admin: &Admin) -> anyhow::Result<DescribeQuorumResponse> {
    let topic = request::TopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![request::PartitionData::default()],
        ..request::TopicData::default()
    };
    let request = DescribeQuorumRequest { topics: vec![topic], ..Default::default() };
    let told = admin.cluster().send_to_any(&request).await?;
    let message = told.error_message.as_ref().map(|text| text.as_str());
    let code = ErrorCode::from_code(told.error_code);
    ClientError::check(|| "describing the quorum".to_owned(), code, message)?;
    Ok(told)
}

fn leader(quorum: &PartitionData) -> Option<&ReplicaState> {
    quorum.current_voters.iter().find(|voter| voter.replica_id == quorum.leader_id)
}

fn print_status(
    told: &DescribeQuorumResponse,
    quorum: &PartitionData,
    cluster_id: &str,
) -> anyhow::Result<()> {
    let slowest = quorum.current_voters.iter().min_by_key(|voter| voter.log_end_offset);
    let (lag, lag_time_ms) = match (leader(quorum), slowest) {
        (Some(leader), Some(slowest)) => {
            let times = [leader.last_caught_up_timestamp, slowest.last_caught_up_timestamp];
            let lag_time_ms = match times {
                _ if leader.replica_id == slowest.replica_id => 0,
                [leads, follows] if leads >= 0 && follows >= 0 => leads - follows,
                _ => -1,
            };
            (leader.log_end_offset - slowest.log_end_offset, lag_time_ms)
        }
        _ => (-1, -1),
    };
    print(format_args!("ClusterId:              {cluster_id}"))?;
    print(format_args!("LeaderId:               {}", quorum.leader_id))?;
    print(format_args!("LeaderEpoch:            {}", quorum.leader_epoch))?;
    print(format_args!("HighWatermark:          {}", quorum.high_watermark))?;
    print(format_args!("MaxFollowerLag:         {lag}"))?;
    print(format_args!("MaxFollowerLagTimeMs:   {lag_time_ms}"))?;
    print(format_args!("CurrentVoters:          {}", replicas(told, &quorum.current_voters)))?;
    print(format_args!("CurrentObservers:       {}", replicas(told, &quorum.observers)))
}

fn replicas(told: &DescribeQuorumResponse, replicas: &[ReplicaState]) -> String {
    let described = replicas.iter().map(|replica| {
        let mut text = format!("{{\"id\": {}", replica.replica_id);
        if replica.replica_directory_id != Uuid::ZERO {
            text.push_str(&format!(", \"directoryId\": \"{}\"", replica.replica_directory_id));
        }
        let node = told.nodes.iter().find(|node| node.node_id == replica.replica_id);
        let endpoints = node
            .into_iter()
            .flat_map(|node| &node.listeners)
            .map(|at| format!("\"{}://{}:{}\"", at.name.as_str(), at.host.as_str(), at.port));
        let endpoints: Vec<String> = endpoints.collect();
        if !endpoints.is_empty() {
            text.push_str(&format!(", \"endpoints\": [{}]", endpoints.join(", ")));
        }
        text.push('}');
        text
    });
    format!("[{}]", described.collect::<Vec<_>>().join(", "))
}

fn print_replication(quorum: &PartitionData, is_human_readable: bool) -> anyhow::Result<()> {
    let heads = [
        "NodeId",
        "DirectoryId",
        "LogEndOffset",
        "Lag",
        "LastFetchTimestamp",
        "LastCaughtUpTimestamp",
        "Status",
    ];
    let end_offset = leader(quorum).map_or(0, |leader| leader.log_end_offset);
    let now_ms = wall_time_ms();
    let time = |ms: i64| match ms {
        0.. if is_human_readable => format!("{} ms ago", (now_ms - ms).max(0)),
        ms => ms.to_string(),
    };
    let row = |replica: &ReplicaState, status: &str| {
        [
            replica.replica_id.to_string(),
            replica.replica_directory_id.to_string(),
            replica.log_end_offset.to_string(),
            (end_offset - replica.log_end_offset).to_string(),
            time(replica.last_fetch_timestamp),
            time(replica.last_caught_up_timestamp),
            status.to_owned(),
        ]
    };
    let leads = |voter: &&ReplicaState| voter.replica_id == quorum.leader_id;
    let voters = &quorum.current_voters;
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(voters.iter().filter(leads).map(|voter| row(voter, "Leader")));
    rows.extend(voters.iter().filter(|voter| !leads(voter)).map(|voter| row(voter, "Follower")));
    rows.extend(quorum.observers.iter().map(|observer| row(observer, "Observer")));
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..heads.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}\t"));
        print(cells.collect::<String>())?;
    }
    Ok(())
}
