//! The client against a running cluster, Apache Kafka's or ours: set `OTTLA_TEST_BOOTSTRAP` to its
//! bootstrap servers. Without that, these tests pass without doing anything. They make topics of
//! their own, with random names.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::producer::{Acks, Producer, ProducerOptions, ProducerRecord};

async fn cluster() -> Option<Cluster> {
    let bootstrap = std::env::var("OTTLA_TEST_BOOTSTRAP").ok()?;
    let servers: Vec<&str> = bootstrap.split(',').collect();
    let options = ClusterOptions { allow_auto_topic_creation: true, ..ClusterOptions::default() };
    Some(Cluster::connect(&servers, options).await.unwrap())
}

fn topic_name() -> String {
    format!("client-test-{:016x}", fastrand::u64(..))
}

#[tokio::test]
async fn records_get_consecutive_offsets() {
    let Some(cluster) = cluster().await else { return };
    for (compression, acks) in [
        (Compression::None, Acks::All),
        (Compression::Gzip, Acks::Leader),
        (Compression::Snappy, Acks::All),
        (Compression::Lz4, Acks::All),
        (Compression::Zstd, Acks::All),
    ] {
        let topic = topic_name();
        let options = ProducerOptions {
            acks,
            compression,
            idempotent: acks == Acks::All,
            linger_ms: 0,
            ..ProducerOptions::default()
        };
        let producer = Producer::new(cluster.clone(), options).unwrap();
        let mut deliveries = Vec::new();
        for number in 0..20_000 {
            let value = format!("value {number}");
            let record = ProducerRecord {
                topic: &topic,
                partition: Some(0),
                value: Some(value.as_bytes()),
                ..ProducerRecord::default()
            };
            deliveries.push(producer.send(record).await.unwrap());
        }
        producer.flush().await;
        for (offset, delivery) in (0..).zip(deliveries) {
            assert_eq!(delivery.await.unwrap().offset, offset);
        }
        producer.close(Duration::from_secs(1)).await;
    }
}
