//! `ottla bench groups`: many groups, or many members of one. How long until all are stable, how
//! long heartbeats and commits take then, and how long a rebalance takes.
//!
//! Each member is a task with a connection of its own. To measure the cluster and not how seldom
//! members ask, all members of a group that rebalances send heartbeats every `--prompt-ms`, and so
//! they do at the start.

mod board;
mod member;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use ottla_common::kafka::admin::{Admin, NewTopic};
use ottla_common::kafka::client::{ClientOptions, Connection};
use ottla_common::kafka::cluster::Cluster;
use ottla_common::kafka::membership::{GroupProtocol, Membership, MembershipOptions};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::board::Board;
use self::member::{Counted, Pace, Task};
use super::histogram::{Histogram, Percentiles};
use crate::commands::topics;
use crate::context::Context;
use crate::output::{Output, count_text, misuse};

/// How long groups may take to settle.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a group waits for a member that does not join again.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// Heartbeats of all members together, in a millisecond, until all groups are stable.
const PROMPT_HEARTBEATS_PER_MS: usize = 5;
/// Connections that are opened at the same time.
const OPENED_AT_ONCE: usize = 64;

/// Flags of `ottla bench groups`.
#[derive(Args, Clone, Debug)]
pub struct GroupsArguments {
    /// The topic that all groups read; it is made if it is not there.
    #[arg(default_value = "ottla-bench-groups")]
    topic: String,
    /// Groups.
    #[arg(short, long, default_value_t = 10)]
    groups: usize,
    /// Members of each group.
    #[arg(short, long, default_value_t = 10)]
    members: usize,
    /// Partitions of the topic, if it is made.
    #[arg(short, long, default_value_t = 10)]
    partitions: i32,
    /// Replicas of each partition, if the topic is made; -1 is the cluster's default.
    #[arg(short, long, default_value_t = -1, allow_hyphen_values = true)]
    replication_factor: i16,
    /// How long heartbeats and commits are measured once all groups are stable.
    #[arg(short, long, default_value_t = 10)]
    seconds: u64,
    /// classic or consumer.
    #[arg(long, default_value = "consumer")]
    protocol: GroupProtocol,
    /// Milliseconds from one heartbeat of a member to the next; otherwise 3,000 in the classic
    /// protocol and what the broker asks for in the other.
    #[arg(long)]
    heartbeat_ms: Option<u64>,
    /// Milliseconds from one commit of a member to the next; 0 is never.
    #[arg(long, default_value_t = 5_000)]
    commit_ms: u64,
    /// How often a member of the first group leaves and another joins.
    #[arg(long, default_value_t = 1)]
    rebalances: usize,
    /// Milliseconds between a member's heartbeats while its group rebalances, and at the start.
    #[arg(long, default_value_t = 200)]
    prompt_ms: u64,
}

impl GroupsArguments {
    /// How often members send heartbeats until all groups are stable: in the consumer protocol
    /// partitions wait for the heartbeats of those who have them. Many members do it less often.
    fn starting_pace(&self) -> Pace {
        let members = self.groups.saturating_mul(self.members);
        let spread_ms = u64::try_from(members / PROMPT_HEARTBEATS_PER_MS).unwrap_or(u64::MAX);
        let heartbeat = Duration::from_millis(self.prompt_ms.max(spread_ms));
        Pace { heartbeat: Some(heartbeat), commit: None }
    }
}

/// Sets how often the members of all groups do something.
fn pace_all(groups: &[Group], pace: Option<Pace>) {
    for (group, pace) in groups.iter().zip(pace.into_iter().cycle()) {
        group.pace.send_replace(pace);
    }
}

/// The figures.
#[derive(Debug, Serialize)]
struct Report {
    benchmark: &'static str,
    protocol: String,
    groups: usize,
    members: usize,
    partitions: i32,
    /// From the first join to the last group that is stable.
    stable_ms: f64,
    /// From the first join to each group that is stable.
    stable_after: Percentiles,
    /// How long heartbeats took while nothing changed.
    heartbeat: Percentiles,
    heartbeats: u64,
    /// How long commits took.
    commit: Percentiles,
    commits: u64,
    /// From a member's leaving until all others have all partitions, each time.
    leave_ms: Vec<f64>,
    /// From a member's joining until all have their partitions, each time.
    join_ms: Vec<f64>,
    /// What went wrong, and how often.
    errors: std::collections::BTreeMap<String, u64>,
}

/// A group that runs.
struct Group {
    options: MembershipOptions,
    address: String,
    board: Arc<Board>,
    pace: watch::Sender<Pace>,
    members: Vec<tokio_util::sync::CancellationToken>,
}

/// What all groups share.
struct Bench {
    cluster: Cluster,
    client: ClientOptions,
    counted: Arc<Counted>,
    tasks: JoinSet<()>,
}

/// Runs the benchmark.
pub async fn run(context: &Context, arguments: &GroupsArguments) -> anyhow::Result<()> {
    if arguments.groups == 0 || arguments.members == 0 || arguments.prompt_ms == 0 {
        return Err(misuse("--groups, --members and --prompt-ms must be at least 1"));
    }
    let cluster = context.cluster().await?;
    let (name, count) = (&arguments.topic, arguments.partitions);
    let topic = NewTopic::new(name, count, arguments.replication_factor);
    let partitions = topics::ensure(&cluster, &topic).await?.partitions_count();
    // A JoinGroup is answered only when all others have joined.
    let request_timeout_ms = PATIENCE.as_millis().try_into()?;
    let client = ClientOptions { request_timeout_ms, ..ClientOptions::named("ottla-bench") };
    let counted = Arc::new(Counted::default());
    let mut bench = Bench { cluster, client, counted, tasks: JoinSet::new() };

    let mut groups = bench.groups(arguments).await?;
    let usual = groups.first().map(|group| *group.pace.borrow());
    pace_all(&groups, Some(arguments.starting_pace()));
    let stable = bench.start(&mut groups, (arguments.members, partitions)).await?;
    pace_all(&groups, usual);
    let measured = bench.counted.measure(Duration::from_secs(arguments.seconds)).await;
    let (mut leave_ms, mut join_ms) = (Vec::new(), Vec::new());
    if let Some(group) = groups.first_mut() {
        let usual = *group.pace.borrow();
        let prompt = Duration::from_millis(arguments.prompt_ms);
        group.pace.send_replace(Pace { heartbeat: Some(prompt), commit: None });
        for _ in 0..arguments.rebalances {
            leave_ms.push(millis(bench.one_leaves(group).await?));
            join_ms.push(millis(bench.one_joins(group).await?));
        }
        group.pace.send_replace(usual);
    }
    bench.stop(&groups).await;
    let report = Report {
        benchmark: "groups",
        protocol: arguments.protocol.to_string(),
        groups: arguments.groups,
        members: arguments.members,
        partitions,
        stable_ms: stable.percentiles().max_ms,
        stable_after: stable.percentiles(),
        heartbeat: measured.heartbeats.percentiles(),
        heartbeats: measured.heartbeats.count(),
        commit: measured.commits.percentiles(),
        commits: measured.commits.count(),
        leave_ms,
        join_ms,
        errors: bench.counted.errors(),
    };
    report.print(context.output)
}

impl Bench {
    /// The groups, none of which has a member yet.
    async fn groups(&self, arguments: &GroupsArguments) -> anyhow::Result<Vec<Group>> {
        let run = fastrand::u32(..);
        let admin = Admin::new(self.cluster.clone());
        let pace = Pace {
            heartbeat: arguments.heartbeat_ms.map(|ms| Duration::from_millis(ms.max(1))),
            commit: Some(Duration::from_millis(arguments.commit_ms)).filter(|time| !time.is_zero()),
        };
        let mut groups = Vec::with_capacity(arguments.groups);
        for number in 0..arguments.groups {
            let name = format!("ottla-bench-{run:08x}-{number}");
            let found = self.cluster.retry(|| admin.group_coordinator(&name)).await?;
            let metadata = self.cluster.metadata();
            let address = metadata.brokers.get(&found).context("an unknown broker")?.address();
            let topics = vec![arguments.topic.clone()];
            let options = MembershipOptions {
                rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
                ..MembershipOptions::new(&name, topics, arguments.protocol)
            };
            let (pace, _) = watch::channel(pace);
            let board = Arc::new(Board::default());
            groups.push(Group { options, address, board, pace, members: Vec::new() });
        }
        Ok(groups)
    }

    /// Opens all connections, then lets all members join. Returns when each group was stable.
    async fn start(
        &mut self,
        groups: &mut [Group],
        (members, partitions): (usize, i32),
    ) -> anyhow::Result<Histogram> {
        let places = groups.iter().enumerate().flat_map(|(group, found)| {
            let address = found.address.clone();
            (0..members).map(move |_| (group, address.clone()))
        });
        let places: Vec<(usize, String)> = places.collect();
        let client = &self.client;
        let open = async |(group, address): (usize, String)| {
            let connection = Connection::connect(&address, client).await;
            connection.map(|connection| (group, connection))
        };
        let opened = stream::iter(places).map(open).buffer_unordered(OPENED_AT_ONCE);
        let opened: Vec<(usize, Connection)> = opened.try_collect().await?;
        for group in groups.iter() {
            group.board.expect(members, partitions);
        }
        let began = Instant::now();
        for (index, connection) in opened {
            if let Some(group) = groups.get_mut(index) {
                self.add(group, connection);
            }
        }
        let mut stable = Histogram::default();
        for group in groups.iter() {
            let settled = group.board.settled(PATIENCE).await;
            let settled = settled.with_context(|| self.counted.describe())?;
            stable.add(settled.saturating_duration_since(began), 1);
        }
        Ok(stable)
    }

    fn add(&mut self, group: &mut Group, connection: Connection) {
        let leave = tokio_util::sync::CancellationToken::new();
        let options = group.options.clone();
        let task = Task {
            member: Membership::new(self.cluster.clone(), connection, options),
            number: group.members.len(),
            board: Arc::clone(&group.board),
            counted: Arc::clone(&self.counted),
            pace: group.pace.subscribe(),
            leave: leave.clone(),
        };
        group.members.push(leave);
        self.tasks.spawn(task.run());
    }

    /// One member leaves. Returns how long it took until the others had its partitions.
    async fn one_leaves(&mut self, group: &mut Group) -> anyhow::Result<Duration> {
        group.board.expect_fewer();
        let began = Instant::now();
        if let Some(last) = group.members.pop() {
            last.cancel();
        }
        let settled = group.board.settled(PATIENCE).await;
        let settled = settled.with_context(|| self.counted.describe())?;
        Ok(settled.saturating_duration_since(began))
    }

    /// One member joins. Returns how long it took until all had their partitions.
    async fn one_joins(&mut self, group: &mut Group) -> anyhow::Result<Duration> {
        let connection = Connection::connect(&group.address, &self.client).await?;
        group.board.expect_more();
        let began = Instant::now();
        self.add(group, connection);
        let settled = group.board.settled(PATIENCE).await;
        let settled = settled.with_context(|| self.counted.describe())?;
        Ok(settled.saturating_duration_since(began))
    }

    /// All members leave, as far as that goes quickly.
    async fn stop(&mut self, groups: &[Group]) {
        for member in groups.iter().flat_map(|group| &group.members) {
            member.cancel();
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What is left ends with this process, and its session with it.
        let _ = tokio::time::timeout(Duration::from_secs(20), all).await;
    }
}

impl Report {
    fn print(&self, output: Output) -> anyhow::Result<()> {
        if output.json {
            return output.value(self);
        }
        output.line(format_args!(
            "{} groups of {} members ({} protocol), {} partitions: all stable after {:.2} s",
            count_text(self.groups as u64),
            count_text(self.members as u64),
            self.protocol,
            self.partitions,
            self.stable_ms / 1000.0,
        ))?;
        for (name, count, took) in [
            ("heartbeats", self.heartbeats, &self.heartbeat),
            ("commits", self.commits, &self.commit),
        ] {
            output.line(format_args!(
                "{} {name}: p50 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
                count_text(count),
                took.p50_ms,
                took.p99_ms,
                took.p999_ms,
                took.max_ms,
            ))?;
        }
        for (name, times) in [("leaves", &self.leave_ms), ("joins", &self.join_ms)] {
            let times: Vec<String> = times.iter().map(|ms| format!("{ms:.0}")).collect();
            output.line(format_args!("rebalance after one {name}: {} ms", times.join(", ")))?;
        }
        for (name, count) in &self.errors {
            output.line(format_args!("{} times {name}", count_text(*count)))?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
