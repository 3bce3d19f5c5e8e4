//! Measures how long the partitions of a topic take nothing after a broker was killed, whichever
//! broker that is: Ottla's or Apache Kafka's. Prints one line of JSON.
//!
//! It writes one record to every partition and says that it is ready; whoever runs it kills a
//! broker and writes a line to its input; it then writes a record to every partition again, and
//! tells when the first, the middle and the last of them were acknowledged by all in-sync replicas.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::producer::{Acks, Producer, ProducerOptions, ProducerRecord};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Measures how long partitions take nothing after a broker was killed.
#[derive(Parser)]
struct Arguments {
    /// Brokers to begin with: HOST:PORT,HOST:PORT…
    #[arg(long, value_delimiter = ',', required = true)]
    bootstrap_server: Vec<String>,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// How many partitions it has.
    #[arg(long)]
    partitions: i32,
    /// How long a record is tried, in seconds.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let servers: Vec<&str> = arguments.bootstrap_server.iter().map(String::as_str).collect();
    let cluster = Cluster::connect(&servers, ClusterOptions::default()).await?;
    let patience = Duration::from_secs(arguments.patience);
    let options = ProducerOptions {
        acks: Acks::All,
        linger_ms: 0,
        delivery_timeout_ms: u64::try_from(patience.as_millis())?,
        ..ProducerOptions::default()
    };
    let producer = Producer::new(cluster, options)?;
    write_to_all(&producer, &arguments).await?;
    writeln!(std::io::stdout(), "ready")?;
    let mut line = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut line).await?;
    let mut times = write_to_all(&producer, &arguments).await?;
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).or(times.last()).copied();
    let result = serde_json::json!({
        "first_ms": times.first(), "p50_ms": at(50), "last_ms": times.last(),
    });
    writeln!(std::io::stdout(), "{result}")?;
    producer.close(patience).await;
    Ok(())
}

/// Writes a record to every partition. Returns how long each took, in milliseconds.
async fn write_to_all(producer: &Producer, arguments: &Arguments) -> anyhow::Result<Vec<f64>> {
    let began = Instant::now();
    let mut written = FuturesUnordered::new();
    for partition in 0..arguments.partitions {
        let record = ProducerRecord {
            topic: &arguments.topic,
            partition: Some(partition),
            value: Some(b"after the fall"),
            ..ProducerRecord::default()
        };
        let delivery = producer.send(record).await?;
        written
            .push(async move { delivery.await.map(|_| began.elapsed().as_secs_f64() * 1_000.0) });
    }
    let mut times = Vec::new();
    while let Some(took) = written.next().await {
        times.push(took.context("a partition took nothing any more")?);
    }
    Ok(times)
}
