//! `ottla bench`: how much a cluster takes and gives, and how long it takes.
//!
//! The generator must not be what is measured: batches are built before the start (`load.rs`),
//! requests are pipelined on as many connections as asked for, and with a rate the clock of a
//! request starts when it *should* have been sent, so that a stall of the cluster is not left out.

mod consume;
mod groups;
mod histogram;
mod lanes;
mod latency;
mod load;
mod plan;
mod produce;
mod report;

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use ottla_common::config::{parse_duration_ms, parse_size_bytes};
use ottla_common::kafka::admin::NewTopic;
use ottla_common::kafka::compression::Compression;

use super::topics::pairs;
use crate::context::Context;
use crate::output::misuse;

pub use plan::{ConsumePlan, ProducePlan};
pub use report::Summary;

/// Benchmarks.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Send records as fast as the cluster takes them, or at a rate.
    Produce(ProduceArguments),
    /// Receive the records of a topic as fast as the cluster gives them.
    Consume(ConsumeArguments),
    /// Measure how long a record takes from a producer to a consumer.
    Latency(LatencyArguments),
    /// Measure groups: how fast they settle and rebalance, their heartbeats and commits.
    Groups(groups::GroupsArguments),
}

/// The topic of a benchmark.
#[derive(Args, Clone, Debug)]
pub struct TopicArguments {
    /// The topic; it is made if it is not there.
    #[arg(default_value = "ottla-bench")]
    pub topic: String,
    /// Partitions, if the topic is made.
    #[arg(short, long, default_value_t = 6)]
    pub partitions: i32,
    /// Replicas of each partition, if the topic is made; -1 is the cluster's default.
    #[arg(short, long, default_value_t = -1, allow_hyphen_values = true)]
    pub replication_factor: i16,
    /// Configs of the topic, if it is made.
    #[arg(long, value_name = "KEY=VALUE")]
    pub config: Vec<String>,
}

impl TopicArguments {
    /// The topic, if it must be made.
    fn new_topic(&self) -> anyhow::Result<NewTopic> {
        Ok(NewTopic {
            configs: pairs("--config", &self.config)?.into_iter().collect(),
            ..NewTopic::new(&self.topic, self.partitions, self.replication_factor)
        })
    }
}

/// How much of it.
#[derive(Args, Clone, Copy, Debug)]
pub struct ExtentArguments {
    /// Stop after this many records.
    #[arg(short = 'n', long)]
    pub records: Option<u64>,
    /// Stop after this time: `30s`, `5min`.
    #[arg(short, long, value_parser = duration)]
    pub duration: Option<Duration>,
}

impl ExtentArguments {
    /// When to stop, if it starts now.
    fn deadline(&self) -> Option<Instant> {
        self.duration.map(|duration| Instant::now() + duration)
    }
}

/// How records are sent.
#[derive(Args, Clone, Debug)]
pub struct SendArguments {
    /// Bytes of a record's value.
    #[arg(short = 's', long, default_value = "1000", value_parser = size)]
    pub record_size: usize,
    /// Which acknowledgement to wait for: 0, 1 or all.
    #[arg(short, long, default_value = "all", value_parser = acks)]
    pub acks: i16,
    /// Bytes of a batch, before compression.
    #[arg(long, default_value = "16KiB", value_parser = size)]
    pub batch_size: usize,
    /// How long records are gathered for a batch when there is a rate.
    #[arg(long, default_value_t = 5)]
    pub linger_ms: u64,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(short = 'z', long, default_value = "none")]
    pub compression: Compression,
    /// Let the broker recognize what is sent twice.
    #[arg(short, long)]
    pub idempotent: bool,
    /// Records a second, all connections together; 0 is as fast as possible.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Requests without an answer yet, on each connection.
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
    /// The seed of the values.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Flags of `ottla bench produce`.
#[derive(Args, Clone, Debug)]
pub struct ProduceArguments {
    #[command(flatten)]
    topic: TopicArguments,
    #[command(flatten)]
    extent: ExtentArguments,
    #[command(flatten)]
    send: SendArguments,
    /// Connections to each leader.
    #[arg(long, default_value_t = 1)]
    connections: usize,
}

/// Flags of `ottla bench consume`.
#[derive(Args, Clone, Debug)]
pub struct ConsumeArguments {
    /// The topic.
    #[arg(default_value = "ottla-bench")]
    topic: String,
    #[command(flatten)]
    extent: ExtentArguments,
    /// Connections to each leader.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// The most bytes of an answer.
    #[arg(long, default_value = "50MiB", value_parser = size)]
    fetch_size: usize,
    /// The most bytes of a partition in an answer.
    #[arg(long, default_value = "1MiB", value_parser = size)]
    partition_fetch_size: usize,
    /// Go on at the end and wait for more.
    #[arg(short, long)]
    follow: bool,
    /// Only count batches: neither check them nor look at their records.
    #[arg(long)]
    no_check: bool,
}

/// Flags of `ottla bench latency`.
#[derive(Args, Clone, Debug)]
pub struct LatencyArguments {
    #[command(flatten)]
    topic: TopicArguments,
    #[command(flatten)]
    extent: ExtentArguments,
    /// Bytes of a record's value.
    #[arg(short = 's', long, default_value = "1000", value_parser = size)]
    record_size: usize,
    /// Which acknowledgement to wait for: 1 or all.
    #[arg(short, long, default_value = "all", value_parser = acks)]
    acks: i16,
    /// Records a second, each in a request of its own.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
}

/// Runs `ottla bench`.
pub async fn run(context: &Context, command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Produce(arguments) => {
            let sent = produce::run(&context.cluster().await?, &arguments).await?;
            sent.print(context.output)
        }
        BenchCommand::Consume(arguments) => {
            let received = consume::run(&context.cluster().await?, &arguments).await?;
            received.print(context.output)
        }
        BenchCommand::Latency(arguments) => latency::run(context, &arguments).await,
        BenchCommand::Groups(arguments) => groups::run(context, &arguments).await,
    }
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = parse_size_bytes(text)?;
    usize::try_from(bytes).ok().filter(|size| *size <= 1 << 30).ok_or("at most 1GiB".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration_ms(text).map(Duration::from_millis)
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "all" | "-1" => Ok(-1),
        _ => Err("expected 0, 1 or all".to_owned()),
    }
}

/// At least one of what must not be none.
fn positive(name: &str, value: usize) -> anyhow::Result<usize> {
    if value == 0 { Err(misuse(format!("{name} must be at least 1"))) } else { Ok(value) }
}
