//! Runs of the benchmarks for those who do not come by our own flags.

use ottla_common::kafka::cluster::Cluster;
use ottla_common::kafka::producer::{Acks, ProducerOptions};

use super::report::Summary;
use super::{
    ConsumeArguments, ExtentArguments, ProduceArguments, SendArguments, TopicArguments, consume,
    produce,
};
use crate::commands::produce::options_from_properties;

/// A run of `produce` with properties in the names of Kafka's producer.
#[derive(Clone, Debug)]
pub struct ProducePlan {
    /// The topic.
    pub topic: String,
    /// How many records.
    pub records: u64,
    /// Bytes of each.
    pub record_bytes: usize,
    /// Records a second; 0 for no limit.
    pub rate: u64,
    /// `acks`, `batch.size`, `linger.ms`, `compression.type`, …
    pub properties: Vec<(String, String)>,
}

impl ProducePlan {
    /// Runs it.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<Summary> {
        let options = options_from_properties(ProducerOptions::default(), &self.properties)?;
        let acks = match options.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let arguments = ProduceArguments {
            topic: TopicArguments {
                topic: self.topic.clone(),
                partitions: -1,
                replication_factor: -1,
                config: Vec::new(),
            },
            extent: ExtentArguments { records: Some(self.records), duration: None },
            send: SendArguments {
                record_size: self.record_bytes,
                acks,
                batch_size: options.batch_bytes,
                linger_ms: options.linger_ms,
                compression: options.compression,
                idempotent: options.idempotent,
                rate: self.rate,
                in_flight: options.in_flight_max,
                seed: 0,
            },
            connections: 1,
        };
        produce::run(cluster, &arguments).await
    }
}

/// A run of `consume`.
#[derive(Clone, Debug)]
pub struct ConsumePlan {
    /// The topic.
    pub topic: String,
    /// How many records.
    pub records: u64,
    /// The most bytes of a partition in an answer.
    pub partition_fetch_bytes: usize,
}

impl ConsumePlan {
    /// Runs it.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<Summary> {
        let arguments = ConsumeArguments {
            topic: self.topic.clone(),
            extent: ExtentArguments { records: Some(self.records), duration: None },
            connections: 1,
            fetch_size: 50 << 20,
            partition_fetch_size: self.partition_fetch_bytes,
            follow: false,
            no_check: false,
        };
        consume::run(cluster, &arguments).await
    }
}
