//! The client of Kafka's protocol against a coordinator and a broker in this process or, where
//! `OTTLA_TEST_BOOTSTRAP` names its bootstrap servers, against another cluster, for example Apache
//! Kafka's. The tests make topics of their own, with random names.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_common::kafka::admin::{
    Admin, ConfigChange, ConfigResource, ConfigSource, NewPartitions, NewTopic,
};
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::{
    Cluster, ClusterOptions, EARLIEST_TIMESTAMP, Isolation, LATEST_TIMESTAMP,
};
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::consumer::{Consumer, ConsumerOptions, OffsetReset, Position};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::producer::{Acks, Producer, ProducerOptions, ProducerRecord};
use ottla_common::kafka::records::{Record, RecordHeader, RecordLimits};
use ottla_common::types::TopicPartition;
use ottla_tests::node::Node;

/// A cluster to test against; the node, if there is one, lives as long as it is held.
async fn cluster() -> (Option<Node>, Cluster) {
    let elsewhere = std::env::var("OTTLA_TEST_BOOTSTRAP").ok();
    let node = match elsewhere {
        Some(_) => None,
        None => Some(Node::start(&[]).await.unwrap()),
    };
    let bootstrap = match (&node, elsewhere) {
        (Some(node), _) => node.address.to_string(),
        (None, elsewhere) => elsewhere.unwrap_or_default(),
    };
    let servers: Vec<&str> = bootstrap.split(',').collect();
    let options = ClusterOptions { allow_auto_topic_creation: true, ..ClusterOptions::default() };
    (node, Cluster::connect(&servers, options).await.unwrap())
}

fn topic_name() -> String {
    format!("client-test-{:016x}", fastrand::u64(..))
}

#[tokio::test]
async fn records_get_consecutive_offsets() {
    let (_node, cluster) = cluster().await;
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

/// Polls until so many records have come.
async fn read(consumer: &mut Consumer, count: usize) -> Vec<(i32, Record)> {
    let mut records = Vec::new();
    while records.len() < count {
        let fetched = consumer.poll(Duration::from_secs(10)).await.unwrap();
        assert!(!fetched.is_empty(), "only {} of {count} records came", records.len());
        for fetched in fetched {
            for record in fetched.records(RecordLimits::default()) {
                records.push((fetched.partition.partition, record.unwrap()));
            }
        }
    }
    records
}

async fn new_topic(cluster: &Cluster, partitions: i32) -> String {
    let topic = topic_name();
    let admin = Admin::new(cluster.clone());
    admin.create_topic(&NewTopic::new(&topic, partitions, 1)).await.unwrap();
    // Brokers may learn of it a moment later.
    while cluster.topic(&topic).await.is_err() {
        tokio::task::yield_now().await;
    }
    topic
}

#[tokio::test]
async fn what_is_produced_is_consumed() {
    let (_node, cluster) = cluster().await;
    let topic = new_topic(&cluster, 3).await;
    let options = ProducerOptions { compression: Compression::Lz4, ..ProducerOptions::default() };
    let producer = Producer::new(cluster.clone(), options).unwrap();
    let headers = [RecordHeader::new("header", "its value")];
    let mut deliveries = Vec::new();
    for number in 0..3_000 {
        let text = format!("{number}");
        let record = ProducerRecord {
            topic: &topic,
            key: (number % 3 > 0).then_some(text.as_bytes()),
            value: (number % 5 > 0).then_some(text.as_bytes()),
            headers: if number % 7 > 0 { &headers } else { &[] },
            timestamp_ms: Some(1_000_000 + number),
            ..ProducerRecord::default()
        };
        deliveries.push(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    let mut sent = BTreeMap::new();
    for (number, delivery) in (0i64..).zip(deliveries) {
        let delivered = delivery.await.unwrap();
        assert_eq!(delivered.timestamp_ms, 1_000_000 + number);
        sent.insert((delivered.partition, delivered.offset), number);
    }

    let mut consumer = Consumer::new(cluster.clone(), ConsumerOptions::default());
    consumer.assign_topic(&topic, Position::Earliest).await.unwrap();
    let mut next = BTreeMap::new();
    for (partition, record) in read(&mut consumer, 3_000).await {
        let expected = next.entry(partition).or_insert(0);
        assert_eq!(record.offset, *expected, "no gap, nothing twice");
        *expected += 1;
        let number = sent[&(partition, record.offset)];
        let text = format!("{number}");
        assert_eq!(record.key.as_deref(), (number % 3 > 0).then_some(text.as_bytes()));
        assert_eq!(record.value.as_deref(), (number % 5 > 0).then_some(text.as_bytes()));
        assert_eq!(record.headers.len(), usize::from(number % 7 > 0));
        assert_eq!(record.timestamp, 1_000_000 + number);
    }
    assert_eq!(next.values().sum::<i64>(), 3_000);
    assert!(next.len() > 1, "several partitions were used");
    for (partition, end) in next {
        let partition = TopicPartition::new(topic.as_str(), partition);
        assert_eq!(consumer.position(&partition), Some(end));
    }
}

#[tokio::test]
async fn a_consumer_goes_where_it_is_sent() {
    let (_node, cluster) = cluster().await;
    let topic = new_topic(&cluster, 1).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let producer = Producer::new(cluster.clone(), ProducerOptions::default()).unwrap();
    let send = async |number: i64| {
        let text = number.to_string();
        let record = ProducerRecord {
            topic: &topic,
            value: Some(text.as_bytes()),
            timestamp_ms: Some(1_000 * number),
            ..ProducerRecord::default()
        };
        producer.send(record).await.unwrap().await.unwrap()
    };
    for number in 0..10 {
        assert_eq!(send(number).await.offset, number);
    }
    let options = ConsumerOptions { reset: OffsetReset::Fail, ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(cluster.clone(), options);
    for (position, first) in [
        (Position::Earliest, 0),
        (Position::Offset(7), 7),
        (Position::Timestamp(4_500), 5),
        (Position::Timestamp(4_000), 4),
        (Position::Offset(0), 0),
    ] {
        consumer.assign(partition.clone(), position);
        let (_, record) = read(&mut consumer, 1).await.remove(0);
        assert_eq!(record.offset, first, "{position:?}");
    }
    for position in [Position::Latest, Position::Timestamp(1 << 40)] {
        consumer.seek(&partition, position).unwrap();
        assert!(consumer.poll(Duration::from_millis(700)).await.unwrap().is_empty());
        let delivered = send(99).await;
        let (_, record) = read(&mut consumer, 1).await.remove(0);
        assert_eq!(record.offset, delivered.offset);
    }
    consumer.seek(&partition, Position::Offset(1_000)).unwrap();
    let error = consumer.poll(Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(error, ClientError::OffsetOutOfRange { offset: 1_000, .. }), "{error}");
    consumer.seek(&partition, Position::Earliest).unwrap();
    assert_eq!(read(&mut consumer, 1).await[0].1.offset, 0, "it rests only until it is sought");
    let other = TopicPartition::new(topic.as_str(), 1);
    assert!(consumer.seek(&other, Position::Earliest).is_err());
}

#[tokio::test]
async fn topics_are_administered() {
    let (_node, cluster) = cluster().await;
    let admin = Admin::new(cluster.clone());
    let description = admin.describe_cluster(false).await.unwrap();
    assert!(!description.brokers.is_empty() && !description.cluster_id.is_empty());

    let mut topic = NewTopic::new(topic_name(), 2, 1);
    topic.configs.insert("retention.ms".to_owned(), "123456".to_owned());
    let name = topic.name.clone();
    let validated = admin.create_topics(std::slice::from_ref(&topic), true).await.unwrap();
    assert!(validated[0].1.is_ok(), "{validated:?}");
    assert!(admin.list_topics().await.unwrap().iter().all(|topic| *topic.name != *name));
    let created = admin.create_topic(&topic).await.unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 1));
    let error = admin.create_topic(&topic).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists), "{error}");

    let more = NewPartitions { topic: name.clone(), total: 4, assignments: None };
    let grown = admin.create_partitions(&[more], false).await.unwrap();
    assert_eq!(grown, [(name.clone(), Ok(()))]);
    let mut partitions = 0;
    while partitions != 4 {
        let described = admin.describe_topic_partitions(&[&name]).await.unwrap();
        partitions = described[0].partitions.len();
        tokio::task::yield_now().await;
    }

    let deleted = admin.delete_topics(&[&name, "no-such-topic"]).await.unwrap();
    for (topic, result) in deleted {
        let code = result.err().and_then(|error| error.code());
        let expected = (topic != name).then_some(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(code, expected, "{topic}");
    }
}

#[tokio::test]
async fn configurations_are_changed() {
    let (_node, cluster) = cluster().await;
    let admin = Admin::new(cluster.clone());
    let topic = new_topic(&cluster, 1).await;
    let resource = ConfigResource::topic(&topic);
    let retention = async || {
        let described =
            admin.describe_configs(std::slice::from_ref(&resource), Some(&["retention.ms"]));
        let (_, entries) = described.await.unwrap().remove(0);
        let entry = entries.unwrap().remove(0);
        (entry.value.unwrap(), entry.source)
    };
    let (default, _) = retention().await;
    let change = [(resource.clone(), vec![ConfigChange::set("retention.ms", "77777")])];
    let results = admin.incremental_alter_configs(&change, false).await.unwrap();
    assert_eq!(results, [(resource.clone(), Ok(()))]);
    while retention().await != ("77777".to_owned(), ConfigSource::DynamicTopic) {
        tokio::task::yield_now().await;
    }
    let change = [(resource.clone(), vec![ConfigChange::delete("retention.ms")])];
    assert!(admin.incremental_alter_configs(&change, false).await.unwrap()[0].1.is_ok());
    while retention().await.0 != default {
        tokio::task::yield_now().await;
    }
    let change = [(resource.clone(), vec![ConfigChange::set("retention.ms", "soon")])];
    let results = admin.incremental_alter_configs(&change, true).await.unwrap();
    let error = results[0].1.clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidConfig), "{error}");

    let listed = admin.list_config_resources(&[]).await;
    assert!(listed.is_ok(), "{listed:?}");
    let broker = *cluster.metadata().brokers.keys().next().unwrap();
    let described = admin.describe_configs(&[ConfigResource::broker(broker)], None).await.unwrap();
    assert!(described[0].1.as_ref().unwrap().len() > 50);
}

#[tokio::test]
async fn offsets_producers_and_disks_are_described() {
    let (_node, cluster) = cluster().await;
    let admin = Admin::new(cluster.clone());
    let topic = new_topic(&cluster, 1).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let producer = Producer::new(cluster.clone(), ProducerOptions::default()).unwrap();
    for _ in 0..10 {
        let value = Some(&b"value"[..]);
        let record = ProducerRecord { topic: &topic, value, ..ProducerRecord::default() };
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    let producers = admin.describe_producers(&partition).await.unwrap();
    assert_eq!(producers.iter().map(|producer| producer.last_sequence).collect::<Vec<_>>(), [9]);

    let offsets = async |timestamp: i64| {
        let wanted = [(partition.clone(), timestamp)];
        let mut answers = admin.list_offsets(&wanted, Isolation::ReadUncommitted).await;
        answers.remove(0).1.unwrap().offset
    };
    assert_eq!(offsets(EARLIEST_TIMESTAMP).await, Some(0));
    assert_eq!(offsets(LATEST_TIMESTAMP).await, Some(10));
    assert_eq!(offsets(1 << 50).await, None);
    let deleted = admin.delete_records(&[(partition.clone(), 4)]).await;
    assert_eq!(deleted[0].1, Ok(4));
    assert_eq!(offsets(EARLIEST_TIMESTAMP).await, Some(4));

    let leader = cluster.leader(&topic, 0).await.unwrap();
    let dirs = admin.describe_log_dirs(leader, Some(&[&topic])).await.unwrap();
    let sizes = dirs.iter().flat_map(|dir| &dir.topics).flat_map(|topic| &topic.partitions);
    assert!(sizes.map(|partition| partition.partition_size).sum::<i64>() > 0);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_with_a_reason() {
    let (_node, cluster) = cluster().await;
    let topic = new_topic(&cluster, 1).await;
    let options = ProducerOptions { request_bytes_max: 4 << 20, ..ProducerOptions::default() };
    let producer = Producer::new(cluster.clone(), options).unwrap();
    let huge = vec![0; 5 << 20];
    let record = ProducerRecord { topic: &topic, value: Some(&huge), ..Default::default() };
    let error = producer.send(record).await.unwrap_err();
    assert!(matches!(error, ClientError::RecordTooLarge { .. }), "{error}");
    // The broker's own limit is 1 MiB. What comes after is delivered all the same.
    let large = vec![0; 2 << 20];
    let record = ProducerRecord { topic: &topic, value: Some(&large), ..Default::default() };
    let refused = producer.send(record).await.unwrap();
    let record = ProducerRecord { topic: &topic, value: Some(b"small"), ..Default::default() };
    let delivered = producer.send(record).await.unwrap();
    let error = refused.await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge), "{error}");
    assert_eq!(delivered.await.unwrap().offset, 0);

    let record = ProducerRecord { topic: &topic, partition: Some(9), ..Default::default() };
    let error = producer.send(record).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownPartition { count: 1, .. }), "{error}");
    let record = ProducerRecord { topic: "no/such", ..Default::default() };
    let error = producer.send(record).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidTopicException), "{error}");
    producer.close(Duration::from_secs(1)).await;
    let record = ProducerRecord { topic: &topic, value: Some(b"late"), ..Default::default() };
    assert_eq!(producer.send(record).await.unwrap_err(), ClientError::Closed);
}
