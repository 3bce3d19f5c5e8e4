//! All partitions of this broker: applies the image's changes to them, and finds them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use ottla_common::clock::wall_time_ms;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::{BrokerId, TopicId, TopicPartition, Zxid};
use tracing::{error, info, warn};

use super::fetcher_pool::FetcherPool;
use super::isr_changes::{Candidates, Failed};
use super::log_dir_moves::{LogDirMoves, RateSource};
use super::partition::{Lease, Partition, PartitionParts, Shared};
use super::settings::{PartitionSettings, log_config};
use super::throttle::{self, Throttles};
use crate::config::topic::TopicConfig;
use crate::metadata::image::{Delta, MetadataImage, Overrides, TopicImage};
use crate::metadata::watcher::ImageHandle;
use crate::storage::error::StorageError;
use crate::storage::log::Log;
use crate::storage::log_manager::LogManager;
use crate::storage::movements::can_be_moved;

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
    shared: Arc<Shared>,
    fetchers: Option<FetcherPool>,
    throttles: Arc<Throttles>,
    moves: Arc<LogDirMoves>,
    candidates: Candidates,
    failed: Failed,
    topics: DashMap<Arc<str>, (TopicId, Handles)>,
    /// Logs that no topic owns were looked for.
    sought_strays: AtomicBool,
    /// The first image's zxid. A registration that it shows is of an earlier process, whose session
    /// is not over yet: this one registers later.
    born_at: OnceLock<Zxid>,
}

/// What the partitions of a broker are made from.
pub struct ReplicaManagerParts {
    /// This broker.
    pub broker_id: BrokerId,
    /// Its logs, which are open.
    pub logs: Arc<LogManager>,
    /// What it knows of the cluster.
    pub image: ImageHandle,
    /// How topics are configured.
    pub topic_config: TopicConfigSource,
    /// Whether it may lead.
    pub lease: Lease,
    /// What follows for it; without, it follows nobody.
    pub fetchers: Option<FetcherPool>,
    /// How fast replicas move between directories.
    pub move_rate: RateSource,
    /// How fast they move between brokers.
    pub throttles: Arc<Throttles>,
}

impl ReplicaManager {
    /// The partitions of a broker; none serves before its image has been applied.
    pub fn new(parts: ReplicaManagerParts) -> Arc<Self> {
        let ReplicaManagerParts {
            broker_id,
            logs,
            image,
            topic_config,
            lease,
            fetchers,
            move_rate,
            throttles,
        } = parts;
        let shared = Arc::new(Shared { broker_id, logs: logs.clone(), lease });
        let moves = LogDirMoves::new(logs.clone(), move_rate);
        let manager = Arc::new(Self {
            broker_id,
            logs,
            image,
            topic_config,
            shared,
            fetchers,
            throttles,
            moves,
            candidates: Candidates::default(),
            failed: Failed::default(),
            topics: DashMap::new(),
            sought_strays: AtomicBool::new(false),
            born_at: OnceLock::new(),
        });
        let listener = Arc::downgrade(&manager);
        manager.logs.on_failure(Arc::new(move |dir, partitions| {
            let Some(manager) = listener.upgrade() else { return };
            let (dir, count) = (dir.path().display(), partitions.len());
            error!(%dir, count, "log directory is offline");
            for name in &partitions {
                if let Some(partition) = manager.find(&name.topic, name.partition) {
                    if let Some(fetchers) = &manager.fetchers {
                        fetchers.leave(&partition);
                    }
                    partition.disk_failed();
                }
            }
            manager.failed.add(&partitions);
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

    /// Moves the replica of a partition to another log directory of this broker, or lets it be made
    /// there if it is not here yet. Blocks on the disk.
    ///
    /// [`ErrorCode::LogDirNotFound`] if this broker has no such directory,
    /// [`ErrorCode::KafkaStorageError`] if one is offline, [`ErrorCode::ReplicaNotAvailable`] if
    /// the replica is not here, [`ErrorCode::UnknownTopicOrPartition`] if there is none such.
    pub fn move_to_dir(&self, name: &TopicPartition, path: &Path) -> Result<(), ErrorCode> {
        if !can_be_moved(name) {
            return Err(ErrorCode::InvalidTopicException);
        }
        let dir = self.logs.dir(path).ok_or(ErrorCode::LogDirNotFound)?;
        if dir.offline_reason().is_some() {
            return Err(ErrorCode::KafkaStorageError);
        }
        let partition = match self.partition(&name.topic, name.partition) {
            Ok(partition) => partition,
            Err(error @ ErrorCode::KafkaStorageError) => return Err(error),
            Err(error) => {
                self.logs.prefer_dir(name, dir);
                return Err(match error {
                    ErrorCode::NotLeaderOrFollower => ErrorCode::ReplicaNotAvailable,
                    error => error,
                });
            }
        };
        match self.logs.begin_move(name, dir, wall_time_ms()) {
            Ok(true) => self.moves.add(&partition),
            Ok(false) => {}
            Err(error) => {
                error!(partition = %name, %error, "move to another log directory");
                return Err(ErrorCode::KafkaStorageError);
            }
        }
        Ok(())
    }

    /// Lets what is being moved to other directories wait for the next start.
    pub fn stop_moves(&self) {
        self.moves.stop();
    }

    fn find(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get(topic)?.1.get(index)?.clone()
    }

    /// All partitions that this broker holds.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let mut all = Vec::new();
        for topic in &self.topics {
            all.extend(topic.value().1.iter().flatten().cloned());
        }
        all
    }

    /// The partitions with a replica that should join the ISR.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// The partitions whose disk has failed.
    pub fn failed(&self) -> &Failed {
        &self.failed
    }

    /// The logs of this broker.
    pub fn logs(&self) -> &Arc<LogManager> {
        &self.logs
    }

    /// Follows each leader with so many fetchers from now on.
    pub fn set_fetchers_per_leader(&self, count: usize) {
        let Some(fetchers) = &self.fetchers else { return };
        if !fetchers.set_fetchers_per_leader(count) {
            return;
        }
        info!(count, "each leader is followed by another number of fetchers");
        for partition in self.all() {
            fetchers.assign(&partition);
        }
    }

    /// How fast replicas move between brokers.
    pub fn throttles(&self) -> &Throttles {
        &self.throttles
    }

    /// How many fetchers have a partition to follow.
    pub fn fetcher_count(&self) -> usize {
        self.fetchers.as_ref().map_or(0, FetcherPool::count)
    }

    /// Applies what changed between two images; the first of a cluster also tells which logs no
    /// topic owns. Opens, makes and drops logs, so it may block.
    pub fn apply(&self, image: &MetadataImage, delta: &Delta) {
        self.born_at.get_or_init(|| image.zxid);
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
        for log in self.logs.futures() {
            self.drop_if_orphan(&log);
        }
        for log in self.logs.logs() {
            let TopicPartition { topic, partition } = log.topic_partition();
            let owner = image.topic(topic).filter(|t| log.topic_id().is_none_or(|id| id == t.id));
            let placed = owner.and_then(|topic| topic.partition(*partition));
            if placed.is_some_and(|placed| placed.replicas.contains(&self.broker_id)) {
                continue;
            }
            let partition = log.topic_partition();
            warn!(%partition, "this broker is no replica of this log; it is kept aside as stray");
            if let Err(error) = self.logs.set_stray(log.topic_partition()) {
                error!(partition = %log.topic_partition(), %error, "set a stray log aside");
            }
        }
    }

    /// A copy of a log that is not here, or not of the same topic, replaces nothing.
    fn drop_if_orphan(&self, future: &Log) {
        let name = future.topic_partition();
        let original = self.logs.any_log(name);
        let is_kept = self.logs.damaged().contains_key(name)
            || original.is_some_and(|log| log.topic_id() == future.topic_id());
        if !is_kept && let Err(error) = self.logs.abandon_move(name) {
            error!(partition = %name, %error, "drop a copy");
        }
    }

    /// In which life this process is, if it is registered.
    fn broker_epoch(&self, image: &MetadataImage) -> Option<i64> {
        let born_at = self.born_at.get()?.0;
        let registered = image.brokers.get(&self.broker_id).map(|own| own.broker_epoch);
        registered.filter(|broker_epoch| *broker_epoch > born_at)
    }

    fn apply_topic(&self, image: &MetadataImage, topic: &TopicImage) {
        let known = self.topics.get(&*topic.name).map(|entry| entry.value().clone());
        if known.as_ref().is_some_and(|(id, _)| *id != topic.id) {
            self.retire_topic(&topic.name);
        }
        let config = (self.topic_config)(image, &topic.name);
        let overrides = image.topic_overrides(&topic.name);
        let broker_epoch = self.broker_epoch(image);
        let known = known.filter(|(id, _)| *id == topic.id).map(|(_, handles)| handles);
        let mut handles = Vec::with_capacity(topic.partitions.len());
        for (number, placed) in (0_i32..).zip(&topic.partitions) {
            let index = handles.len();
            let held = known.as_ref().and_then(|known| known.get(index).cloned().flatten());
            let is_replica = placed.replicas.contains(&self.broker_id);
            let handle = match held {
                Some(partition) if is_replica => Some(partition),
                Some(partition) => {
                    self.give_up(&partition);
                    None
                }
                None if is_replica => self.open_partition(topic, number, &config),
                None => None,
            };
            if let Some(partition) = &handle {
                partition.log().set_config(Arc::new(log_config(&config)));
                partition.configure(PartitionSettings::of(&config, placed.replicas.len()));
                self.throttle(partition, &overrides);
                if let Err(error) = partition.apply(placed, broker_epoch) {
                    error!(partition = %partition.topic_partition(), %error, "take the new role");
                }
                if let Some(fetchers) = &self.fetchers
                    && partition.log().dir().offline_reason().is_none()
                {
                    fetchers.assign(partition);
                }
            }
            handles.push(handle);
        }
        self.topics.insert(topic.name.clone(), (topic.id, Arc::new(handles)));
    }

    /// The topic lives, and says that its replica is not here any more: it was reassigned.
    fn give_up(&self, partition: &Partition) {
        self.retire(partition);
        let name = partition.topic_partition();
        info!(partition = %name, "reassigned to other brokers: dropping the log");
        if let Err(error) = self.logs.delete(name) {
            error!(partition = %name, %error, "drop a log that was reassigned");
        }
    }

    fn retire(&self, partition: &Partition) {
        if let Some(fetchers) = &self.fetchers {
            fetchers.leave(partition);
        }
        partition.retire();
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
            Ok(log) => {
                let partition = Partition::new(PartitionParts {
                    topic_partition,
                    topic_id: topic.id,
                    log,
                    shared: self.shared.clone(),
                    settings: PartitionSettings::of(config, 1),
                });
                if self.logs.future(partition.topic_partition()).is_some() {
                    self.moves.add(&partition);
                }
                Some(partition)
            }
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

    fn throttle(&self, partition: &Partition, overrides: &Overrides) {
        let number = partition.topic_partition().partition;
        let is_named = |key| throttle::names(overrides.get(key), number, self.broker_id);
        partition
            .throttle(is_named(throttle::LEADER_REPLICAS), is_named(throttle::FOLLOWER_REPLICAS));
    }

    fn retire_topic(&self, name: &str) {
        if let Some((_, (_, handles))) = self.topics.remove(name) {
            handles.iter().flatten().for_each(|partition| self.retire(partition));
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
