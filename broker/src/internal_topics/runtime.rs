//! All shards of one internal topic: follows who leads, loads, fires timers, and hands requests to
//! the shard that they belong to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::clock::Clock;
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::records::BatchOptions;
use ottla_common::shutdown::Shutdown;
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tracing::{error, info};

use super::loader::{LoadError, load};
use super::machine::{Now, StateMachine, Ticket, TopicChanges, Turn};
use super::shard::{Committing, Shard, Surroundings, Waiting};
use crate::metadata::image::MetadataImage;
use crate::metadata::watcher::ImageHandle;
use crate::replication::replica_manager::ReplicaManager;

/// A load that failed is tried again after this long.
const LOAD_RETRY: Duration = Duration::from_secs(1);

/// Loads at a time: each reads a partition from one end to the other.
const LOADS_MAX: usize = 4;

/// How a topic's shards work.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// The topic.
    pub topic: &'static str,
    /// How long a reply waits for its records to be committed.
    pub commit_timeout: Duration,
    /// Bytes read at a time while loading.
    pub load_buffer_size: usize,
    /// The codec of the batches.
    pub compression: Compression,
}

/// All shards of one internal topic on this broker.
pub struct Runtime<M: StateMachine> {
    settings: RuntimeSettings,
    image: ImageHandle,
    replicas: Arc<ReplicaManager>,
    clock: Clock,
    new_machine: Box<dyn Fn(i32) -> M + Send + Sync>,
    shards: RwLock<BTreeMap<i32, Arc<Shard<M>>>>,
    loads: Semaphore,
}

impl<M: StateMachine> Runtime<M> {
    /// A runtime without shards; [`Runtime::run`] brings them.
    pub fn new(
        settings: RuntimeSettings,
        (image, replicas): (ImageHandle, Arc<ReplicaManager>),
        clock: Clock,
        new_machine: impl Fn(i32) -> M + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            image,
            replicas,
            clock,
            new_machine: Box::new(new_machine),
            shards: RwLock::default(),
            loads: Semaphore::new(LOADS_MAX),
        })
    }

    /// Lets the shard of a partition decide. Decision and order are final when this returns; the
    /// reply waits for the commit.
    ///
    /// # Errors
    /// NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, or what the append says.
    pub fn write<T>(
        &self,
        partition: i32,
        decide: impl FnOnce(&mut M, &mut Turn<M>) -> T,
    ) -> Result<Committing<T>, ErrorCode> {
        self.shard(partition)?.turn(&self.surroundings(), decide)
    }

    /// As [`Runtime::write`], for a request that the machine may answer in a later turn.
    ///
    /// # Errors
    /// As for [`Runtime::write`]; then the request has no effect on what is stored.
    pub fn ask(
        &self,
        partition: i32,
        decide: impl FnOnce(&mut M, Ticket, &mut Turn<M>),
    ) -> Result<Waiting<M::Answer>, ErrorCode> {
        self.shard(partition)?.ask(&self.surroundings(), decide)
    }

    /// Looks at the shard of a partition.
    ///
    /// # Errors
    /// NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS.
    pub fn read<T>(
        &self,
        partition: i32,
        look: impl FnOnce(&M) -> T,
    ) -> Result<Committing<T>, ErrorCode> {
        self.shard(partition)?.read(self.settings.commit_timeout, look)
    }

    /// The partitions that have a shard here, being loaded or serving.
    pub fn partitions(&self) -> Vec<i32> {
        self.shards.read().keys().copied().collect()
    }

    /// How many partitions the topic has; `None` if it is not there.
    pub fn partition_count(&self) -> Option<i32> {
        let image = self.image.load();
        let count = image.topic(self.settings.topic)?.partitions.len();
        i32::try_from(count).ok()
    }

    /// The time, as turns see it.
    pub fn now(&self) -> Now {
        let (monotonic_ms, wall_time_ms) = (self.clock.monotonic_ms(), self.clock.wall_time_ms());
        Now { monotonic_ms, wall_time_ms }
    }

    fn shard(&self, partition: i32) -> Result<Arc<Shard<M>>, ErrorCode> {
        if let Some(shard) = self.shards.read().get(&partition) {
            return Ok(shard.clone());
        }
        // A leadership so new that its shard is still to be made.
        let found = self.replicas.partition(self.settings.topic, partition);
        match found.is_ok_and(|partition| partition.is_leader()) {
            true => Err(ErrorCode::CoordinatorLoadInProgress),
            false => Err(ErrorCode::NotCoordinator),
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            now: self.now(),
            image: self.image.load(),
            batch: BatchOptions {
                compression: self.settings.compression,
                ..BatchOptions::default()
            },
            commit_timeout: self.settings.commit_timeout,
        }
    }

    /// Keeps the shards what the images say, until the signal is given.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut changed = self.image.changed();
        let mut seen = Arc::new(MetadataImage::default());
        loop {
            let image = self.image.load();
            let changes = topic_changes(&seen, &image);
            seen = image;
            self.follow_leadership(&seen, &shutdown);
            if !changes.is_empty() {
                self.tell_topics_changed(&changes);
            }
            tokio::select! {
                () = shutdown.stopped() => break,
                more = changed.changed() => if more.is_err() { break },
            }
        }
        let shards = std::mem::take(&mut *self.shards.write());
        shards.values().for_each(|shard| shard.close());
    }

    fn follow_leadership(self: &Arc<Self>, image: &MetadataImage, shutdown: &Shutdown) {
        let topic = image.topic(self.settings.topic);
        let count = topic.map_or(0, |topic| topic.partitions.len());
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let mut shards = self.shards.write();
        shards.retain(|number, shard| {
            let is_held = *number < count && shard.is_current() && {
                let found = self.replicas.partition(self.settings.topic, *number);
                found.is_ok_and(|found| Arc::ptr_eq(&found, &shard.partition))
            };
            if !is_held {
                info!(partition = %shard.partition.topic_partition(), "shard closed");
                shard.close();
            }
            is_held
        });
        for number in 0..count {
            if shards.contains_key(&number) {
                continue;
            }
            let Ok(partition) = self.replicas.partition(self.settings.topic, number) else {
                continue;
            };
            let Some(leader_epoch) = partition.leadership() else { continue };
            let shard = Arc::new(Shard::new(partition, leader_epoch));
            shards.insert(number, shard.clone());
            shutdown.spawn(self.clone().serve(number, shard, shutdown.clone()));
        }
    }

    fn tell_topics_changed(&self, changes: &TopicChanges) {
        let shards: Vec<_> = self.shards.read().values().cloned().collect();
        for shard in shards {
            // A shard that is being loaded will see the newest image when it is ready.
            let told = shard.turn(&self.surroundings(), |machine, turn| {
                machine.topics_changed(changes, turn);
            });
            let is_lost = told.is_err() && shard.is_active();
            if is_lost {
                let partition = shard.partition.topic_partition();
                error!(%partition, "a shard could not record a change of topics");
            }
        }
    }

    /// Loads a shard, then fires its timers until it is closed.
    async fn serve(self: Arc<Self>, number: i32, shard: Arc<Shard<M>>, shutdown: Shutdown) {
        while !self.load(number, &shard).await {
            tokio::select! {
                () = shutdown.stopped() => return,
                () = tokio::time::sleep(LOAD_RETRY) => {}
            }
        }
        while let Some(deadline_ms) = shard.next_deadline() {
            let now_ms = self.clock.monotonic_ms();
            if deadline_ms <= now_ms {
                while shard.fire_due(&self.surroundings()) {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            let delay = Duration::from_millis(deadline_ms - now_ms);
            tokio::select! {
                () = shutdown.stopped() => return,
                () = shard.changed.notified() => {}
                // The far future overflows no deadline of tokio's: it counts in years then.
                () = tokio::time::sleep(delay.min(Duration::from_secs(3600))) => {}
            }
        }
    }

    /// Loads a shard. Returns whether that is done, or not wanted any more.
    async fn load(self: &Arc<Self>, number: i32, shard: &Arc<Shard<M>>) -> bool {
        let Ok(_turn) = self.loads.acquire().await else { return true };
        let began_ms = self.clock.monotonic_ms();
        let (runtime, loading) = (self.clone(), shard.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let mut machine = (runtime.new_machine)(number);
            let is_wanted = || !loading.is_closed();
            let read_size = runtime.settings.load_buffer_size;
            let loaded = load(&mut machine, &loading.partition.log(), read_size, is_wanted)?;
            loading.activate(machine, loaded.end_offset, &runtime.surroundings());
            Ok::<_, LoadError>(loaded)
        });
        let partition = shard.partition.topic_partition();
        match loaded.await {
            Ok(Ok(loaded)) => {
                let took_ms = self.clock.monotonic_ms().saturating_sub(began_ms);
                let (records, end_offset) = (loaded.records, loaded.end_offset);
                tracing::debug!(%partition, records, end_offset, took_ms, "shard loaded");
                true
            }
            Ok(Err(LoadError::GivenUp)) => true,
            Ok(Err(error)) => {
                error!(%partition, %error, "a shard cannot be loaded; trying again");
                shard.is_closed()
            }
            Err(error) => {
                error!(%partition, %error, "loading a shard failed; trying again");
                shard.is_closed()
            }
        }
    }
}

/// What differs in topics between two images.
fn topic_changes(old: &MetadataImage, new: &MetadataImage) -> TopicChanges {
    let mut changes = TopicChanges::default();
    for (name, topic) in &new.topics {
        match old.topics.get(name) {
            Some(before) if Arc::ptr_eq(before, topic) || before == topic => continue,
            Some(before) if before.id != topic.id => {
                changes.deleted.push((name.clone(), before.id));
            }
            _ => {}
        }
        changes.changed.push(name.clone());
    }
    for (name, topic) in &old.topics {
        if !new.topics.contains_key(name) {
            changes.deleted.push((name.clone(), topic.id));
        }
    }
    changes
}
