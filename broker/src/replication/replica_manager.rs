//! All partitions of this broker: applies the image's changes to them, and finds them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use ottla_common::clock::wall_time_ms;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::{BrokerId, TopicId, TopicPartition};
use tracing::{error, info, warn};

use super::partition::{Partition, PartitionParts};
use super::settings::{PartitionSettings, log_config};
use crate::config::topic::TopicConfig;
use crate::metadata::image::{Delta, MetadataImage, TopicImage};
use crate::metadata::watcher::ImageHandle;
use crate::storage::error::StorageError;
use crate::storage::log_manager::LogManager;

/// Works out a topic's effective configs from its overrides in an image.
pub type TopicConfigSource = Arc<dyn Fn(&MetadataImage, &str) -> TopicConfig + Send + Sync>;

/// One topic's partitions here; the index is the partition's number.
type Handles = Arc<Vec<Option<Arc<Partition>>>>;

/// All partitions of this broker.
pub struct ReplicaManager {
    broker_id: BrokerId,
    logs: Arc<LogManager>,
    image: ImageHandle,
    topic_config: TopicConfigSource,
    topics: DashMap<Arc<str>, (TopicId, Handles)>,
    /// Logs that no topic owns were looked for.
    sought_strays: AtomicBool,
}

impl ReplicaManager {
    /// The partitions of a broker whose logs are open; none serves before its image has been
    /// applied.
    pub fn new(
        broker_id: BrokerId,
        logs: Arc<LogManager>,
        image: ImageHandle,
        topic_config: TopicConfigSource,
    ) -> Arc<Self> {
        let manager = Arc::new(Self {
            broker_id,
            logs,
            image,
            topic_config,
            topics: DashMap::new(),
            sought_strays: AtomicBool::new(false),
        });
        let listener = Arc::downgrade(&manager);
        manager.logs.on_failure(Arc::new(move |dir, partitions| {
            let Some(manager) = listener.upgrade() else { return };
            let (dir, count) = (dir.path().display(), partitions.len());
            error!(%dir, count, "log directory is offline");
            let here = partitions.iter().filter_map(|tp| manager.find(&tp.topic, tp.partition));
            here.for_each(|partition| partition.disk_failed());
        }));
        manager
    }

    /// A partition that this broker holds, leading or not.
    ///
    /// [`ErrorCode::UnknownTopicOrPartition`] if the cluster has none such,
    /// [`ErrorCode::NotLeaderOrFollower`] if other brokers have it,
    /// [`ErrorCode::KafkaStorageError`] if its disk has failed.
    pub fn partition(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ErrorCode> {
        if let Some(found) = self.find(topic, partition) {
            return match found.log().dir().offline_reason() {
                None => Ok(found),
                Some(_) => Err(ErrorCode::KafkaStorageError),
            };
        }
        // A topic that is deleted goes from here first, and then from the image.
        let is_held = self.topics.contains_key(topic);
        let image = self.image.load();
        let placed = image.topic(topic).and_then(|topic| topic.partition(partition));
        match placed.filter(|_| is_held) {
            None => Err(ErrorCode::UnknownTopicOrPartition),
            Some(placed) if placed.replicas.contains(&self.broker_id) => {
                Err(ErrorCode::KafkaStorageError)
            }
            Some(_) => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    fn find(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get(topic)?.1.get(index)?.clone()
    }

    /// The logs of this broker.
    pub fn logs(&self) -> &Arc<LogManager> {
        &self.logs
    }

    /// Applies what changed between two images; the first of a cluster also tells which logs no
    /// topic owns. Opens, makes and drops logs, so it may block.
    pub fn apply(&self, image: &MetadataImage, delta: &Delta) {
        // Deletions come first: a topic may have been made anew under the name of a deleted one.
        if delta.deleted_topics {
            self.drop_deleted(image);
        }
        for name in &delta.topics {
            match image.topic(name) {
                Some(topic) => self.apply_topic(image, topic),
                None => self.retire_topic(name),
            }
        }
        if delta.broker_configs {
            for topic in image.topics.values() {
                self.configure_topic(image, topic);
            }
        }
        // In the order of the images: a later one may have a topic, and a log, that this one lacks.
        if image.cluster_id.is_some() && !self.sought_strays.swap(true, Ordering::AcqRel) {
            self.set_strays_aside(image);
        }
    }

    /// Sets logs aside that no topic of the cluster owns. Nothing is deleted because of something
    /// that is missing: only a tombstone deletes.
    fn set_strays_aside(&self, image: &MetadataImage) {
        for log in self.logs.logs() {
            let TopicPartition { topic, partition } = log.topic_partition();
            let owner = image.topic(topic).filter(|t| log.topic_id().is_none_or(|id| id == t.id));
            if owner.is_some_and(|topic| topic.partition(*partition).is_some()) {
                continue;
            }
            let partition = log.topic_partition();
            warn!(%partition, "no topic owns this log; it is kept aside as stray");
            if let Err(error) = self.logs.set_stray(log.topic_partition()) {
                error!(partition = %log.topic_partition(), %error, "set a stray log aside");
            }
        }
    }

    fn apply_topic(&self, image: &MetadataImage, topic: &TopicImage) {
        let known = self.topics.get(&*topic.name).map(|entry| entry.value().clone());
        if known.as_ref().is_some_and(|(id, _)| *id != topic.id) {
            self.retire_topic(&topic.name);
        }
        let config = (self.topic_config)(image, &topic.name);
        let known = known.filter(|(id, _)| *id == topic.id).map(|(_, handles)| handles);
        let mut handles = Vec::with_capacity(topic.partitions.len());
        for (number, placed) in (0_i32..).zip(&topic.partitions) {
            let index = handles.len();
            let held = known.as_ref().and_then(|known| known.get(index).cloned().flatten());
            let is_replica = placed.replicas.contains(&self.broker_id);
            let handle = match held {
                Some(partition) if is_replica => Some(partition),
                Some(partition) => {
                    partition.retire();
                    None
                }
                None if is_replica => self.open_partition(topic, number, &config),
                None => None,
            };
            if let Some(partition) = &handle {
                partition.log().set_config(Arc::new(log_config(&config)));
                partition.configure(PartitionSettings::of(&config, placed.replicas.len()));
                if let Err(error) = partition.apply(placed, self.broker_id) {
                    error!(partition = %partition.topic_partition(), %error, "take the new role");
                }
            }
            handles.push(handle);
        }
        self.topics.insert(topic.name.clone(), (topic.id, Arc::new(handles)));
    }

    fn open_partition(
        &self,
        topic: &TopicImage,
        number: i32,
        config: &TopicConfig,
    ) -> Option<Arc<Partition>> {
        let topic_partition = TopicPartition::new(topic.name.clone(), number);
        let log_config = Arc::new(log_config(config));
        let opened =
            self.logs.get_or_create(&topic_partition, topic.id, log_config, wall_time_ms());
        match opened {
            Ok(log) => Some(Partition::new(PartitionParts {
                topic_partition,
                topic_id: topic.id,
                log,
                logs: self.logs.clone(),
                settings: PartitionSettings::of(config, 1),
            })),
            Err(error) => {
                error!(partition = %topic_partition, %error, "open the partition's log");
                None
            }
        }
    }

    fn configure_topic(&self, image: &MetadataImage, topic: &TopicImage) {
        let Some((_, handles)) = self.topics.get(&*topic.name).map(|e| e.value().clone()) else {
            return;
        };
        let config = (self.topic_config)(image, &topic.name);
        for (partition, placed) in handles.iter().zip(&topic.partitions) {
            if let Some(partition) = partition {
                partition.log().set_config(Arc::new(log_config(&config)));
                partition.configure(PartitionSettings::of(&config, placed.replicas.len()));
            }
        }
    }

    fn retire_topic(&self, name: &str) {
        if let Some((_, (_, handles))) = self.topics.remove(name) {
            handles.iter().flatten().for_each(|partition| partition.retire());
        }
    }

    /// Drops the logs of topics whose tombstones name this broker.
    fn drop_deleted(&self, image: &MetadataImage) {
        let doomed: BTreeSet<TopicId> = self.pending_deletions(image).into_iter().collect();
        for log in self.logs.logs() {
            if log.topic_id().is_some_and(|id| doomed.contains(&id)) {
                info!(partition = %log.topic_partition(), "dropping the log of a deleted topic");
                if let Err(error) = self.delete_log(log.topic_partition()) {
                    error!(partition = %log.topic_partition(), %error, "drop a deleted log");
                }
            }
        }
    }

    fn delete_log(&self, topic_partition: &TopicPartition) -> Result<bool, StorageError> {
        self.logs.delete(topic_partition)
    }

    /// The deleted topics whose tombstones this broker has still to take itself off.
    pub fn pending_deletions(&self, image: &MetadataImage) -> Vec<TopicId> {
        let names_this_broker =
            image.deleted_topics.iter().filter(|(_, t)| t.value.pending.contains(&self.broker_id));
        names_this_broker.map(|(id, _)| *id).collect()
    }
}
