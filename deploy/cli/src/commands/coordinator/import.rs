//! `ottla coordinator import`: copies the tree of a ZooKeeper that is running.
//!
//! Nodes that stay are copied with their data and access lists, parents first. Ephemeral nodes are
//! left out and named: they belong to clients, which make them anew. So are containers and nodes
//! with a time to live, with what is below them, where the server tells them; ZooKeeper itself does
//! not tell its clients, so that from it they come as nodes that stay. What is under `/zookeeper`
//! is ZooKeeper's own and left out too. Versions, times and zxids begin anew. While others write to
//! the ZooKeeper, the copy is not of one moment; a second run fetches what came since.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use ottla_common::coordination::client::{Client, ClientConfig, ClientError};
use ottla_common::coordination::protocol::{
    Acl, CoordinationError, CreateMode, Op, Request as Ask,
};
use ottla_coordinator::frontends::zookeeper::messages::{
    self, PathRequest, Request, Response, Stat, WatchedPath, error_code,
};
use serde_json::json;

use super::zookeeper_client::ZooKeeperClient;
use crate::context::{Context, addresses};
use crate::output::misuse;

/// How many nodes are read, and then written, at once.
const BATCH: usize = 64;

/// How long a write may take.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// How many paths of a sort are printed.
const PATHS_SHOWN: usize = 20;

/// What ZooKeeper's own nodes are below.
const OWN: &str = "/zookeeper";

/// Flags of `ottla coordinator import`.
#[derive(Args, Debug)]
pub struct ImportArguments {
    /// The ZooKeeper to copy from: HOST:PORT,HOST:PORT…
    #[arg(long, value_name = "ADDRESSES")]
    zookeeper: String,
    /// The members to copy to; else those of --coordinators.
    #[arg(long, value_name = "ADDRESSES")]
    to: Option<String>,
    /// Only this node and what is below it.
    #[arg(long, default_value = "/")]
    path: String,
    /// Replace data and access lists of nodes that are there already.
    #[arg(long)]
    overwrite: bool,
    /// An identity for the ZooKeeper, for nodes that not everyone may read.
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "OTTLA_ZOOKEEPER_AUTH",
        hide_env_values = true
    )]
    zookeeper_auth: Option<String>,
    /// An identity for the coordinator; that of `super.digest` may write everywhere.
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "OTTLA_COORDINATOR_AUTH",
        hide_env_values = true
    )]
    auth: Option<String>,
}

/// A node as it is read.
struct Node {
    path: String,
    data: Vec<u8>,
    acl: Vec<Acl>,
    children: Vec<String>,
}

/// What a node at ZooKeeper is.
enum Found {
    Persistent(Node),
    LeftOut(&'static str),
    /// It went while we walked.
    Gone,
    Unreadable(String),
}

/// What became of all nodes.
#[derive(Default)]
struct Report {
    copied: u64,
    existing: u64,
    overwritten: u64,
    /// Path and kind.
    left_out: Vec<(String, &'static str)>,
    /// Path and reason.
    failed: Vec<(String, String)>,
}

struct Import {
    from: ZooKeeperClient,
    to: Client,
    overwrite: bool,
    report: Report,
    progress: ProgressBar,
}

/// Copies a tree.
pub async fn run(context: &Context, arguments: ImportArguments) -> anyhow::Result<()> {
    let top = arguments.path.trim_end_matches('/');
    if !top.is_empty() && !top.starts_with('/') {
        return Err(misuse("--path must begin with a slash"));
    }
    let mut from = ZooKeeperClient::connect(&addresses(&arguments.zookeeper, 2181)).await?;
    if let Some(proof) = &arguments.zookeeper_auth {
        from.prove(proof).await?;
    }
    let members = match &arguments.to {
        Some(list) => addresses(list, 2181),
        None => context.coordinators.clone(),
    };
    let mut config = ClientConfig::new(members, "ottla import");
    config.request_timeout = WRITE_PATIENCE;
    let proof = arguments.auth.iter();
    config.auth = proof.map(|proof| ("digest".to_owned(), proof.clone().into_bytes())).collect();
    let to = Client::connect(config).await?;
    let progress = progress_bar(&mut from, top).await?;
    let (overwrite, report) = (arguments.overwrite, Report::default());
    let mut import = Import { from, to, overwrite, report, progress };
    let done = import.copy(top).await;
    import.progress.finish_and_clear();
    import.to.close().await;
    import.report.print(context)?;
    done?;
    match import.report.failed.len() {
        0 => Ok(()),
        count => bail!("{count} nodes could not be copied"),
    }
}

/// Shows how far it is, if a person looks on.
async fn progress_bar(from: &mut ZooKeeperClient, top: &str) -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let path = if top.is_empty() { "/" } else { top }.to_owned();
    let count = from.ask(&[Request::GetAllChildrenNumber(PathRequest { path })]).await?.pop();
    // Old ZooKeepers cannot tell.
    let bar = match count {
        Some(Ok(Response::GetAllChildrenNumber(count))) => {
            ProgressBar::new(u64::try_from(count.total_number).unwrap_or(0) + 1)
        }
        _ => ProgressBar::no_length(),
    };
    let style = ProgressStyle::with_template("{pos}/{len} nodes {bar:40} {per_sec} {eta}")?;
    Ok(bar.with_style(style))
}

impl Import {
    /// Copies a node (empty for the root) and everything below it.
    async fn copy(&mut self, top: &str) -> anyhow::Result<()> {
        let sync = Request::Sync(PathRequest { path: "/".to_owned() });
        self.from.ask(&[sync]).await?;
        for (at, _) in top.match_indices('/').filter(|(at, _)| *at > 0) {
            let parent = top.get(..at).unwrap_or_default();
            self.to.ensure(parent).await.with_context(|| format!("make {parent}"))?;
        }
        let root = if top.is_empty() { "/" } else { top };
        let mut waiting = VecDeque::from([root.to_owned()]);
        while !waiting.is_empty() {
            let batch: Vec<String> = waiting.drain(..waiting.len().min(BATCH)).collect();
            self.progress.inc(batch.len() as u64);
            let nodes = self.read(batch).await?;
            let copied = self.write(nodes).await?;
            for node in copied {
                let base = node.path.trim_end_matches('/');
                let children = node.children.iter().map(|name| format!("{base}/{name}"));
                waiting.extend(children.filter(|path| path != OWN));
            }
        }
        Ok(())
    }

    /// Reads nodes; those that are to be copied are returned.
    async fn read(&mut self, paths: Vec<String>) -> anyhow::Result<Vec<Node>> {
        let requests = paths.iter().flat_map(|path| {
            let watched = WatchedPath { path: path.clone(), watch: false };
            [
                Request::GetData(watched.clone()),
                Request::GetAcl(PathRequest { path: path.clone() }),
                Request::GetChildren(watched),
            ]
        });
        let requests: Vec<Request> = requests.collect();
        let mut answers = self.from.ask(&requests).await?.into_iter();
        let mut nodes = Vec::new();
        for path in paths {
            let answers = [answers.next(), answers.next(), answers.next()];
            match found(path.clone(), answers) {
                Found::Persistent(node) => nodes.push(node),
                Found::LeftOut(kind) => self.report.left_out.push((path, kind)),
                Found::Gone => {}
                Found::Unreadable(reason) => self.report.failed.push((path, reason)),
            }
        }
        Ok(nodes)
    }

    /// Writes nodes whose parents are there. Those that are there then are returned.
    async fn write(&mut self, nodes: Vec<Node>) -> anyhow::Result<Vec<Node>> {
        let writing = nodes.iter().map(|node| write(&self.to, node, self.overwrite));
        let outcomes = join_all(writing).await;
        let mut there = Vec::new();
        for (node, outcome) in nodes.into_iter().zip(outcomes) {
            match outcome {
                Ok(count) => {
                    let counted = match count {
                        Written::Copied => &mut self.report.copied,
                        Written::Existing => &mut self.report.existing,
                        Written::Overwritten => &mut self.report.overwritten,
                    };
                    *counted += 1;
                    there.push(node);
                }
                Err(ClientError::Refused(error)) => {
                    self.report.failed.push((node.path, error.to_string()));
                }
                // Then nothing more can be written either.
                Err(error) => return Err(error).context(format!("write {}", node.path)),
            }
        }
        Ok(there)
    }
}

enum Written {
    Copied,
    Existing,
    Overwritten,
}

async fn write(to: &Client, node: &Node, overwrite: bool) -> Result<Written, ClientError> {
    let path = node.path.clone();
    // The root is always there; its data is copied as that of any node.
    let (data, acl) = (node.data.clone(), node.acl.clone());
    let create =
        Op::Create { path, data: data.clone(), mode: CreateMode::Persistent, acl: acl.clone() };
    let refusal = match to.request(Ask::Write(create)).await {
        Ok(_) => return Ok(Written::Copied),
        Err(ClientError::Refused(refusal)) => refusal,
        Err(error) => return Err(error),
    };
    let is_there = matches!(refusal, CoordinationError::NodeExists { .. }) || node.path == "/";
    if !is_there {
        return Err(refusal.into());
    }
    if !overwrite {
        return Ok(Written::Existing);
    }
    let set_data = Op::SetData { path: node.path.clone(), data, version: None };
    let set_acl = Op::SetAcl { path: node.path.clone(), acl, version: None };
    to.multi(vec![set_data, set_acl]).await?;
    Ok(Written::Overwritten)
}

/// What three answers (data, access list, children) say of a node.
fn found(path: String, answers: [Option<Result<Response, i32>>; 3]) -> Found {
    let [Some(data), Some(acl), Some(children)] = answers else {
        return Found::Unreadable("ZooKeeper did not answer".to_owned());
    };
    match (data, acl, children) {
        (
            Ok(Response::GetData(data)),
            Ok(Response::GetAcl(acl)),
            Ok(Response::GetChildren(children)),
        ) => match left_out(&data.stat) {
            Some(kind) => Found::LeftOut(kind),
            None if acl.acl.iter().any(is_hidden) => Found::Unreadable(
                "ZooKeeper hides a part of its access list; see --zookeeper-auth".to_owned(),
            ),
            None => Found::Persistent(Node {
                path,
                data: data.data.unwrap_or_default(),
                acl: acl.acl.into_iter().map(acl_of).collect(),
                children: children.children,
            }),
        },
        (Err(error_code::NO_NODE), ..)
        | (_, Err(error_code::NO_NODE), _)
        | (_, _, Err(error_code::NO_NODE)) => Found::Gone,
        (Err(error_code::NO_AUTH), ..)
        | (_, Err(error_code::NO_AUTH), _)
        | (_, _, Err(error_code::NO_AUTH)) => {
            Found::Unreadable("ZooKeeper does not let it be read; see --zookeeper-auth".to_owned())
        }
        (Err(error), ..) | (_, Err(error), _) | (_, _, Err(error)) => {
            Found::Unreadable(format!("ZooKeeper's error {error}"))
        }
        _ => Found::Unreadable("an answer of the wrong kind".to_owned()),
    }
}

/// What a node that does not stay is called, told by ZooKeeper's `ephemeralOwner`.
fn left_out(stat: &Stat) -> Option<&'static str> {
    match stat.ephemeral_owner {
        0 => None,
        i64::MIN => Some("container"),
        owner if owner.cast_unsigned() >> 56 == 0xff => Some("ttl"),
        _ => Some("ephemeral"),
    }
}

/// Whether ZooKeeper has put an `x` in the place of a password's hash, as it does for who may read
/// a node and not administer it. A copy with that would let nobody in.
fn is_hidden(entry: &messages::Acl) -> bool {
    entry.id.scheme == "digest" && entry.id.id.ends_with(":x")
}

fn acl_of(entry: messages::Acl) -> Acl {
    let (scheme, id) = (entry.id.scheme, entry.id.id);
    Acl { permissions: entry.perms.cast_unsigned(), scheme, id }
}

impl Report {
    fn print(&self, context: &Context) -> anyhow::Result<()> {
        let output = context.output;
        if output.json {
            let named = |(path, what): (&String, &str)| json!({ "path": path, "what": what });
            let left_out = self.left_out.iter().map(|(path, kind)| named((path, kind)));
            let failed = self.failed.iter().map(|(path, reason)| named((path, reason)));
            return output.value(&json!({
                "copied": self.copied,
                "existing": self.existing,
                "overwritten": self.overwritten,
                "left_out": left_out.collect::<Vec<_>>(),
                "failed": failed.collect::<Vec<_>>(),
            }));
        }
        for (path, kind) in self.left_out.iter().take(PATHS_SHOWN) {
            output.line(format_args!("left out ({kind}): {path}"))?;
        }
        if self.left_out.len() > PATHS_SHOWN {
            output.line(format_args!("and {} more", self.left_out.len() - PATHS_SHOWN))?;
        }
        for (path, reason) in self.failed.iter().take(PATHS_SHOWN) {
            eprintln!("not copied: {path}: {reason}");
        }
        output.line(format_args!(
            "{} nodes copied, {} were there already, {} overwritten, {} left out, {} failed",
            self.copied,
            self.existing,
            self.overwritten,
            self.left_out.len(),
            self.failed.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_do_not_stay_are_told_by_their_owner() {
        let kind = |ephemeral_owner| left_out(&Stat { ephemeral_owner, ..Stat::default() });
        assert_eq!(kind(0), None);
        assert_eq!(kind(0x0100_0000_0000_0001), Some("ephemeral"));
        assert_eq!(kind(i64::MIN), Some("container"));
        let acl = |scheme: &str, id: &str| messages::Acl {
            perms: 31,
            id: messages::Id { scheme: scheme.to_owned(), id: id.to_owned() },
        };
        assert!(is_hidden(&acl("digest", "alice:x")) && !is_hidden(&acl("ip", "::x")));
        assert!(!is_hidden(&acl("digest", "alice:8y0lhh/7xkdEiwhX7vo9i+/Nmzc=")));
        assert_eq!(kind((0xff00_0000_0000_03e8_u64).cast_signed()), Some("ttl"));
    }
}
