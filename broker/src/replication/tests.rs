//! Stories of partitions on real logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_common::kafka::records::{BatchBuilder, BatchOptions};
use ottla_common::types::{BrokerId, TopicId, TopicPartition, Zxid};

use super::assignments::Assignments;
use super::partition::{Lease, Partition, PartitionParts, Shared};
use super::replica_manager::{ReplicaManager, ReplicaManagerParts};
use super::settings::{Durability, PartitionSettings};
use super::throttle::Throttles;
use crate::config::topic::TopicConfig;
use crate::metadata::image::{Delta, MetadataImage, PartitionImage, TopicImage};
use crate::metadata::watcher::image_channel;
use crate::storage::log::{AppendOrigin, LeaderAppend, Log};
use crate::storage::log_manager::{LogManager, LogManagerConfig};

const BROKER: BrokerId = BrokerId(1);

fn logs_in(folder: &tempfile::TempDir) -> Arc<LogManager> {
    let config = LogManagerConfig::new(vec![folder.path().to_owned()], BROKER);
    LogManager::open(config, 0).unwrap()
}

fn led_here() -> PartitionImage {
    let only = vec![BROKER];
    PartitionImage {
        replicas: only.clone(),
        isr: only,
        leader: Some(BROKER),
        ..PartitionImage::default()
    }
}

fn append_one(log: &Log) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(1, None, Some(b"v"), &[]).unwrap();
    let origin = AppendOrigin::Client;
    let append = LeaderAppend { leader_epoch: 0, origin, now_ms: 1 };
    log.append_as_leader(builder.build().unwrap(), append).unwrap();
}

#[test]
fn what_is_on_disk_is_committed_with_page_cache_durability_too() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs_in(&folder);
    let topic_partition = TopicPartition::new("t", 0);
    let topic_id = TopicId::random().unwrap();
    let log = logs.get_or_create(&topic_partition, topic_id, Arc::default(), 0).unwrap();
    let settings = PartitionSettings { min_insync: 1, durability: Durability::PageCache };
    let shared = Arc::new(Shared { broker_id: BROKER, logs, lease: Arc::new(|_| true) });
    let log_here = log.clone();
    let parts = PartitionParts { topic_partition, topic_id, log: log_here, shared, settings };
    let partition = Partition::new(parts);
    partition.apply(&led_here(), Some(0)).unwrap();
    // An append that saw the durability that the topic had before, and so waits for the flush.
    append_one(&log);
    log.flush().unwrap();
    assert_eq!(partition.high_watermark(), 1);
}

/// An image of a cluster with these topics of one partition.
fn image_of(topics: &[(&str, TopicId)]) -> (MetadataImage, Delta) {
    let (mut image, mut delta) = (MetadataImage::default(), Delta::default());
    image.cluster_id = Some("a cluster".into());
    for (name, id) in topics {
        let name: Arc<str> = (*name).into();
        let topic = TopicImage {
            name: name.clone(),
            id: *id,
            partitions: vec![led_here()],
            node_version: 0,
        };
        delta.topics.insert(name.clone());
        image.topics.insert(name, Arc::new(topic));
    }
    (image, delta)
}

#[test]
fn strays_are_sought_in_the_first_image_before_a_later_one_brings_topics() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs_in(&folder);
    let id = TopicId::random().unwrap();
    let [known, stray, new] = ["known", "stray", "new"].map(|name| TopicPartition::new(name, 0));
    for topic_partition in [&known, &stray] {
        logs.get_or_create(topic_partition, id, Arc::default(), 0).unwrap();
    }
    let source = Arc::new(|_: &MetadataImage, _: &str| TopicConfig::default());
    let (_publisher, image) = image_channel();
    let replicas = ReplicaManager::new(ReplicaManagerParts {
        broker_id: BROKER,
        logs: logs.clone(),
        image,
        topic_config: source,
        lease: Arc::new(|_| true),
        fetchers: None,
        move_rate: Arc::new(|| u64::MAX),
        throttles: Throttles::none(),
    });
    replicas.apply(&MetadataImage::default(), &Delta::default());
    assert!(logs.log(&stray).is_some(), "nothing is known of the cluster yet");
    let (image, delta) = image_of(&[("known", id)]);
    replicas.apply(&image, &delta);
    assert!(logs.log(&known).is_some());
    assert!(logs.log(&stray).is_none());
    let (image, delta) = image_of(&[("known", id), ("new", id)]);
    replicas.apply(&image, &delta);
    assert!(logs.log(&new).is_some());
    let (behind, delta) = image_of(&[("known", id)]);
    replicas.apply(&behind, &delta);
    assert!(logs.log(&new).is_some(), "they are sought once");
}

#[test]
fn a_leadership_of_an_earlier_life_is_not_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs_in(&folder);
    let topic_partition = TopicPartition::new("t", 0);
    let topic_id = TopicId::random().unwrap();
    let log = logs.get_or_create(&topic_partition, topic_id, Arc::default(), 0).unwrap();
    let settings = PartitionSettings { min_insync: 1, durability: Durability::Disk };
    let shared = Arc::new(Shared { broker_id: BROKER, logs, lease: Arc::new(|_| true) });
    let parts = PartitionParts { topic_partition, topic_id, log, shared, settings };
    let partition = Partition::new(parts);
    let elected_at =
        |zxid, leader_epoch| PartitionImage { state_mzxid: Zxid(zxid), leader_epoch, ..led_here() };
    partition.apply(&elected_at(10, 4), None).unwrap();
    assert!(!partition.is_leader(), "it is not registered yet");
    partition.apply(&elected_at(10, 4), Some(20)).unwrap();
    assert!(!partition.is_leader(), "it was elected at 10, and has registered at 20");
    partition.apply(&elected_at(30, 5), Some(20)).unwrap();
    assert_eq!(partition.leadership(), Some(5));
    partition.apply(&elected_at(31, 5), None).unwrap();
    assert!(!partition.is_leader(), "its session is over");
}

#[test]
fn a_later_session_proves_nothing_of_a_leadership_of_an_earlier_life() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs_in(&folder);
    let topic_partition = TopicPartition::new("t", 0);
    let topic_id = TopicId::random().unwrap();
    let log = logs.get_or_create(&topic_partition, topic_id, Arc::default(), 0).unwrap();
    let settings = PartitionSettings { min_insync: 1, durability: Durability::PageCache };
    let life = Arc::new(AtomicI64::new(20));
    let now = Arc::clone(&life);
    let lease: Lease = Arc::new(move |life| life == now.load(Ordering::Relaxed));
    let shared = Arc::new(Shared { broker_id: BROKER, logs, lease });
    let log_here = log.clone();
    let parts = PartitionParts { topic_partition, topic_id, log: log_here, shared, settings };
    let partition = Partition::new(parts);
    let elected_at =
        |zxid, leader_epoch| PartitionImage { state_mzxid: Zxid(zxid), leader_epoch, ..led_here() };
    partition.apply(&elected_at(30, 5), Some(20)).unwrap();
    append_one(&log);
    partition.configure(settings);
    assert_eq!(partition.high_watermark(), 1);
    // Registered anew, and not told yet who was elected since.
    life.store(40, Ordering::Relaxed);
    append_one(&log);
    partition.configure(settings);
    assert_eq!(partition.high_watermark(), 1);
    partition.apply(&elected_at(50, 6), Some(40)).unwrap();
    assert_eq!(partition.high_watermark(), 2);
}

#[test]
fn what_is_throttled_waits_until_all_is_paid_for() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs_in(&folder);
    let topic_partition = TopicPartition::new("t", 0);
    let topic_id = TopicId::random().unwrap();
    let log = logs.get_or_create(&topic_partition, topic_id, Arc::default(), 0).unwrap();
    let settings = PartitionSettings { min_insync: 1, durability: Durability::Disk };
    let shared = Arc::new(Shared { broker_id: BROKER, logs, lease: Arc::new(|_| true) });
    let parts = PartitionParts { topic_partition, topic_id, log, shared, settings };
    let partition = Partition::new(parts);
    partition.throttle(false, true);
    let (key, now) = ((topic_id, 0), tokio::time::Instant::now());
    let second = std::time::Duration::from_secs(1);
    let mut assignments = Assignments::default();
    assignments.follow(key, &partition, 0);
    assert_eq!(assignments.take_news(100, 0, now).topics.len(), 1);
    assignments.succeeded(key);
    assignments.pause(key, second, now);
    assert!(!assignments.has_throttled(now) && assignments.next_retry() == Some(now + second));
    // A second later something is still owed.
    let now = now + second;
    assert!(assignments.has_throttled(now));
    assignments.hold_up(now + second, now);
    assert!(assignments.take_news(100, 1, now).topics.is_empty());
    assert_eq!(assignments.next_retry(), Some(now + second));
    assert_eq!(assignments.take_news(100, 2, now + second).topics.len(), 1);
}
