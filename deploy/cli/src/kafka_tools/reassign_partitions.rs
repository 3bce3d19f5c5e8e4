//! `kafka-reassign-partitions`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use ottla_common::kafka::admin::Admin;
use ottla_common::types::TopicPartition;
use serde::Deserialize;

use super::{CommonArguments, Shown};
use crate::commands::topics::log_dirs;
use crate::commands::topics::reassign::{self, Plan, Progress, list};
use crate::commands::topics::throttles;
use crate::output::{Output, misuse};

/// This tool helps to move topic partitions between replicas.
#[derive(Debug, Parser)]
#[command(name = "kafka-reassign-partitions", version)]
pub struct ReassignPartitions {
    #[command(flatten)]
    common: CommonArguments,
    /// Generate a candidate partition reassignment configuration.
    #[arg(long)]
    generate: bool,
    /// Kick off the reassignment as specified by the --reassignment-json-file option.
    #[arg(long)]
    execute: bool,
    /// Verify if the reassignment completed as specified by the --reassignment-json-file option.
    #[arg(long)]
    verify: bool,
    /// Cancel an active reassignment.
    #[arg(long)]
    cancel: bool,
    /// List all active partition reassignments.
    #[arg(long)]
    list: bool,
    /// The JSON file with the partition reassignment configuration.
    #[arg(long)]
    reassignment_json_file: Option<PathBuf>,
    /// The JSON file with the topics to generate a reassignment for.
    #[arg(long)]
    topics_to_move_json_file: Option<PathBuf>,
    /// The brokers to which the partitions need to be reassigned: 0,1,2.
    #[arg(long, value_delimiter = ',')]
    broker_list: Vec<i32>,
    /// Disable rack aware replica assignment.
    #[arg(long)]
    disable_rack_aware: bool,
    /// Execute this reassignment in addition to any other ongoing ones.
    #[arg(long)]
    additional: bool,
    /// Do not modify broker or topic throttles.
    #[arg(long)]
    preserve_throttles: bool,
    /// The movement of partitions between brokers will be throttled to this value (bytes/sec).
    #[arg(long)]
    throttle: Option<u64>,
    /// Most milliseconds until replicas are there and can be moved to their log directories.
    #[arg(long)]
    timeout: Option<i64>,
}

#[derive(Deserialize)]
struct TopicsToMove {
    topics: Vec<TopicToMove>,
}

#[derive(Deserialize)]
struct TopicToMove {
    topic: String,
}

/// Runs the tool.
pub async fn run(arguments: &ReassignPartitions) -> anyhow::Result<()> {
    let ReassignPartitions { generate, execute, verify, cancel, list, .. } = arguments;
    if [generate, execute, verify, cancel, list].into_iter().filter(|each| **each).count() != 1 {
        return Err(misuse(
            "Command must include exactly one action: --generate, --execute, \
                           --verify, --cancel, --list",
        ));
    }
    let file = || {
        let file = arguments.reassignment_json_file.as_deref();
        file.ok_or_else(|| misuse("Missing required argument \"[reassignment-json-file]\""))
    };
    let admin = Admin::new(arguments.common.cluster().await?);
    if *list {
        return print_moving(&admin).await;
    }
    if *generate {
        return print_proposal(arguments, &admin).await;
    }
    let plan = Plan::read(file()?)?;
    if *execute {
        return start(arguments, &admin, &plan).await;
    }
    if *verify {
        print_progress(&admin, &plan).await?;
    } else {
        call_off(&admin, &plan).await?;
    }
    if arguments.preserve_throttles || reassign::is_moving(&admin).await? {
        return Ok(());
    }
    clear_throttles(&admin, &plan).await
}

async fn clear_throttles(admin: &Admin, plan: &Plan) -> anyhow::Result<()> {
    let brokers = throttles::clear(admin, plan).await?;
    let s = if brokers.len() == 1 { "" } else { "s" };
    print(format_args!("Clearing broker-level throttles on broker{s} {}", list(&brokers)))?;
    let topics = plan.topics();
    let s = if topics.len() == 1 { "" } else { "s" };
    print(format_args!("Clearing topic-level throttles on topic{s} {}", topics.join(",")))
}

fn print(line: impl std::fmt::Display) -> anyhow::Result<()> {
    Output { json: false }.line(line)
}

async fn print_proposal(arguments: &ReassignPartitions, admin: &Admin) -> anyhow::Result<()> {
    let Some(file) = arguments.topics_to_move_json_file.as_deref() else {
        return Err(misuse("Missing required argument \"[topics-to-move-json-file]\""));
    };
    if arguments.broker_list.is_empty() {
        return Err(misuse("Missing required argument \"[broker-list]\""));
    }
    let topics = topics_of(file)?;
    let by_rack = !arguments.disable_rack_aware;
    let present = Plan::new(reassign::all_of(admin, &topics).await?);
    let proposed = reassign::propose(admin, &topics, (&arguments.broker_list, by_rack)).await?;
    print(format_args!("Current partition replica assignment\n{}\n", present.json()?))?;
    print(format_args!("Proposed partition reassignment configuration\n{}", proposed.json()?))
}

fn topics_of(file: &Path) -> anyhow::Result<Vec<String>> {
    let named: TopicsToMove = serde_json::from_slice(&std::fs::read(file)?)?;
    Ok(named.topics.into_iter().map(|topic| topic.topic).collect())
}

async fn start(arguments: &ReassignPartitions, admin: &Admin, plan: &Plan) -> anyhow::Result<()> {
    if !arguments.additional && !admin.list_partition_reassignments().await?.is_empty() {
        eprintln!(
            "Cannot execute because there is an existing partition assignment.  Use --additional \
             to override this and create a new partition assignment in addition to the existing \
             one. The --additional flag can also be used to change the throttle by resubmitting \
             the current reassignment."
        );
        return Err(Shown.into());
    }
    let present = reassign::present(admin, plan).await?;
    print(format_args!("Current partition replica assignment\n\n{}\n", present.json()?))?;
    print("Save this to use as the --reassignment-json-file option during rollback")?;
    if let Some(bytes_per_second) = arguments.throttle {
        print(
            "Warning: You must run --verify periodically, until the reassignment completes, to \
             ensure the throttle is removed.",
        )?;
        throttles::set(admin, (plan, &present), bytes_per_second).await?;
        print(format_args!("The inter-broker throttle limit was set to {bytes_per_second} B/s"))?;
    }
    reassign::start(admin, plan).await?;
    let names: Vec<TopicPartition> = plan.partitions.iter().map(|placed| placed.name()).collect();
    let s = plural(&names);
    print(format_args!("Successfully started partition reassignment{s} for {}", joined(names)))?;
    let moves = log_dirs::wanted(plan)?;
    if moves.is_empty() {
        return Ok(());
    }
    let patience = arguments.timeout.and_then(|ms| u64::try_from(ms).ok());
    let patience = patience.map_or(reassign::DIRECTORIES_PATIENCE, Duration::from_millis);
    let begun = log_dirs::begin_all(admin, &moves, patience).await?;
    let s = if begun.len() == 1 { "" } else { "s" };
    let begun: Vec<String> = begun.iter().map(ToString::to_string).collect();
    print(format_args!("Successfully started log directory move{s} for: {}", begun.join(",")))
}

fn plural(names: &[TopicPartition]) -> &'static str {
    if names.len() == 1 { "" } else { "s" }
}

fn joined(mut names: Vec<TopicPartition>) -> String {
    names.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn print_progress(admin: &Admin, plan: &Plan) -> anyhow::Result<()> {
    print("Status of partition reassignment:")?;
    for ((name, progress), placed) in
        reassign::progress(admin, plan).await?.into_iter().zip(&plan.partitions)
    {
        match progress {
            Progress::Moving => {
                print(format_args!("Reassignment of partition {name} is still in progress."))?;
            }
            Progress::Done => {
                print(format_args!("Reassignment of partition {name} is completed."))?;
            }
            Progress::Elsewhere(replicas) => {
                let wanted: Vec<String> = placed.replicas.iter().map(i32::to_string).collect();
                print(format_args!(
                    "There is no active reassignment of partition {name}, but replica set is {} \
                     rather than {}.",
                    list(&replicas),
                    wanted.join(",")
                ))?;
            }
        }
    }
    let moves = log_dirs::progress(admin, &log_dirs::wanted(plan)?).await?;
    // The tool prints its lines about folders at once: an empty line if there are none.
    if moves.is_empty() {
        return print("");
    }
    moves.into_iter().try_for_each(print)
}

async fn call_off(admin: &Admin, plan: &Plan) -> anyhow::Result<()> {
    let cancelled = reassign::cancel(admin, plan).await?;
    if cancelled.is_empty() {
        return print("None of the specified partition reassignments are active.");
    }
    let s = plural(&cancelled);
    print(format_args!(
        "Successfully cancelled partition reassignment{s} for: {}",
        joined(cancelled)
    ))
}

async fn print_moving(admin: &Admin) -> anyhow::Result<()> {
    let mut moving = admin.list_partition_reassignments().await?;
    if moving.is_empty() {
        return print("No partition reassignments found.");
    }
    moving.sort_by(|a, b| {
        let key = |m: &ottla_common::kafka::admin::OngoingReassignment| {
            (m.partition.topic.to_string(), m.partition.partition)
        };
        key(a).cmp(&key(b))
    });
    print("Current partition reassignments:")?;
    for each in moving {
        let mut line = format!("{}: replicas: {}.", each.partition, list(&each.replicas));
        if !each.adding.is_empty() {
            line += &format!(" adding: {}.", list(&each.adding));
        }
        if !each.removing.is_empty() {
            line += &format!(" removing: {}.", list(&each.removing));
        }
        print(line)?;
    }
    Ok(())
}
