//! Replicas that move between the log directories of their broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::admin::{Admin, ConfigChange, ConfigResource, NewTopic};
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::consumer::{Consumer, ConsumerOptions, Position};
use ottla_common::kafka::producer::{Delivery, Producer, ProducerOptions, ProducerRecord};
use ottla_common::kafka::records::RecordLimits;
use ottla_common::types::{BrokerId, TopicPartition};
use ottla_tests::brokers::Brokers;
use ottla_tests::process::DevProcess;

/// How long a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

const TOPIC: &str = "orders";

async fn connect(bootstrap: &str) -> Cluster {
    let servers: Vec<&str> = bootstrap.split(',').collect();
    Cluster::connect(&servers, ClusterOptions::default()).await.unwrap()
}

/// Where a broker has the only partition: its directory, and where it is moving to with its lag.
async fn place(admin: &Admin, broker: i32) -> (PathBuf, Option<(PathBuf, i64, i64)>) {
    let (mut at, mut to) = (PathBuf::new(), None);
    for dir in admin.describe_log_dirs(BrokerId(broker), Some(&[TOPIC])).await.unwrap() {
        let path = PathBuf::from(&*dir.log_dir);
        for partition in dir.topics.iter().flat_map(|topic| &topic.partitions) {
            match partition.is_future_key {
                true => to = Some((path.clone(), partition.partition_size, partition.offset_lag)),
                false => at = path.clone(),
            }
        }
    }
    (at, to)
}

/// Waits until the partition is in a directory and is not moving any more.
async fn until_in(admin: &Admin, broker: i32, dir: &Path) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = place(admin, broker).await;
        if now.0 == dir && now.1.is_none() {
            return;
        }
        assert!(Instant::now() < deadline, "broker {broker} has it at {now:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn move_to(admin: &Admin, broker: i32, dir: &Path) -> ErrorCode {
    let moves = [(TopicPartition::new(TOPIC, 0), dir.display().to_string())];
    let results = admin.alter_replica_log_dirs(BrokerId(broker), &moves).await.unwrap();
    match &results[0].1 {
        Ok(()) => ErrorCode::None,
        Err(error) => error.code().unwrap(),
    }
}

/// The values of all records of the partition, in their order.
async fn values(cluster: &Cluster, count: usize) -> Vec<usize> {
    let mut consumer = Consumer::new(cluster.clone(), ConsumerOptions::default());
    consumer.assign(TopicPartition::new(TOPIC, 0), Position::Earliest);
    let mut values: Vec<usize> = Vec::new();
    while values.len() < count {
        let fetched = consumer.poll(PATIENCE).await.unwrap();
        assert!(!fetched.is_empty(), "{} of {count} records are there", values.len());
        for partition in fetched {
            for record in partition.records(RecordLimits::default()) {
                let text = record.unwrap().value.unwrap();
                values.push(std::str::from_utf8(&text).unwrap().trim_start().parse().unwrap());
            }
        }
    }
    values
}

/// Writes a record with this number, in so many bytes; returns its delivery.
async fn send(producer: &Producer, number: usize, size: usize) -> Delivery {
    let text = format!("{number:>size$}");
    let record = ProducerRecord {
        topic: TOPIC,
        partition: Some(0),
        value: Some(text.as_bytes()),
        ..ProducerRecord::default()
    };
    producer.send(record).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_move_while_they_are_written_to() {
    let brokers = Brokers::start_with_log_dirs((2, 2), &[]).await.unwrap();
    let cluster = connect(&brokers.bootstrap()).await;
    let admin = Admin::new(cluster.clone());
    admin.create_topic(&NewTopic::new(TOPIC, 1, 2)).await.unwrap();
    let stopping = Arc::new(AtomicBool::new(false));
    let (stop, writing) = (stopping.clone(), cluster.clone());
    let writer = tokio::spawn(async move {
        let producer = Producer::new(writing, ProducerOptions::default()).unwrap();
        let mut written = 0;
        while !stop.load(Ordering::Acquire) {
            send(&producer, written, 1000).await.await.unwrap();
            written += 1;
        }
        written
    });
    for round in 0..4 {
        for broker in 1..=2 {
            let (at, moving) = place(&admin, broker).await;
            assert_eq!(moving, None);
            let folder = brokers.folder(broker);
            let other = [folder.join("0"), folder.join("1")];
            let other = other.iter().find(|dir| **dir != at).unwrap();
            assert_eq!(move_to(&admin, broker, other).await, ErrorCode::None, "round {round}");
            until_in(&admin, broker, other).await;
        }
    }
    stopping.store(true, Ordering::Release);
    let written = writer.await.unwrap();
    assert_eq!(values(&cluster, written).await, (0..written).collect::<Vec<_>>());
    let image = brokers.broker(1).parts().image.load();
    let partition = image.topic(TOPIC).unwrap().partition(0).unwrap().clone();
    assert_eq!(partition.isr.len(), 2, "both kept up");
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_directory_of_the_broker_will_do() {
    let brokers = Brokers::start_with_log_dirs((1, 2), &[]).await.unwrap();
    let admin = Admin::new(connect(&brokers.bootstrap()).await);
    let dir = brokers.folder(1).join("1");
    let elsewhere = Path::new("/no/such/dir");
    assert_eq!(move_to(&admin, 1, elsewhere).await, ErrorCode::LogDirNotFound);
    assert_eq!(move_to(&admin, 1, &dir).await, ErrorCode::UnknownTopicOrPartition);
    admin.create_topic(&NewTopic::new("another", 1, 1)).await.unwrap();
    admin.create_topic(&NewTopic::new(TOPIC, 1, 1)).await.unwrap();
    until_in(&admin, 1, &dir).await;
    assert_eq!(move_to(&admin, 1, &dir).await, ErrorCode::None, "where it is");
    assert_eq!(place(&admin, 1).await, (dir, None));
    brokers.stop().await;
}

async fn set_rate(admin: &Admin, bytes_per_second: &str) {
    let key = "replica.alter.log.dirs.io.max.bytes.per.second";
    let changes = vec![ConfigChange::set(key, bytes_per_second)];
    let changes = [(ConfigResource::broker(BrokerId(1)), changes)];
    let results = admin.incremental_alter_configs(&changes, false).await.unwrap();
    results[0].1.as_ref().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_survives_that_its_broker_is_killed() {
    const RECORDS: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let dirs = ["a", "b"].map(|name| dir.path().join(name));
    let config = format!("log.dirs={},{}", dirs[0].display(), dirs[1].display());
    let mut dev = DevProcess::start(&dir.path().join("dev"), &["--config", &config]).unwrap();
    let cluster = connect(&dev.brokers.join(",")).await;
    let admin = Admin::new(cluster.clone());
    admin.create_topic(&NewTopic::new(TOPIC, 1, 1)).await.unwrap();
    let producer = Producer::new(cluster, ProducerOptions::default()).unwrap();
    let mut sent = Vec::new();
    for number in 0..RECORDS {
        sent.push(send(&producer, number, 10_000).await);
    }
    for sent in sent {
        sent.await.unwrap();
    }
    // A piece, and then a long time nothing.
    set_rate(&admin, "1").await;
    let (at, _) = place(&admin, 1).await;
    let other = dirs.iter().find(|dir| **dir != at).unwrap();
    assert_eq!(move_to(&admin, 1, other).await, ErrorCode::None);
    let deadline = Instant::now() + PATIENCE;
    let lag = loop {
        match place(&admin, 1).await {
            (_, Some((path, size, lag))) if size > 0 => {
                assert_eq!((path.as_path(), lag > 0), (other.as_path(), true));
                break lag;
            }
            now => assert!(Instant::now() < deadline, "nothing is copied: {now:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    dev.kill().unwrap();
    dev.restart().unwrap();
    let cluster = connect(&dev.brokers.join(",")).await;
    let admin = Admin::new(cluster.clone());
    let (still, moving) = place(&admin, 1).await;
    let (path, _, left) = moving.expect("it goes on");
    assert_eq!((still.as_path(), path.as_path()), (at.as_path(), other.as_path()));
    assert!(left > 0 && left <= lag, "{left} of {lag}");
    set_rate(&admin, "9223372036854775807").await;
    until_in(&admin, 1, other).await;
    assert_eq!(values(&cluster, RECORDS).await, (0..RECORDS).collect::<Vec<_>>());
    dev.kill().unwrap();
    dev.restart().unwrap();
    let cluster = connect(&dev.brokers.join(",")).await;
    let admin = Admin::new(cluster.clone());
    assert_eq!(place(&admin, 1).await, (other.clone(), None));
    assert_eq!(values(&cluster, RECORDS).await, (0..RECORDS).collect::<Vec<_>>());
}
