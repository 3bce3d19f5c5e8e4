//! Where records wait: for each partition a batch that grows, and full ones behind which the sender
//! comes. Shared by those who send and the sender task; every lock is short.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use super::delivery::{BatchCell, Delivery, SettledOnDrop, WhenSettled};
use super::{ProducerOptions, ProducerRecord};
use crate::kafka::client::ClientError;
use crate::kafka::cluster::TopicMetadata;
use crate::kafka::partitioner::{StickyPartition, partition_for_key};
use crate::kafka::records::{BatchBuilder, BatchOptions};

/// The room that a new batch begins with; it grows by doubling.
const BATCH_CAPACITY: usize = 16 << 10;

/// All records that the sender has not taken yet.
pub(super) struct Accumulator {
    pub options: ProducerOptions,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicQueues>>>,
    /// One permit for each byte of `buffer_bytes`.
    memory: Semaphore,
    /// How many wait for memory; then batches are sent without lingering.
    waiting_for_memory: AtomicUsize,
    /// How many wait for all to be sent, likewise.
    flushing: AtomicUsize,
    /// Queues that the sender shall look at from now on.
    listed: mpsc::UnboundedSender<Arc<PartitionQueue>>,
    /// Tells the sender that a batch is full, or that lingering is over.
    pub wake: Notify,
    /// What made the producer fail for good.
    failure: OnceLock<ClientError>,
}

/// Why a record was not appended.
pub(super) enum Blocked {
    /// The topic is not known yet.
    Topic,
    /// So many bytes of memory are not free.
    Memory(u32),
    /// It never will be.
    Failed(ClientError),
}

/// The queues of a topic.
struct TopicQueues {
    routes: ArcSwap<Routes>,
    sticky: Mutex<StickyPartition>,
}

struct Routes {
    topic: Arc<TopicMetadata>,
    /// By partition.
    queues: Vec<Arc<PartitionQueue>>,
    /// The partitions with a leader; all, if none has one.
    available: Vec<i32>,
}

/// The batches of one partition.
pub(super) struct PartitionQueue {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The sender's number for it, once it has one.
    pub number: OnceLock<usize>,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    open: Option<Batch>,
    full: VecDeque<Batch>,
    /// All batches that are not settled, those in flight included.
    unsettled: VecDeque<Arc<BatchCell>>,
    /// Whether the sender looks at this queue.
    listed: bool,
}

/// Records that go together.
pub(super) struct Batch {
    pub builder: BatchBuilder,
    pub cell: SettledOnDrop,
    pub created: Instant,
    /// Bytes of the producer's memory that it holds.
    pub reserved: usize,
}

impl Accumulator {
    pub fn new(options: ProducerOptions) -> (Self, mpsc::UnboundedReceiver<Arc<PartitionQueue>>) {
        // Bounded by the number of partitions: each is in it at most once.
        let (listed, receiver) = mpsc::unbounded_channel();
        let accumulator = Self {
            memory: Semaphore::new(options.buffer_bytes),
            options,
            topics: RwLock::default(),
            waiting_for_memory: AtomicUsize::new(0),
            flushing: AtomicUsize::new(0),
            listed,
            wake: Notify::new(),
            failure: OnceLock::new(),
        };
        (accumulator, receiver)
    }

    /// Appends a record to its partition's batch.
    pub fn append(
        &self,
        record: &ProducerRecord<'_>,
        timestamp_ms: i64,
    ) -> Result<Delivery, Blocked> {
        if let Some(failure) = self.failure.get() {
            return Err(Blocked::Failed(failure.clone()));
        }
        let size = BatchBuilder::record_size_max(record.key, record.value, record.headers);
        let max = self.options.request_bytes_max;
        if size > max {
            return Err(Blocked::Failed(ClientError::RecordTooLarge { size, max }));
        }
        let permits = u32::try_from(size).map_err(|_| Blocked::Topic)?;
        let queue = self.queue(record, size)?;
        let memory = self.memory.try_acquire_many(permits).map_err(|_| Blocked::Memory(permits))?;
        let delivery = self.append_to(&queue, record, (timestamp_ms, size))?;
        memory.forget();
        Ok(delivery)
    }

    /// The queue of the partition that a record goes to.
    fn queue(
        &self,
        record: &ProducerRecord<'_>,
        size: usize,
    ) -> Result<Arc<PartitionQueue>, Blocked> {
        let topics = self.topics.read();
        let topic = topics.get(record.topic).ok_or(Blocked::Topic)?;
        let routes = topic.routes.load();
        let count = routes.topic.partitions_count();
        let partition = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => {
                let mut sticky = topic.sticky.lock();
                let batch_bytes = self.options.batch_bytes;
                let next = sticky.next(&routes.available, size, batch_bytes, || fastrand::u64(..));
                next.ok_or(Blocked::Topic)?
            }
        };
        let queue = usize::try_from(partition).ok().and_then(|index| routes.queues.get(index));
        queue.map(Arc::clone).ok_or_else(|| {
            Blocked::Failed(ClientError::UnknownPartition {
                topic: record.topic.to_owned(),
                partition,
                count: routes.queues.len(),
            })
        })
    }

    fn append_to(
        &self,
        queue: &Arc<PartitionQueue>,
        record: &ProducerRecord<'_>,
        (timestamp_ms, size): (i64, usize),
    ) -> Result<Delivery, Blocked> {
        let mut state = queue.state.lock();
        // Looked at again under the lock: whoever sets it clears the queue after that.
        if let Some(failure) = self.failure.get() {
            return Err(Blocked::Failed(failure.clone()));
        }
        let full = |open: &mut Batch| {
            open.builder.estimated_size().saturating_add(size) > self.options.batch_bytes
        };
        if let Some(open) = state.open.take_if(full) {
            state.full.push_back(open);
            self.wake.notify_one();
        }
        if state.open.is_none() {
            let batch = self.new_batch(size);
            state.unsettled.push_back(Arc::clone(&batch.cell.0));
            state.open = Some(batch);
            if !state.listed {
                // If the sender is gone, the producer is closed.
                let listed = self.listed.send(Arc::clone(queue));
                listed.map_err(|_| Blocked::Failed(ClientError::Closed))?;
                state.listed = true;
            }
        }
        let Some(open) = &mut state.open else {
            return Err(Blocked::Topic);
        };
        let appended = open.builder.append(timestamp_ms, record.key, record.value, record.headers);
        let index = appended.map_err(|error| {
            let error = ClientError::invalid_batch(&queue.topic, queue.partition, &error);
            Blocked::Failed(error)
        })?;
        open.reserved += size;
        let cell = Arc::clone(&open.cell.0);
        Ok(Delivery { cell, slot: None, partition: queue.partition, index, timestamp_ms })
    }

    fn new_batch(&self, first_record: usize) -> Batch {
        let options = BatchOptions {
            compression: self.options.compression,
            compression_level: self.options.compression_level,
            ..BatchOptions::default()
        };
        let capacity = self.options.batch_bytes.min(BATCH_CAPACITY).max(first_record + 64);
        Batch {
            builder: BatchBuilder::with_capacity(options, capacity),
            cell: SettledOnDrop::default(),
            created: Instant::now(),
            reserved: 0,
        }
    }

    /// Makes queues for a topic, or more of them if it has grown, and follows its leaders.
    pub fn put_topic(&self, topic: Arc<TopicMetadata>) {
        let mut topics = self.topics.write();
        let known = topics.get(&topic.name);
        let mut queues = known.map_or_else(Vec::new, |known| known.routes.load().queues.clone());
        for partition in 0..topic.partitions_count() {
            if usize::try_from(partition).is_ok_and(|index| index >= queues.len()) {
                queues.push(Arc::new(PartitionQueue {
                    topic: Arc::clone(&topic.name),
                    partition,
                    number: OnceLock::new(),
                    state: Mutex::default(),
                }));
            }
        }
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
        let mut available: Vec<i32> = led.map(|partition| partition.partition).collect();
        if available.is_empty() {
            available = (0..topic.partitions_count()).collect();
        }
        let routes = Arc::new(Routes { topic: Arc::clone(&topic), queues, available });
        match known {
            Some(known) => known.routes.store(routes),
            None => {
                let queues = TopicQueues { routes: ArcSwap::new(routes), sticky: Mutex::default() };
                topics.insert(Arc::clone(&topic.name), Arc::new(queues));
            }
        }
    }

    /// The topics that were sent to.
    pub fn topics(&self) -> Vec<Arc<str>> {
        self.topics.read().keys().map(Arc::clone).collect()
    }

    /// Waits until so many bytes are free. They may be taken again by the time it is asked for
    /// them.
    pub async fn wait_for_memory(&self, bytes: u32) {
        let _waiting = Count::new(&self.waiting_for_memory);
        self.wake.notify_one();
        // The semaphore is never closed.
        drop(self.memory.acquire_many(bytes).await);
    }

    /// Gives memory back.
    pub fn release(&self, bytes: usize) {
        self.memory.add_permits(bytes);
    }

    /// Whether batches are to be sent without waiting for more records.
    pub fn must_hurry(&self) -> bool {
        self.flushing.load(Ordering::Acquire) > 0
            || self.waiting_for_memory.load(Ordering::Acquire) > 0
    }

    /// Waits until all batches that there are now are settled.
    pub async fn flush(&self) {
        let _flushing = Count::new(&self.flushing);
        let topics: Vec<_> = self.topics.read().values().map(Arc::clone).collect();
        let mut cells = Vec::new();
        for topic in topics {
            for queue in &topic.routes.load().queues {
                cells.extend(queue.state.lock().unsettled.iter().map(Arc::clone));
            }
        }
        self.wake.notify_one();
        for cell in cells {
            // Who sent the records is told what became of them.
            let _ = WhenSettled::new(cell).await;
        }
    }

    /// Makes all fail that is sent from now on, and all that the sender has not taken yet.
    pub fn fail(&self, error: &ClientError) {
        let _ = self.failure.set(error.clone());
        for topic in self.topics.read().values() {
            for queue in &topic.routes.load().queues {
                let mut state = queue.state.lock();
                let QueueState { open, full, .. } = &mut *state;
                for batch in full.drain(..).chain(open.take()) {
                    batch.cell.settle(Err(error.clone()));
                    self.release(batch.reserved);
                }
            }
        }
    }
}

impl PartitionQueue {
    /// Takes the next batch that is to be sent: a full one, or the growing one if `open_too`.
    pub fn take(&self, open_too: impl FnOnce(&Batch) -> bool) -> Option<Batch> {
        let mut state = self.state.lock();
        if let Some(batch) = state.full.pop_front() {
            return Some(batch);
        }
        if state.open.as_ref().is_some_and(open_too) { state.open.take() } else { None }
    }

    /// When the oldest batch was begun, and whether it is full. `None` if there is none.
    pub fn oldest(&self) -> Option<(Instant, bool)> {
        self.state.lock().oldest()
    }

    /// Likewise, but a queue without batches is taken off the sender's list: the next record puts
    /// it there again. Both at once, else a record that came in between would wait for ever, on the
    /// list and not seen.
    pub fn oldest_or_unlist(&self) -> Option<(Instant, bool)> {
        let mut state = self.state.lock();
        let oldest = state.oldest();
        state.listed = oldest.is_some();
        oldest
    }

    /// Forgets the oldest cells as far as they are settled.
    pub fn forget_settled(&self) {
        let mut state = self.state.lock();
        while state.unsettled.front().is_some_and(|cell| cell.is_settled()) {
            state.unsettled.pop_front();
        }
    }
}

impl QueueState {
    fn oldest(&self) -> Option<(Instant, bool)> {
        match self.full.front() {
            Some(full) => Some((full.created, true)),
            None => self.open.as_ref().map(|open| (open.created, false)),
        }
    }
}

/// Counts itself as long as it lives.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        Self(counter)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::cluster::PartitionMetadata;
    use crate::types::TopicId;

    /// A sender that sees only what is on its list, beside somebody who sends one record after the
    /// other: none is overlooked.
    #[test]
    fn a_record_that_comes_while_its_queue_leaves_the_list_is_seen() {
        const RECORDS: usize = 100_000;
        let (accumulator, mut listed) = Accumulator::new(ProducerOptions::default());
        let partition = PartitionMetadata {
            partition: 0,
            leader: None,
            leader_epoch: -1,
            replicas: Vec::new(),
            in_sync_replicas: Vec::new(),
            offline_replicas: Vec::new(),
        };
        accumulator.put_topic(Arc::new(TopicMetadata {
            name: "t".into(),
            id: TopicId::ZERO,
            is_internal: false,
            partitions: vec![partition],
        }));
        let record = ProducerRecord {
            topic: "t",
            partition: Some(0),
            value: Some(b"value"),
            ..ProducerRecord::default()
        };
        let mut seen = 0;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                for _ in 0..RECORDS {
                    assert!(accumulator.append(&record, 0).is_ok());
                }
            });
            loop {
                // Looked at before the list: what is not on it then never will be.
                let is_over = sending.is_finished();
                let Ok(queue) = listed.try_recv() else {
                    if is_over {
                        break;
                    }
                    continue;
                };
                while queue.oldest_or_unlist().is_some() {
                    let batch = queue.take(|_| true).unwrap();
                    seen += usize::try_from(batch.builder.records_count()).unwrap();
                    accumulator.release(batch.reserved);
                }
            }
        });
        assert_eq!(seen, RECORDS);
    }
}
