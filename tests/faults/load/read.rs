//! Readers: while faults go on, and of everything in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ottla_common::kafka::cluster::{Cluster, Isolation, LATEST_TIMESTAMP};
use ottla_common::kafka::consumer::{Consumer, ConsumerOptions, FetchedPartition, Position};
use ottla_common::kafka::records::RecordLimits;
use ottla_common::types::TopicPartition;
use ottla_tests::history::readings::Readings;
use ottla_tests::history::records::Placed;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{Arguments, PATIENCE, connect};

/// The pause behind an error, and between two looks at the ends.
const PAUSE: Duration = Duration::from_millis(100);

/// A reader that begins anew does so when nothing came for so long.
const STILL: Duration = Duration::from_secs(1);

/// The readers. They end by being aborted.
pub fn start(arguments: &Arc<Arguments>, readings: &Arc<Mutex<Readings>>) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(follow(Arc::clone(arguments), Arc::clone(readings), false)),
        tokio::spawn(follow(Arc::clone(arguments), Arc::clone(readings), true)),
        tokio::spawn(watch_ends(Arc::clone(arguments), Arc::clone(readings))),
    ]
}

/// Reads on where it was, behind errors too; or begins anew whenever it has read everything.
async fn follow(arguments: Arc<Arguments>, readings: Arc<Mutex<Readings>>, anew: bool) {
    let mut next: BTreeMap<i32, i64> = (0..arguments.partitions).map(|n| (n, 0)).collect();
    loop {
        if let Ok(cluster) = connect(&arguments).await {
            let mut consumer = consumer(&arguments, cluster, &next);
            // Whatever a partition cannot be read for, it is tried again from where it was.
            while let Ok(fetched) = consumer.poll(STILL).await {
                if fetched.is_empty() && anew {
                    next.values_mut().for_each(|next| *next = 0);
                    break;
                }
                for fetched in fetched {
                    let position = next.entry(fetched.partition.partition).or_insert(0);
                    for record in records(&fetched) {
                        let Ok(record) = record else { break };
                        readings.lock().saw(*position, &record);
                        *position = (*position).max(record.offset + 1);
                    }
                    *position = (*position).max(fetched.next_offset);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn watch_ends(arguments: Arc<Arguments>, readings: Arc<Mutex<Readings>>) {
    loop {
        if let Ok(cluster) = connect(&arguments).await {
            while let Ok(ends) = ends(&arguments, &cluster).await {
                for (partition, end) in ends {
                    readings.lock().saw_end(partition, end);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ends(arguments: &Arguments, cluster: &Cluster) -> anyhow::Result<BTreeMap<i32, i64>> {
    let numbers = 0..arguments.partitions;
    let wanted: Vec<_> = numbers.map(|n| (name(arguments, n), LATEST_TIMESTAMP)).collect();
    let mut ends = BTreeMap::new();
    for (partition, end) in cluster.list_offsets(&wanted, Isolation::ReadUncommitted).await {
        ends.insert(partition.partition, end?.offset.context("a partition has an end")?);
    }
    Ok(ends)
}

/// The ends, once nobody says that he does not know yet.
async fn settled_ends(arguments: &Arguments) -> anyhow::Result<(Cluster, BTreeMap<i32, i64>)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Connected anew each time: what is known of the leaders may be what is wrong.
        let settled = match connect(arguments).await {
            Ok(cluster) => ends(arguments, &cluster).await.map(|ends| (cluster, ends)),
            Err(error) => Err(error),
        };
        match settled {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            settled => return settled,
        }
    }
}

fn name(arguments: &Arguments, number: i32) -> TopicPartition {
    TopicPartition::new(arguments.topic.as_str(), number)
}

fn consumer(arguments: &Arguments, cluster: Cluster, next: &BTreeMap<i32, i64>) -> Consumer {
    let mut consumer = Consumer::new(cluster, ConsumerOptions::default());
    for (number, offset) in next {
        consumer.assign(name(arguments, *number), Position::Offset(*offset));
    }
    consumer
}

fn records(fetched: &FetchedPartition) -> impl Iterator<Item = anyhow::Result<Placed>> + use<'_> {
    let partition = fetched.partition.partition;
    fetched.records(RecordLimits::default()).map(move |record| {
        let record = record?;
        let value = String::from_utf8(record.value.unwrap_or_default().to_vec())?;
        Ok(Placed { partition, offset: record.offset, value })
    })
}

/// Everything that the topic holds.
pub async fn everything(arguments: &Arguments) -> anyhow::Result<Vec<Placed>> {
    let (cluster, ends) = settled_ends(arguments).await?;
    let mut next: BTreeMap<i32, i64> = (0..arguments.partitions).map(|n| (n, 0)).collect();
    let mut consumer = consumer(arguments, cluster, &next);
    let mut all = Vec::new();
    while ends.iter().any(|(number, end)| next.get(number).copied().unwrap_or(0) < *end) {
        let fetched = consumer.poll(PATIENCE).await?;
        anyhow::ensure!(!fetched.is_empty(), "reading stands still at {next:?} of {ends:?}");
        for fetched in fetched {
            next.insert(fetched.partition.partition, fetched.next_offset);
            for record in records(&fetched) {
                all.push(record?);
            }
        }
    }
    Ok(all)
}
