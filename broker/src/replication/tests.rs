//! Stories of partitions on real logs.

use std::sync::Arc;

use ottla_common::kafka::records::{BatchBuilder, BatchOptions};
use ottla_common::types::{BrokerId, TopicId, TopicPartition};

use super::partition::{Partition, PartitionParts};
use super::replica_manager::ReplicaManager;
use super::settings::{Durability, PartitionSettings};
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
    let (log_here, logs) = (log.clone(), logs.clone());
    let parts = PartitionParts { topic_partition, topic_id, log: log_here, logs, settings };
    let partition = Partition::new(parts);
    partition.apply(&led_here(), BROKER).unwrap();
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
    let (_publisher, handle) = image_channel();
    let replicas = ReplicaManager::new(BROKER, logs.clone(), handle, source);
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
