//! Stories of shards on real logs. The machine counts: each record adds one to its key's count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_common::clock::{Clock, ManualTime};
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, Uuid, Zxid};

use super::*;
use crate::config::topic::TopicConfig;
use crate::metadata::image::{BrokerImage, Delta, MetadataImage, PartitionImage, TopicImage};
use crate::metadata::watcher::{ImagePublisher, image_channel};
use crate::replication::replica_manager::{ReplicaManager, ReplicaManagerParts};
use crate::replication::throttle::Throttles;
use crate::storage::log_manager::{LogManager, LogManagerConfig};

#[test]
fn groups_belong_to_the_partitions_that_kafka_gives_them() {
    assert_eq!(java_hash("group"), 98_629_247);
    assert_eq!(partition_for("group", 50), 47);
    // A text whose hash is the smallest number, which has no absolute value.
    assert_eq!(java_hash("polygenelubricants"), i32::MIN);
    assert_eq!(partition_for("polygenelubricants", 50), 0);
    assert_eq!(java_hash("😀"), 1_772_899);
}

#[derive(Default)]
struct Counts {
    counts: BTreeMap<Bytes, u64>,
    waiting: Vec<(Ticket, Bytes)>,
    changed_topics: Vec<Arc<str>>,
    deleted_topics: usize,
}

impl Counts {
    fn count(&self, key: &'static str) -> u64 {
        self.counts.get(key.as_bytes()).copied().unwrap_or(0)
    }
}

fn counted(key: &'static str) -> Record {
    Record { key: Bytes::from_static(key.as_bytes()), value: Some(Bytes::from_static(b"+1")) }
}

impl StateMachine for Counts {
    type Timer = &'static str;
    type Answer = u64;

    fn replay(&mut self, record: &Record, _place: Place) {
        *self.counts.entry(record.key.clone()).or_default() += 1;
    }

    fn replay_end_of_transaction(&mut self, _producer: Producer, _is_committed: bool) {}

    fn loaded(&mut self, turn: &mut Turn<Self>) {
        turn.set_timer_in("tick", 100);
    }

    fn due(&mut self, timer: &'static str, turn: &mut Turn<Self>) {
        turn.record(counted(timer));
        for (ticket, key) in self.waiting.drain(..) {
            turn.answer(ticket, self.counts.get(&key).copied().unwrap_or(0));
        }
    }

    fn topics_changed(&mut self, changes: &TopicChanges, _turn: &mut Turn<Self>) {
        self.changed_topics.extend(changes.changed.iter().cloned());
        self.deleted_topics += changes.deleted.len();
    }
}

const BROKER: BrokerId = BrokerId(1);

struct World {
    folder: tempfile::TempDir,
    replicas: Arc<ReplicaManager>,
    publisher: ImagePublisher,
    image: MetadataImage,
    time: Arc<ManualTime>,
    runtime: Arc<Runtime<Counts>>,
    shutdown: Shutdown,
}

fn settings() -> RuntimeSettings {
    RuntimeSettings {
        topic: CONSUMER_OFFSETS,
        commit_timeout: Duration::from_secs(5),
        load_buffer_size: 64,
        compression: Compression::None,
    }
}

impl World {
    fn in_folder(folder: tempfile::TempDir) -> Self {
        let config = LogManagerConfig::new(vec![folder.path().to_owned()], BROKER);
        let logs = LogManager::open(config, 0).unwrap();
        let (publisher, handle) = image_channel();
        let source = Arc::new(|_: &MetadataImage, _: &str| TopicConfig::default());
        let replicas = ReplicaManager::new(ReplicaManagerParts {
            broker_id: BROKER,
            logs,
            image: handle.clone(),
            topic_config: source,
            lease: Arc::new(|_| true),
            fetchers: None,
            move_rate: Arc::new(|| u64::MAX),
            throttles: Throttles::none(),
        });
        let time = Arc::new(ManualTime::new(0, 1_000));
        let clock = Clock::manual(time.clone());
        let parts = (handle, replicas.clone());
        let runtime = Runtime::new(settings(), parts, clock, |_| Counts::default());
        let mut image = MetadataImage { cluster_id: Some("c".into()), ..MetadataImage::default() };
        image.brokers.insert(BROKER, BrokerImage::registered(BROKER));
        let shutdown = Shutdown::new();
        shutdown.spawn(runtime.clone().run(shutdown.clone()));
        Self { folder, replicas, publisher, image, time, runtime, shutdown }
    }

    /// Shows an image in which partition 0 is led so.
    fn lead(&mut self, leader: BrokerId, leader_epoch: i32) {
        let partition = PartitionImage {
            replicas: vec![BROKER],
            isr: vec![BROKER],
            leader: Some(leader),
            leader_epoch,
            state_mzxid: Zxid(2000),
            ..PartitionImage::default()
        };
        let name: Arc<str> = CONSUMER_OFFSETS.into();
        let topic = TopicImage {
            name: name.clone(),
            id: Uuid([7; 16]),
            partitions: vec![partition],
            node_version: 0,
        };
        self.image.topics.insert(name, Arc::new(topic));
        self.publish();
    }

    fn publish(&mut self) {
        self.image.zxid = Zxid(self.image.zxid.0 + 1);
        let topics = self.image.topics.keys().cloned().collect();
        self.replicas.apply(&self.image, &Delta { topics, ..Delta::default() });
        self.publisher.publish(Arc::new(self.image.clone()));
    }

    /// Waits until the shard gives this instead of a reply; `None` is a reply.
    async fn until(&self, expected: Option<ErrorCode>) {
        loop {
            if self.runtime.read(0, |_| ()).err() == expected {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn count(&self, key: &'static str) -> u64 {
        let read = self.runtime.read(0, |counts| counts.count(key));
        read.unwrap().wait().await.unwrap()
    }

    async fn add(&self, key: &'static str) -> Result<(), ErrorCode> {
        self.runtime.write(0, |_, turn| turn.record(counted(key)))?.wait().await
    }

    async fn stop(self) -> tempfile::TempDir {
        assert!(self.shutdown.finish(Duration::from_secs(30)).await);
        let logs = self.replicas.logs().clone();
        tokio::task::spawn_blocking(move || logs.close(1)).await.unwrap();
        self.folder
    }
}

#[tokio::test]
async fn what_was_replied_is_there_after_a_restart() {
    let mut world = World::in_folder(tempfile::tempdir().unwrap());
    assert_eq!(world.add("a").await, Err(ErrorCode::NotCoordinator), "there is no topic yet");
    world.lead(BROKER, 0);
    world.until(None).await;
    for key in ["a", "b", "a"] {
        world.add(key).await.unwrap();
    }
    assert_eq!((world.count("a").await, world.count("b").await), (2, 1));
    let mut world = World::in_folder(world.stop().await);
    world.lead(BROKER, 0);
    world.until(None).await;
    assert_eq!((world.count("a").await, world.count("b").await), (2, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_lost_leadership_closes_the_shard_and_a_new_one_loads_it_again() {
    let mut world = World::in_folder(tempfile::tempdir().unwrap());
    world.lead(BROKER, 0);
    world.until(None).await;
    world.add("a").await.unwrap();
    let waits = world.runtime.ask(0, |counts, ticket, _| {
        counts.waiting.push((ticket, Bytes::from_static(b"a")));
    });
    world.lead(BrokerId(2), 1);
    world.until(Some(ErrorCode::NotCoordinator)).await;
    assert_eq!(waits.unwrap().wait().await, Err(ErrorCode::NotCoordinator));
    // Led, lost and led again, of which the runtime may have seen the end alone.
    world.lead(BROKER, 2);
    world.lead(BrokerId(2), 3);
    world.lead(BROKER, 4);
    world.until(None).await;
    assert_eq!(world.count("a").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn timers_fire_and_answer_who_waits() {
    let mut world = World::in_folder(tempfile::tempdir().unwrap());
    world.lead(BROKER, 0);
    world.until(None).await;
    world.add("a").await.unwrap();
    let waits = world.runtime.ask(0, |counts, ticket, turn| {
        counts.waiting.push((ticket, Bytes::from_static(b"a")));
        turn.set_timer_in("tick", 0);
    });
    assert_eq!(waits.unwrap().wait().await, Ok(1));
    assert_eq!(world.count("tick").await, 1);
    // Set again, to a time that comes when the clock says so.
    world.time.advance(1_000);
    world.runtime.write(0, |_, turn| turn.set_timer("tick", 900)).unwrap().wait().await.unwrap();
    while world.count("tick").await < 2 {
        tokio::task::yield_now().await;
    }
    world.stop().await;
}

#[tokio::test]
async fn machines_are_told_of_topics_that_are_gone() {
    let mut world = World::in_folder(tempfile::tempdir().unwrap());
    world.lead(BROKER, 0);
    world.until(None).await;
    let name: Arc<str> = "orders".into();
    let topic = TopicImage {
        name: name.clone(),
        id: Uuid([9; 16]),
        partitions: Vec::new(),
        node_version: 0,
    };
    world.image.topics.insert(name.clone(), Arc::new(topic));
    world.publish();
    // The runtime may pass over images that are replaced at once, so let it see this one.
    let has_seen = |counts: &Counts| counts.changed_topics.contains(&name);
    while world.runtime.read(0, has_seen).unwrap().wait().await != Ok(true) {
        tokio::task::yield_now().await;
    }
    world.image.topics.remove(&name);
    world.publish();
    while world.runtime.read(0, |counts| counts.deleted_topics).unwrap().wait().await != Ok(1) {
        tokio::task::yield_now().await;
    }
    world.stop().await;
}
