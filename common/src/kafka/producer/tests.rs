//! Stories of a producer and a consumer, with a broker that fails by the roll of a die.

use std::collections::BTreeMap;

use super::*;
use crate::kafka::client::ClientOptions;
use crate::kafka::cluster::ClusterOptions;
use crate::kafka::consumer::{Consumer, ConsumerOptions, Position};
use crate::kafka::error_code::ErrorCode;
use crate::kafka::fake_cluster::{FakeCluster, Faults, TOPIC};
use crate::kafka::records::RecordLimits;
use crate::types::TopicPartition;

const PARTITIONS: i32 = 3;

async fn cluster_of(fake: &FakeCluster) -> Cluster {
    let options = ClusterOptions {
        client: ClientOptions::default(),
        retry_backoff_ms: 1,
        retry_backoff_max_ms: 4,
        ..ClusterOptions::default()
    };
    Cluster::connect(&[fake.address()], options).await.unwrap()
}

fn record(partition: i32, value: &[u8]) -> ProducerRecord<'_> {
    let value = Some(value);
    ProducerRecord { topic: TOPIC, partition: Some(partition), value, ..Default::default() }
}

/// Sends records of growing numbers to all partitions while the broker fails in all ways, and gives
/// back what became of each: by partition, number and result.
async fn send_numbers(
    producer: &Producer,
    count: i64,
) -> Vec<(i32, i64, Result<Delivered, ClientError>)> {
    let mut sent = Vec::new();
    for number in 0..count {
        let partition = i32::try_from(number % i64::from(PARTITIONS)).unwrap();
        let delivery = producer.send(record(partition, &number.to_be_bytes())).await.unwrap();
        sent.push((partition, number, delivery));
        if number % 50 == 0 {
            // Lets batches go out, so that there are many.
            tokio::task::yield_now().await;
        }
    }
    producer.flush().await;
    let mut results = Vec::new();
    for (partition, number, delivery) in sent {
        results.push((partition, number, delivery.await));
    }
    results
}

fn number(value: Option<&bytes::Bytes>) -> i64 {
    i64::from_be_bytes(value.unwrap()[..].try_into().unwrap())
}

/// Each record that was acknowledged is in the log once, at its offset, in the order of sending,
/// and each that was refused is not in it at all.
fn check_logs(fake: &FakeCluster, results: &[(i32, i64, Result<Delivered, ClientError>)]) {
    let mut expected: BTreeMap<i32, Vec<(i64, i64)>> = BTreeMap::new();
    for (partition, number, result) in results {
        match result {
            Ok(delivered) => {
                assert_eq!(delivered.partition, *partition);
                expected.entry(*partition).or_default().push((delivered.offset, *number));
            }
            Err(error) => assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge), "{error}"),
        }
    }
    for partition in 0..PARTITIONS {
        let records = fake.records(usize::try_from(partition).unwrap());
        let found: Vec<_> = records.iter().map(|r| (r.offset, number(r.value.as_ref()))).collect();
        let expected = expected.remove(&partition).unwrap_or_default();
        let differs = (0..).find(|&at| found.get(at) != expected.get(at) || at >= found.len());
        let around = differs.unwrap_or(0).saturating_sub(3);
        assert!(
            found == expected,
            "partition {partition} has {:?}..., expected {:?}...",
            found.iter().skip(around).take(10).collect::<Vec<_>>(),
            expected.iter().skip(around).take(10).collect::<Vec<_>>(),
        );
    }
}

fn seeds() -> std::ops::Range<u64> {
    let seed = std::env::var("OTTLA_SEED").ok().map(|seed| seed.parse().unwrap());
    seed.map_or(0..5, |seed| seed..seed + 1)
}

#[tokio::test]
async fn faults_neither_lose_nor_double_nor_swap_records() {
    for seed in seeds() {
        println!("OTTLA_SEED={seed}");
        let fake = FakeCluster::start(3, seed).await;
        fake.set_faults(Faults {
            not_leader: 10,
            lost_before: 3,
            lost_after: 3,
            ..Faults::default()
        });
        let options =
            ProducerOptions { linger_ms: 0, batch_bytes: 200, ..ProducerOptions::default() };
        let producer = Producer::new(cluster_of(&fake).await, options).unwrap();
        let results = send_numbers(&producer, 1_000).await;
        assert!(results.iter().all(|(_, _, result)| result.is_ok()), "{results:?}");
        check_logs(&fake, &results);
    }
}

#[tokio::test]
async fn batches_that_are_refused_leave_no_gap() {
    for seed in seeds() {
        println!("OTTLA_SEED={seed}");
        let fake = FakeCluster::start(3, seed).await;
        fake.set_faults(Faults {
            not_leader: 5,
            lost_before: 2,
            too_large: 5,
            ..Faults::default()
        });
        let options =
            ProducerOptions { linger_ms: 0, batch_bytes: 200, ..ProducerOptions::default() };
        let producer = Producer::new(cluster_of(&fake).await, options).unwrap();
        let results = send_numbers(&producer, 1_000).await;
        check_logs(&fake, &results);
    }
}

#[tokio::test]
async fn a_producer_that_was_forgotten_takes_a_new_id() {
    for seed in seeds() {
        println!("OTTLA_SEED={seed}");
        let fake = FakeCluster::start(3, seed).await;
        fake.set_faults(Faults { forget: 3, ..Faults::default() });
        let options =
            ProducerOptions { linger_ms: 0, batch_bytes: 200, ..ProducerOptions::default() };
        let producer = Producer::new(cluster_of(&fake).await, options).unwrap();
        let results = send_numbers(&producer, 1_000).await;
        assert!(results.iter().all(|(_, _, result)| result.is_ok()), "{results:?}");
        check_logs(&fake, &results);
    }
}

#[tokio::test]
async fn consumers_read_everything_once_in_spite_of_faults() {
    let fake = FakeCluster::start(3, 1).await;
    let cluster = cluster_of(&fake).await;
    let options = ProducerOptions { batch_bytes: 200, ..ProducerOptions::default() };
    let producer = Producer::new(cluster.clone(), options).unwrap();
    send_numbers(&producer, 1_000).await;
    fake.set_faults(Faults { not_leader: 10, lost_before: 5, ..Faults::default() });
    // So small that fetching has to stop and wait for the consumer.
    let options = ConsumerOptions { prefetch_bytes: 500, ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(cluster, options);
    for partition in 0..PARTITIONS {
        consumer.assign(TopicPartition::new(TOPIC, partition), Position::Earliest);
    }
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut read = 0;
    while read < 1_000 {
        for fetched in consumer.poll(Duration::from_secs(10)).await.unwrap() {
            let partition = fetched.partition.partition;
            for record in fetched.records(RecordLimits::default()) {
                let record = record.unwrap();
                let next = next.entry(partition).or_default();
                assert_eq!(record.offset, *next);
                assert_eq!(number(record.value.as_ref()), *next * 3 + i64::from(partition));
                *next += 1;
                read += 1;
            }
        }
    }
}

#[tokio::test]
async fn memory_is_bounded_and_given_back() {
    let fake = FakeCluster::start(1, 1).await;
    let options = ProducerOptions {
        buffer_bytes: 64 << 10,
        request_bytes_max: 32 << 10,
        linger_ms: 1_000_000,
        ..ProducerOptions::default()
    };
    let producer = Producer::new(cluster_of(&fake).await, options).unwrap();
    // Metadata first, so that only memory is waited for.
    producer.send(record(0, b"first")).await.unwrap();
    producer.flush().await;
    let value = vec![0; 10_000];
    let mut taken = 0;
    while producer.try_send(record(0, &value)).unwrap().is_some() {
        taken += 1;
    }
    assert_eq!(taken, 6);
    // Who waits for memory makes batches go out without lingering.
    let mut deliveries = Vec::new();
    for _ in 0..50 {
        deliveries.push(producer.send(record(0, &value)).await.unwrap());
    }
    producer.flush().await;
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(fake.records(0).len(), 57);
}

#[tokio::test]
async fn records_that_cannot_be_delivered_fail_in_time() {
    let fake = FakeCluster::start(1, 1).await;
    let options = ProducerOptions { delivery_timeout_ms: 1_500, ..ProducerOptions::default() };
    let producer = Producer::new(cluster_of(&fake).await, options).unwrap();
    producer.send(record(0, b"arrives")).await.unwrap().await.unwrap();
    fake.set_faults(Faults { not_leader: 100, ..Faults::default() });
    let error = producer.send(record(0, b"does not")).await.unwrap().await.unwrap_err();
    assert!(matches!(error, ClientError::DeliveryTimedOut { .. }), "{error}");
    assert!(error.to_string().contains("NOT_LEADER_OR_FOLLOWER"), "{error}");
    fake.set_faults(Faults::default());
    let delivered = producer.send(record(0, b"arrives too")).await.unwrap().await.unwrap();
    assert_eq!(delivered.offset, 1);
}

#[tokio::test]
async fn closing_fails_what_was_not_delivered() {
    let fake = FakeCluster::start(1, 1).await;
    let options = ProducerOptions { linger_ms: 1_000_000, ..ProducerOptions::default() };
    let producer = Producer::new(cluster_of(&fake).await, options.clone()).unwrap();
    let delivery = producer.send(record(0, b"lingers")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await, Err(ClientError::Closed));

    let producer = Producer::new(cluster_of(&fake).await, options).unwrap();
    let delivery = producer.send(record(0, b"flushed")).await.unwrap();
    producer.close(Duration::from_secs(10)).await;
    assert_eq!(delivery.await.unwrap().offset, 0);
    assert_eq!(producer.send(record(0, b"late")).await.unwrap_err(), ClientError::Closed);
}

#[tokio::test]
async fn without_acknowledgement_records_are_sent_all_the_same() {
    let fake = FakeCluster::start(1, 1).await;
    let error = Producer::new(
        cluster_of(&fake).await,
        ProducerOptions { acks: Acks::Leader, ..ProducerOptions::default() },
    );
    assert!(error.is_err(), "idempotence needs acks=all");
    let options =
        ProducerOptions { acks: Acks::Leader, idempotent: false, ..ProducerOptions::default() };
    let producer = Producer::new(cluster_of(&fake).await, options).unwrap();
    assert_eq!(producer.send(record(0, b"one")).await.unwrap().await.unwrap().offset, 0);
}
