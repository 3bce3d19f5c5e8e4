//! `kafka-producer-perf-test` and `kafka-consumer-perf-test`, on the generator of `ottla bench`.

use std::fmt::Display;

use clap::Parser;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{CommonArguments, Properties};
use crate::commands::bench::{ConsumePlan, ProducePlan, Summary};
use crate::context;
use crate::output::{Output, misuse};

/// This tool is used to verify the producer performance.
#[derive(Debug, Parser)]
#[command(name = "kafka-producer-perf-test", version)]
pub struct ProducerPerf {
    #[command(flatten)]
    common: CommonArguments,
    /// Produce messages to this topic.
    #[arg(long)]
    topic: String,
    /// Number of messages to produce.
    #[arg(long)]
    num_records: u64,
    /// Message size in bytes.
    #[arg(long, default_value_t = 1000)]
    record_size: usize,
    /// Throttle maximum message throughput to so many messages a second; -1 for no throttling.
    #[arg(long, allow_hyphen_values = true)]
    throughput: f64,
    /// Producer properties: acks, batch.size, linger.ms, compression.type, bootstrap.servers, …
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE")]
    producer_props: Vec<String>,
    /// The new name of --producer-props.
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE")]
    command_property: Vec<String>,
    /// The old name of --command-config.
    #[arg(long = "producer.config")]
    producer_config: Option<std::path::PathBuf>,
    /// Taken for compatibility.
    #[arg(long)]
    print_metrics: bool,
    /// Taken for compatibility: the figures are those of the whole run.
    #[arg(long)]
    reporting_interval: Option<u64>,
}

/// This tool is used to verify the consumer performance.
#[derive(Debug, Parser)]
#[command(name = "kafka-consumer-perf-test", version)]
pub struct ConsumerPerf {
    #[command(flatten)]
    common: CommonArguments,
    /// The topic to consume from.
    #[arg(long)]
    topic: String,
    /// The number of records to consume.
    #[arg(long, required_unless_present = "messages")]
    num_records: Option<u64>,
    /// The old name of --num-records.
    #[arg(long)]
    messages: Option<u64>,
    /// The amount of data to fetch in a single request, of each partition.
    #[arg(long, default_value_t = 1_048_576)]
    fetch_size: usize,
    /// Do not print the head.
    #[arg(long)]
    hide_header: bool,
    /// Taken for compatibility.
    #[arg(long)]
    timeout: Option<u64>,
    /// Taken for compatibility: groups are not offered yet.
    #[arg(long)]
    group: Option<String>,
    /// Taken for compatibility.
    #[arg(long)]
    print_metrics: bool,
}

fn print(line: impl Display) -> anyhow::Result<()> {
    Output { json: false }.line(line)
}

/// Runs `kafka-producer-perf-test`.
pub async fn producer(arguments: &ProducerPerf) -> anyhow::Result<()> {
    let file = arguments.producer_config.as_deref().or(arguments.common.command_config.as_deref());
    let texts = arguments.producer_props.iter().chain(&arguments.command_property);
    let properties = Properties::new(file, texts)?;
    let listed = properties.get("bootstrap.servers");
    let Some(servers) = arguments.common.bootstrap_server.clone().or(listed) else {
        return Err(misuse("--bootstrap-server must be specified"));
    };
    let cluster = context::cluster(&context::addresses(&servers, 9092), true).await?;
    let plan = ProducePlan {
        topic: arguments.topic.clone(),
        records: arguments.num_records,
        record_bytes: arguments.record_size,
        rate: if arguments.throughput > 0.0 { arguments.throughput.ceil() as u64 } else { 0 },
        properties: properties.pairs(),
    };
    let summary = plan.run(&cluster).await?;
    let payload = summary.records as f64 * arguments.record_size as f64;
    print(format_args!(
        "{} records sent, {:.6} records/sec ({:.2} MB/sec), {}",
        summary.records,
        summary.records_per_second,
        payload / summary.seconds / (1024.0 * 1024.0),
        latencies(&summary),
    ))
}

fn latencies(summary: &Summary) -> String {
    let latency = summary.latencies.get("acknowledged_after");
    let figure = |key: &str| latency.and_then(|found| found.get(key)?.as_f64()).unwrap_or(0.0);
    format!(
        "{:.2} ms avg latency, {:.2} ms max latency, {:.0} ms 50th, {:.0} ms 95th, {:.0} ms 99th, \
         {:.0} ms 99.9th.",
        figure("avg_ms"),
        figure("max_ms"),
        figure("p50_ms"),
        figure("p95_ms"),
        figure("p99_ms"),
        figure("p999_ms"),
    )
}

/// Runs `kafka-consumer-perf-test`.
pub async fn consumer(arguments: &ConsumerPerf) -> anyhow::Result<()> {
    let cluster = arguments.common.cluster().await?;
    let plan = ConsumePlan {
        topic: arguments.topic.clone(),
        records: arguments.num_records.or(arguments.messages).unwrap_or_default(),
        partition_fetch_bytes: arguments.fetch_size,
    };
    let started = Timestamp::now();
    let summary = plan.run(&cluster).await?;
    let ended = Timestamp::now();
    if !arguments.hide_header {
        print(
            "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, \
             rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec",
        )?;
    }
    let megabytes = summary.bytes as f64 / (1024.0 * 1024.0);
    let (rate, records_rate) = (megabytes / summary.seconds, summary.records_per_second);
    print(format_args!(
        "{}, {}, {megabytes:.4}, {rate:.4}, {}, {records_rate:.4}, 0, {:.0}, {rate:.4}, \
         {records_rate:.4}",
        time_text(started),
        time_text(ended),
        summary.records,
        summary.seconds * 1000.0,
    ))
}

/// `2026-11-22 18:02:06:432`.
fn time_text(time: Timestamp) -> String {
    let zoned = time.to_zoned(TimeZone::system());
    let millis = zoned.subsec_nanosecond() / 1_000_000;
    format!("{}:{millis:03}", zoned.strftime("%Y-%m-%d %H:%M:%S"))
}
