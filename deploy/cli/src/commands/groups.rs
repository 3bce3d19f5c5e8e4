//! `ottla groups`: list, describe, members, offsets, reset, delete. `ottla lag`: how far they are
//! behind.

pub mod reset;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use ottla_common::kafka::admin::{Admin, GroupDescription};
use ottla_common::kafka::cluster::{Isolation, LATEST_TIMESTAMP};
use ottla_common::types::TopicPartition;
use serde_json::{Value, json};

use crate::context::Context;
use crate::output::Output;

pub use reset::ResetArguments;

/// Consumer groups.
#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// List the groups.
    List,
    /// Print groups: state, assignor, members, lag.
    Describe {
        /// Only these; otherwise all.
        groups: Vec<String>,
    },
    /// Print a group's members and what each is assigned.
    Members {
        /// The group.
        group: String,
    },
    /// Print what a group has committed, and how far it is behind.
    Offsets {
        /// The group.
        group: String,
    },
    /// Set where a group without members goes on. Without --execute, only prints what it would do.
    Reset(ResetArguments),
    /// Forget groups without members, or some of their offsets.
    Delete {
        /// The groups.
        #[arg(required = true)]
        groups: Vec<String>,
        /// Only the offsets of this topic, which nobody of the group reads.
        #[arg(short, long)]
        topic: Option<String>,
    },
}

/// Flags of `ottla lag`.
#[derive(Args, Debug)]
pub struct LagArguments {
    /// Only these groups; otherwise all.
    groups: Vec<String>,
    /// Print again and again, so many seconds apart.
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    watch: Option<u64>,
}

/// Runs `ottla groups`.
pub async fn run(context: &Context, command: GroupsCommand) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    let output = context.output;
    match command {
        GroupsCommand::List => list(output, &admin).await,
        GroupsCommand::Describe { groups } => describe(output, &admin, groups).await,
        GroupsCommand::Members { group } => members(output, &admin, &group).await,
        GroupsCommand::Offsets { group } => offsets(output, &admin, &group).await,
        GroupsCommand::Reset(arguments) => reset::run(output, &admin, &arguments).await,
        GroupsCommand::Delete { groups, topic: None } => {
            for group in groups {
                admin.delete_group(&group).await?;
                output.done(format_args!("{group} is gone"))?;
            }
            Ok(())
        }
        GroupsCommand::Delete { groups, topic: Some(topic) } => {
            for group in groups {
                delete_offsets(output, &admin, (&group, &topic)).await?;
            }
            Ok(())
        }
    }
}

async fn list(output: Output, admin: &Admin) -> anyhow::Result<()> {
    let groups = admin.list_groups().await?;
    output.rows(
        ["group", "type", "protocol", "state"],
        groups.into_iter().map(|group| {
            [group.id.into(), group.kind.into(), group.protocol_type.into(), group.state.into()]
        }),
    )
}

/// These groups, or all that there are.
async fn chosen(admin: &Admin, groups: Vec<String>) -> anyhow::Result<Vec<String>> {
    if !groups.is_empty() {
        return Ok(groups);
    }
    let listed = admin.list_groups().await?;
    let readers = listed.into_iter().filter(|group| {
        matches!(group.protocol_type.as_str(), "consumer" | "") || group.kind == "consumer"
    });
    Ok(readers.map(|group| group.id).collect())
}

async fn describe(output: Output, admin: &Admin, groups: Vec<String>) -> anyhow::Result<()> {
    let mut rows: Vec<[Value; 7]> = Vec::new();
    for group in chosen(admin, groups).await? {
        let described = admin.describe_group(&group).await?;
        let lag = Lags::of(admin, &group).await?.total();
        rows.push([
            described.id.into(),
            described.kind.into(),
            described.state.into(),
            described.assignor.into(),
            described.coordinator.0.into(),
            described.members.len().into(),
            lag.into(),
        ]);
    }
    output.rows(["group", "type", "state", "assignor", "coordinator", "members", "lag"], rows)
}

async fn members(output: Output, admin: &Admin, group: &str) -> anyhow::Result<()> {
    let described = admin.describe_group(group).await?;
    output.rows(
        ["member", "instance", "client", "host", "partitions"],
        described.members.into_iter().map(|member| {
            let names = member.assignment.iter().map(ToString::to_string);
            [
                member.id.into(),
                member.instance_id.into(),
                member.client_id.into(),
                member.host.into(),
                names.collect::<Vec<_>>().into(),
            ]
        }),
    )
}

/// Who reads each partition.
fn readers(described: &GroupDescription) -> BTreeMap<TopicPartition, String> {
    let members = described.members.iter();
    let owned = members.flat_map(|member| {
        member.assignment.iter().map(|name| (name.clone(), member.client_id.clone()))
    });
    owned.collect()
}

async fn offsets(output: Output, admin: &Admin, group: &str) -> anyhow::Result<()> {
    let described = admin.describe_group(group).await?;
    let readers = readers(&described);
    let lags = Lags::of(admin, group).await?;
    let names: BTreeSet<&TopicPartition> = lags.committed.keys().chain(readers.keys()).collect();
    output.rows(
        ["topic", "partition", "offset", "end", "lag", "client"],
        names.into_iter().map(|name| {
            let committed = lags.committed.get(name).copied();
            [
                json!(name.topic),
                name.partition.into(),
                committed.into(),
                lags.ends.get(name).copied().into(),
                lags.lag(name).into(),
                readers.get(name).cloned().into(),
            ]
        }),
    )
}

async fn delete_offsets(
    output: Output,
    admin: &Admin,
    (group, topic): (&str, &str),
) -> anyhow::Result<()> {
    let committed = admin.group_offsets(group).await?;
    let names: Vec<TopicPartition> =
        committed.into_keys().filter(|name| &*name.topic == topic).collect();
    for (name, deleted) in admin.delete_group_offsets(group, &names).await? {
        deleted?;
        output.done(format_args!("{group} has no offset of {name} any more"))?;
    }
    Ok(())
}

/// What a group has committed, and where the partitions end.
struct Lags {
    committed: BTreeMap<TopicPartition, i64>,
    ends: BTreeMap<TopicPartition, i64>,
}

impl Lags {
    async fn of(admin: &Admin, group: &str) -> anyhow::Result<Self> {
        let committed = admin.group_offsets(group).await?;
        let committed: BTreeMap<_, _> =
            committed.into_iter().map(|(name, committed)| (name, committed.offset)).collect();
        let wanted: Vec<_> =
            committed.keys().map(|name| (name.clone(), LATEST_TIMESTAMP)).collect();
        let mut ends = BTreeMap::new();
        for (name, end) in admin.list_offsets(&wanted, Isolation::ReadUncommitted).await {
            // A partition whose topic is gone has an offset and no end.
            if let Some(end) = end.ok().and_then(|end| end.offset) {
                ends.insert(name, end);
            }
        }
        Ok(Self { committed, ends })
    }

    fn lag(&self, name: &TopicPartition) -> Option<i64> {
        Some((self.ends.get(name)? - self.committed.get(name)?).max(0))
    }

    fn total(&self) -> i64 {
        self.committed.keys().filter_map(|name| self.lag(name)).sum()
    }
}

/// Runs `ottla lag`.
pub async fn lag(context: &Context, arguments: &LagArguments) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    loop {
        let mut rows: Vec<[Value; 5]> = Vec::new();
        for group in chosen(&admin, arguments.groups.clone()).await? {
            let lags = Lags::of(&admin, &group).await?;
            for (name, committed) in &lags.committed {
                rows.push([
                    group.clone().into(),
                    json!(name.topic),
                    name.partition.into(),
                    (*committed).into(),
                    lags.lag(name).into(),
                ]);
            }
        }
        context.output.rows(["group", "topic", "partition", "offset", "lag"], rows)?;
        let Some(seconds) = arguments.watch else { return Ok(()) };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        context.output.done("")?;
    }
}
