//! `ottla coordinator`: the coordinator's tree, node by node, who leads each partition, and the
//! ensemble itself (`coordinator/ensemble.rs`).

mod ensemble;
mod import;
mod panel;
mod zookeeper_client;

use std::io::Read;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use ottla_common::cluster_tree::TreePath;
use ottla_common::cluster_tree::{PartitionState, TopicAssignment};
use ottla_common::coordination::client::{Client, ClientConfig, ClientError};
use ottla_common::coordination::protocol::{ChangeKind, CoordinationError, CreateMode, Stat};
use ottla_common::coordination::subscription::{Subscription, SubscriptionEvent};
use serde_json::{Value, json};

use crate::context::Context;
use crate::output::{Output, misuse};

/// How long a command waits for a member to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The coordinator's tree.
#[derive(Debug, Subcommand)]
pub enum CoordinatorCommand {
    /// List the children of a node.
    Ls {
        /// The node.
        #[arg(default_value = "/")]
        path: String,
        /// With everything below them, as whole paths.
        #[arg(short, long)]
        recursive: bool,
    },
    /// Print a node's data.
    Get {
        /// The node.
        path: String,
    },
    /// Print a node's stat: versions, times, owner, sizes.
    Stat {
        /// The node.
        path: String,
    },
    /// Replace a node's data.
    Set {
        /// The node.
        path: String,
        /// The new data; `-` reads standard input.
        data: String,
        /// Only if the node has this version.
        #[arg(long)]
        version: Option<i32>,
    },
    /// Make a node.
    Create(CreateArguments),
    /// Remove a node.
    Delete {
        /// The node.
        path: String,
        /// With everything below it.
        #[arg(short, long)]
        recursive: bool,
        /// Only if the node has this version.
        #[arg(long)]
        version: Option<i32>,
    },
    /// Print every change of a node and of everything below it, until interrupted.
    Watch {
        /// The node.
        #[arg(default_value = "/")]
        path: String,
        /// Print what is there first.
        #[arg(short, long)]
        snapshot: bool,
        /// Stop after this many changes.
        #[arg(short = 'n', long, value_name = "COUNT")]
        max_changes: Option<u64>,
    },
    /// Print who leads each partition, and who is in sync.
    Leaders {
        /// Only these topics.
        topics: Vec<String>,
    },
    /// Print how each member is doing: who leads, how far it is, its log and its clients.
    Status,
    /// Print who belongs to the ensemble.
    Members,
    /// Take a member into the ensemble, or change its addresses.
    Add(ensemble::AddArguments),
    /// Take a member out of the ensemble.
    Remove(ensemble::RemoveArguments),
    /// Have the leader give leadership away.
    TransferLeader(ensemble::TransferArguments),
    /// Have members write a snapshot now.
    Snapshot(ensemble::SnapshotArguments),
    /// Compare the members at a state that all of them have passed.
    Verify,
    /// Print what the members do, once a second.
    Top(ensemble::TopArguments),
    /// Copy the tree of a ZooKeeper that is running.
    Import(import::ImportArguments),
}

/// Flags of `ottla coordinator create`.
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// The node.
    path: String,
    /// Its data; `-` reads standard input.
    #[arg(default_value = "")]
    data: String,
    /// Append a number that the parent counts.
    #[arg(short, long)]
    sequential: bool,
    /// Make the parents that are missing too.
    #[arg(short, long)]
    parents: bool,
    /// Remove the node once it had children and they are gone.
    #[arg(long, conflicts_with_all = ["sequential", "ttl_ms"])]
    container: bool,
    /// Remove the node when it was not changed and had no children for this many milliseconds.
    #[arg(long)]
    ttl_ms: Option<u64>,
}

/// Runs `ottla coordinator`.
pub async fn run(context: &Context, command: CoordinatorCommand) -> anyhow::Result<()> {
    use CoordinatorCommand as Do;
    match command {
        Do::Status => ensemble::status(context).await,
        Do::Members => ensemble::members(context).await,
        Do::Add(arguments) => ensemble::add(context, arguments).await,
        Do::Remove(arguments) => ensemble::remove(context, arguments).await,
        Do::TransferLeader(arguments) => ensemble::transfer_leader(context, arguments).await,
        Do::Snapshot(arguments) => ensemble::snapshot(context, arguments).await,
        Do::Verify => ensemble::verify(context).await,
        Do::Top(arguments) => ensemble::top(context, &arguments).await,
        Do::Import(arguments) => import::run(context, arguments).await,
        command => {
            let client = connect(context).await?;
            let done = execute(context.output, &client, command).await;
            client.close().await;
            done
        }
    }
}

/// A session with the coordinator.
pub async fn connect(context: &Context) -> anyhow::Result<Client> {
    let mut config = ClientConfig::new(context.coordinators.clone(), "ottla");
    config.request_timeout = REQUEST_TIMEOUT;
    match Client::connect(config).await {
        Err(error @ ClientError::Unreachable { .. }) => {
            bail!("{error}; is it running? --coordinators names others, `ottla dev` starts one")
        }
        other => Ok(other?),
    }
}

async fn execute(
    output: Output,
    client: &Client,
    command: CoordinatorCommand,
) -> anyhow::Result<()> {
    match command {
        CoordinatorCommand::Ls { path, recursive } => list(output, client, &path, recursive).await,
        CoordinatorCommand::Get { path } => get(output, client, &path).await,
        CoordinatorCommand::Stat { path } => {
            let stat = client.exists(&path).await?.ok_or_else(|| no_node(&path))?;
            print_stat(output, &path, &stat)
        }
        CoordinatorCommand::Set { path, data, version } => {
            let stat = client.set(&path, data_of(&data)?, version).await?;
            output.done(format_args!("{path} has version {}", stat.version))
        }
        CoordinatorCommand::Create(arguments) => create(output, client, &arguments).await,
        CoordinatorCommand::Delete { path, recursive, version } => {
            if recursive {
                client.delete_recursive(&path, version).await?;
            } else if let Err(error) = client.delete(&path, version).await {
                let has_children =
                    matches!(error.refusal(), Some(CoordinationError::NotEmpty { .. }));
                let hint = if has_children { "; --recursive removes them too" } else { "" };
                bail!("{error}{hint}");
            }
            output.done(format_args!("{path} is gone"))
        }
        CoordinatorCommand::Watch { path, snapshot, max_changes } => {
            watch(output, client, &path, snapshot, max_changes).await
        }
        CoordinatorCommand::Leaders { topics } => leaders(output, client, &topics).await,
        _ => unreachable!("commands for the ensemble need no session"),
    }
}

fn no_node(path: &str) -> anyhow::Error {
    CoordinationError::NoNode { path: path.to_owned() }.into()
}

fn data_of(argument: &str) -> anyhow::Result<Vec<u8>> {
    if argument != "-" {
        return Ok(argument.as_bytes().to_vec());
    }
    let mut data = Vec::new();
    std::io::stdin().lock().read_to_end(&mut data).context("read standard input")?;
    Ok(data)
}

/// A node's data as JSON: as the JSON that it is, or as text.
fn data_json(data: &[u8]) -> Value {
    serde_json::from_slice(data)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(data).into_owned()))
}

async fn list(output: Output, client: &Client, path: &str, deep: bool) -> anyhow::Result<()> {
    let mut waiting = vec![path.to_owned()];
    while let Some(parent) = waiting.pop() {
        let children = match client.children(&parent).await {
            Ok(children) => children,
            // It went while we walked; the node that was asked for must be there.
            Err(ClientError::Refused(CoordinationError::NoNode { .. })) if parent != path => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let base = parent.trim_end_matches('/');
        for name in &children {
            let shown = if deep { format!("{base}/{name}") } else { name.clone() };
            if output.json { output.value(&shown)? } else { output.line(shown)? }
        }
        if deep {
            waiting.extend(children.iter().rev().map(|name| format!("{base}/{name}")));
        }
    }
    Ok(())
}

async fn get(output: Output, client: &Client, path: &str) -> anyhow::Result<()> {
    let (data, stat) = client.get(path).await?.ok_or_else(|| no_node(path))?;
    if output.json {
        let value = json!({ "path": path, "data": data_json(&data), "version": stat.version });
        output.value(&value)
    } else {
        output.line(String::from_utf8_lossy(&data))
    }
}

fn stat_rows(stat: &Stat) -> [(&'static str, Value); 11] {
    [
        ("czxid", stat.czxid.0.into()),
        ("mzxid", stat.mzxid.0.into()),
        ("pzxid", stat.pzxid.0.into()),
        ("ctime_ms", stat.ctime_ms.into()),
        ("mtime_ms", stat.mtime_ms.into()),
        ("version", stat.version.into()),
        ("cversion", stat.cversion.into()),
        ("aversion", stat.aversion.into()),
        ("ephemeral_owner", stat.ephemeral_owner.0.into()),
        ("data_length", stat.data_length.into()),
        ("num_children", stat.num_children.into()),
    ]
}

fn print_stat(output: Output, path: &str, stat: &Stat) -> anyhow::Result<()> {
    if output.json {
        let mut object: serde_json::Map<String, Value> =
            stat_rows(stat).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        object.insert("path".to_owned(), path.into());
        return output.value(&object);
    }
    for (name, value) in stat_rows(stat) {
        output.line(format_args!("{name:<16} {value}"))?;
    }
    Ok(())
}

async fn create(
    output: Output,
    client: &Client,
    arguments: &CreateArguments,
) -> anyhow::Result<()> {
    let CreateArguments { path, sequential, parents, container, ttl_ms, .. } = arguments;
    let mode = match (sequential, container, ttl_ms) {
        (_, true, _) => CreateMode::Container,
        (true, _, Some(ttl_ms)) => CreateMode::PersistentSequentialWithTtl { ttl_ms: *ttl_ms },
        (false, _, Some(ttl_ms)) => CreateMode::PersistentWithTtl { ttl_ms: *ttl_ms },
        (true, _, None) => CreateMode::PersistentSequential,
        (false, _, None) => CreateMode::Persistent,
    };
    if *parents {
        for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
            client.ensure(&path[..at]).await?;
        }
    }
    match client.create(path, data_of(&arguments.data)?, mode).await {
        Ok((path, _)) if output.json => output.value(&json!({ "path": path })),
        Ok((path, _)) => output.line(path),
        Err(error) => {
            let no_parent = matches!(error.refusal(), Some(CoordinationError::NoNode { .. }));
            let hint = if no_parent { "; --parents makes it" } else { "" };
            bail!("{error}{hint}")
        }
    }
}

async fn watch(
    output: Output,
    client: &Client,
    path: &str,
    snapshot: bool,
    max_changes: Option<u64>,
) -> anyhow::Result<()> {
    let mut left = max_changes.unwrap_or(u64::MAX);
    let mut subscription = Subscription::open(client, path);
    while left > 0 {
        match subscription.next().await {
            None => bail!("the connection to the coordinator has ended"),
            Some(SubscriptionEvent::Snapshot { zxid, nodes }) => {
                for node in nodes.iter().filter(|_| snapshot) {
                    print_change(output, (zxid.0, "is"), &node.path, &node.data)?;
                }
            }
            Some(SubscriptionEvent::Changes { zxid, changes }) => {
                for change in &changes {
                    let kind = match change.kind {
                        ChangeKind::Created => "created",
                        ChangeKind::DataSet => "set",
                        ChangeKind::AclSet => "acl_set",
                        ChangeKind::Deleted => "deleted",
                    };
                    print_change(output, (zxid.0, kind), &change.path, &change.data)?;
                    left = left.saturating_sub(1);
                }
            }
        }
    }
    Ok(())
}

fn print_change(
    output: Output,
    (zxid, kind): (i64, &str),
    path: &str,
    data: &[u8],
) -> anyhow::Result<()> {
    if output.json {
        let data = data_json(data);
        return output.value(&json!({ "zxid": zxid, "kind": kind, "path": path, "data": data }));
    }
    output.line(format_args!("{zxid:>8} {kind:<8} {path} {}", String::from_utf8_lossy(data)))
}

async fn leaders(output: Output, client: &Client, topics: &[String]) -> anyhow::Result<()> {
    let mut subscription = Subscription::open(client, TopicAssignment::PARENT);
    let first = tokio::time::timeout(REQUEST_TIMEOUT, subscription.next()).await;
    let Some(SubscriptionEvent::Snapshot { nodes, .. }) = first.context("read the topics")? else {
        bail!("the connection to the coordinator has ended");
    };
    let mut rows = Vec::new();
    let mut found = Vec::new();
    for node in &nodes {
        match TreePath::parse(&node.path) {
            Some(TreePath::Topic(topic)) => found.push(topic),
            Some(TreePath::PartitionState { topic, partition })
                if topics.is_empty() || topics.contains(&topic) =>
            {
                let state = PartitionState::decode(&node.data)
                    .with_context(|| format!("read {}", node.path))?;
                rows.push((topic, partition, state));
            }
            _ => {}
        }
    }
    if let Some(missing) = topics.iter().find(|topic| !found.contains(topic)) {
        return Err(misuse(format!("there is no topic {missing}; `ottla topics list` shows all")));
    }
    rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let numbers = |brokers: &[ottla_common::types::BrokerId]| -> Value {
        brokers.iter().map(|id| id.0).collect::<Vec<_>>().into()
    };
    output.rows(
        ["topic", "partition", "leader", "leader epoch", "isr", "controller epoch"],
        rows.iter().map(|(topic, partition, state)| {
            [
                topic.as_str().into(),
                (*partition).into(),
                state.leader.map(|id| id.0).into(),
                state.leader_epoch.into(),
                numbers(&state.isr),
                state.controller_epoch.into(),
            ]
        }),
    )
}
