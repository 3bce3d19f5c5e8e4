//! Lanes: each is a connection to one leader with some of the topic's partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ottla_common::kafka::client::{ClientOptions, Connection};
use ottla_common::kafka::cluster::{Cluster, TopicMetadata};
use ottla_common::types::BrokerId;

use super::ExtentArguments;

/// A connection and the partitions that go through it.
#[derive(Debug)]
pub struct Lane {
    /// The connection to their leader.
    pub connection: Connection,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Opens `connections` to each leader and shares its partitions among them. Without enough
/// partitions, several lanes have the same one (for producers), or there are fewer lanes.
pub async fn open(
    cluster: &Cluster,
    topic: &TopicMetadata,
    connections: usize,
    shared: bool,
) -> anyhow::Result<Vec<Lane>> {
    let mut led: BTreeMap<BrokerId, Vec<i32>> = BTreeMap::new();
    for partition in &topic.partitions {
        let leader = cluster.leader(&topic.name, partition.partition).await?;
        led.entry(leader).or_default().push(partition.partition);
    }
    let mut lanes = Vec::new();
    for (leader, partitions) in led {
        let address = cluster.connection(leader).await?.address().to_owned();
        for number in 0..connections {
            let mut mine: Vec<i32> =
                partitions.iter().copied().skip(number).step_by(connections).collect();
            if mine.is_empty() && shared {
                mine.extend(partitions.get(number % partitions.len()));
            }
            if !mine.is_empty() {
                let options = ClientOptions::named("ottla-bench");
                let connection = Connection::connect(&address, &options).await?;
                lanes.push(Lane { connection, partitions: mine });
            }
        }
    }
    Ok(lanes)
}

/// How much is left to do, for all lanes together.
#[derive(Debug)]
pub struct Budget {
    records: AtomicU64,
    deadline: Option<Instant>,
}

impl Budget {
    /// What was asked for, beginning now.
    pub fn new(extent: &ExtentArguments) -> Arc<Self> {
        let records = AtomicU64::new(extent.records.unwrap_or(u64::MAX));
        Arc::new(Self { records, deadline: extent.deadline() })
    }

    /// Takes up to `wanted` records; 0 when it is over.
    pub fn take(&self, wanted: u64) -> u64 {
        if self.is_late() {
            return 0;
        }
        let left = |left: u64| Some(left.saturating_sub(wanted));
        let before = self.records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        before.unwrap_or(0).min(wanted)
    }

    /// Whether the time or the records are over.
    pub fn is_over(&self) -> bool {
        self.is_late() || self.records.load(Ordering::Relaxed) == 0
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
