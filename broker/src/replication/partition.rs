//! One partition of this broker: who leads it, appends to it, reads from it, and how far it is
//! committed.
//!
//! The order of effects is fixed by the log's own lock: when [`Partition::append`] returns, the
//! records have their offsets. What may change meanwhile is the role; an append holds the role's
//! lock for reading, so that a leader that is deposed has either finished an append or not begun
//! it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use ottla_common::clock::wall_time_ms;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::wire::{FileRegion, Records};
use ottla_common::types::{BrokerId, TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::high_watermark::{HighWatermark, ReplicaEnds};
use super::settings::{Durability, PartitionSettings};
use super::waiting::{FetchWaiter, Waiters};
use crate::limits::UNFLUSHED_SIZE_MAX;
use crate::metadata::image::PartitionImage;
use crate::storage::error::StorageError;
use crate::storage::log::{AppendOrigin, LeaderAppend, Log, ProducerDescription};
use crate::storage::log_manager::LogManager;
use crate::storage::log_reader::{LogReadError, LogReadRequest};

pub use super::outcome::{
    AppendRefused, AppendRequest, Appended, DivergingEpoch, FoundOffset, Isolation, PartitionRead,
    ReadRefused, ReadRequest,
};

/// `acks` of a produce that waits for all in-sync replicas.
pub const ACKS_ALL: i16 = -1;

/// A partition whose replica is on this broker.
pub struct Partition {
    topic_partition: TopicPartition,
    topic_id: TopicId,
    log: Arc<Log>,
    logs: Arc<LogManager>,
    role: RwLock<Role>,
    settings: ArcSwap<PartitionSettings>,
    waiters: Arc<Waiters>,
    /// Bytes appended since the disk was last asked to take them.
    unflushed_size: AtomicUsize,
}

#[derive(Debug)]
enum Role {
    Leader { leader_epoch: i32, isr: Vec<BrokerId>, watermark: Mutex<HighWatermark> },
    NotLeader { leader_epoch: i32 },
}

impl Role {
    fn leader_epoch(&self) -> i32 {
        match self {
            Self::Leader { leader_epoch, .. } | Self::NotLeader { leader_epoch } => *leader_epoch,
        }
    }
}

/// What a partition is made from.
pub struct PartitionParts {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Its topic's identity.
    pub topic_id: TopicId,
    /// Its log.
    pub log: Arc<Log>,
    /// The owner of the log.
    pub logs: Arc<LogManager>,
    /// How it commits.
    pub settings: PartitionSettings,
}

impl Partition {
    /// A partition that nobody leads yet.
    pub fn new(parts: PartitionParts) -> Arc<Self> {
        let PartitionParts { topic_partition, topic_id, log, logs, settings } = parts;
        let partition = Arc::new(Self {
            topic_partition,
            topic_id,
            log: log.clone(),
            logs,
            role: RwLock::new(Role::NotLeader { leader_epoch: -1 }),
            settings: ArcSwap::from_pointee(settings),
            waiters: Arc::default(),
            unflushed_size: AtomicUsize::new(0),
        });
        let listener: Weak<Self> = Arc::downgrade(&partition);
        log.on_flush(Arc::new(move |flushed_offset| {
            if let Some(partition) = listener.upgrade() {
                partition.flushed(flushed_offset);
            }
        }));
        partition
    }

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// Its topic's identity.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Its log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The epoch of the leader that this broker knows.
    pub fn leader_epoch(&self) -> i32 {
        self.role.read().leader_epoch()
    }

    /// Whether this broker leads it.
    pub fn is_leader(&self) -> bool {
        matches!(&*self.role.read(), Role::Leader { .. })
    }

    /// Takes over new settings, from the next append on.
    pub fn configure(&self, settings: PartitionSettings) {
        self.settings.store(Arc::new(settings));
        self.advance(self.committable_end());
    }

    /// Takes the role that the image says. An image that is older than what this partition knows
    /// changes nothing; an ISR change of the same leader epoch keeps the leadership as it is.
    pub fn apply(&self, state: &PartitionImage, broker_id: BrokerId) -> Result<(), StorageError> {
        let mut role = self.role.write();
        if state.leader_epoch < role.leader_epoch() {
            return Ok(());
        }
        if state.leader != Some(broker_id) {
            let was_leader = matches!(*role, Role::Leader { .. });
            *role = Role::NotLeader { leader_epoch: state.leader_epoch };
            drop(role);
            if was_leader {
                self.waiters.fail(ErrorCode::NotLeaderOrFollower);
            }
            return Ok(());
        }
        let is_same_leadership = state.leader_epoch == role.leader_epoch();
        if let Role::Leader { isr, .. } = &mut *role
            && is_same_leadership
        {
            isr.clone_from(&state.isr);
        } else {
            self.log.assign_leader_epoch(state.leader_epoch)?;
            let watermark = Mutex::new(HighWatermark::new(self.log.high_watermark()));
            let (leader_epoch, isr) = (state.leader_epoch, state.isr.clone());
            *role = Role::Leader { leader_epoch, isr, watermark };
        }
        drop(role);
        self.advance(self.committable_end());
        self.logs.flusher().request(&self.log);
        Ok(())
    }

    /// Takes the partition out of service: everyone who waits is told to look elsewhere.
    pub fn retire(&self) {
        let mut role = self.role.write();
        *role = Role::NotLeader { leader_epoch: role.leader_epoch() };
        drop(role);
        self.waiters.fail(ErrorCode::NotLeaderOrFollower);
    }

    /// The partition's disk has failed: everyone who waits is told so.
    pub fn disk_failed(&self) {
        self.waiters.fail(ErrorCode::KafkaStorageError);
    }

    /// Checks the leader epoch that a client believes in (KIP-320); -1 is not checked.
    pub fn check_leader_epoch(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        let known = self.leader_epoch();
        match current_leader_epoch {
            ..0 => Ok(()),
            epoch if epoch < known => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > known => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The leader epoch in which this broker leads it, if it does.
    pub fn leadership(&self) -> Option<i32> {
        match &*self.role.read() {
            Role::Leader { leader_epoch, .. } => Some(*leader_epoch),
            Role::NotLeader { .. } => None,
        }
    }

    fn check_leads(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        self.check_leader_epoch(current_leader_epoch)?;
        if self.is_leader() { Ok(()) } else { Err(ErrorCode::NotLeaderOrFollower) }
    }

    /// Appends records as the leader. Their order is fixed when it returns;
    /// [`Partition::committed`] tells when they are safe.
    pub fn append(&self, request: AppendRequest) -> Result<Appended, AppendRefused> {
        self.append_from(AppendOrigin::Client, None, request)
    }

    /// Appends this broker's own records, to be committed by all in-sync replicas, if it still
    /// leads in `expected_leader_epoch`.
    pub fn append_own(
        &self,
        records: Bytes,
        expected_leader_epoch: i32,
    ) -> Result<Appended, AppendRefused> {
        let request = AppendRequest { records, acks: ACKS_ALL };
        self.append_from(AppendOrigin::Coordinator, Some(expected_leader_epoch), request)
    }

    fn append_from(
        &self,
        origin: AppendOrigin,
        expected_leader_epoch: Option<i32>,
        request: AppendRequest,
    ) -> Result<Appended, AppendRefused> {
        let settings = self.settings.load();
        let refused = |code| AppendRefused::new(code, self.log.log_start_offset());
        let role = self.role.read();
        let Role::Leader { leader_epoch, isr, .. } = &*role else {
            return Err(refused(ErrorCode::NotLeaderOrFollower));
        };
        if expected_leader_epoch.is_some_and(|expected| expected != *leader_epoch) {
            return Err(refused(ErrorCode::NotLeaderOrFollower));
        }
        if request.acks == ACKS_ALL && isr.len() < settings.min_insync {
            return Err(refused(ErrorCode::NotEnoughReplicas));
        }
        let append = LeaderAppend { leader_epoch: *leader_epoch, origin, now_ms: wall_time_ms() };
        let info = self
            .log
            .append_as_leader(request.records, append)
            .map_err(|error| AppendRefused::from_storage(error, self.log.log_start_offset()))?;
        drop(role);
        let is_disk_awaited = match settings.durability {
            Durability::PageCache => {
                self.advance(self.log.log_end_offset());
                false
            }
            Durability::Disk => {
                request.acks == ACKS_ALL
                    || self.waiters.has_readers()
                    || self.is_far_ahead_of_the_disk(info.size_bytes)
            }
        };
        if is_disk_awaited || info.flush_due {
            self.unflushed_size.store(0, Ordering::Relaxed);
            self.logs.flusher().request(&self.log);
        }
        Ok(Appended {
            base_offset: info.first_offset,
            last_offset: info.last_offset,
            log_append_time_ms: info.log_append_time_ms,
            log_start_offset: info.log_start_offset,
        })
    }

    /// Whether so much has been written without anybody waiting for it that the first who does
    /// would wait long.
    fn is_far_ahead_of_the_disk(&self, appended_size: usize) -> bool {
        let before = self.unflushed_size.fetch_add(appended_size, Ordering::Relaxed);
        before + appended_size >= UNFLUSHED_SIZE_MAX
    }

    /// Waits until everything before `offset` is committed.
    ///
    /// [`ErrorCode::RequestTimedOut`] at the deadline, [`ErrorCode::NotLeaderOrFollower`] if the
    /// leadership is lost meanwhile, [`ErrorCode::KafkaStorageError`] if the disk fails.
    pub async fn committed(&self, offset: i64, deadline: Instant) -> Result<(), ErrorCode> {
        if self.high_watermark() >= offset {
            return Ok(());
        }
        let waiter = self.waiters.commit(offset);
        if self.high_watermark() >= offset {
            return Ok(());
        }
        if self.log.dir().offline_reason().is_some() {
            return Err(ErrorCode::KafkaStorageError);
        }
        if !self.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        waiter.wait(deadline).await
    }

    /// Reads whole batches for a consumer.
    pub fn read(&self, request: ReadRequest) -> Result<PartitionRead, ReadRefused> {
        let refused = |code| ReadRefused { code, high_watermark: -1, log_start_offset: -1 };
        self.check_leads(request.current_leader_epoch).map_err(refused)?;
        let high_watermark = self.high_watermark();
        let last_stable_offset = self.last_stable_offset();
        let mut read = PartitionRead {
            high_watermark,
            last_stable_offset,
            log_start_offset: self.log.log_start_offset(),
            ..PartitionRead::default()
        };
        if let Some(diverging) = self.divergence(&request) {
            read.diverging_epoch = Some(diverging);
            return Ok(read);
        }
        let upper_bound = match request.isolation {
            Isolation::ReadUncommitted => high_watermark,
            Isolation::ReadCommitted => last_stable_offset,
        };
        let found = self.log.read(LogReadRequest {
            offset: request.offset,
            max_bytes: request.max_bytes,
            min_one_batch: request.min_one_batch,
            upper_bound,
        });
        match found {
            Ok(found) => self
                .fill(&mut read, &request, found)
                .map_err(|_| refused(ErrorCode::KafkaStorageError)),
            Err(LogReadError::OffsetOutOfRange { log_start_offset, .. }) => Err(ReadRefused {
                code: ErrorCode::OffsetOutOfRange,
                high_watermark,
                log_start_offset,
            }),
            Err(LogReadError::Storage(error)) => {
                tracing::error!(partition = %self.topic_partition, %error, "read the log");
                Err(refused(ErrorCode::KafkaStorageError))
            }
        }?;
        Ok(read)
    }

    fn fill(
        &self,
        read: &mut PartitionRead,
        request: &ReadRequest,
        found: crate::storage::log_reader::LogRead,
    ) -> Result<(), StorageError> {
        if request.isolation == Isolation::ReadCommitted {
            let aborted = self.log.aborted_transactions(request.offset, found.next_offset)?;
            let pairs = aborted.into_iter().map(|txn| (txn.producer_id, txn.first_offset));
            read.aborted = Some(pairs.collect());
        }
        match found.region {
            Some(region) => {
                let (file, position, length) = (region.file, region.position, region.length);
                read.records = Records::File(FileRegion { file, position, length });
            }
            // The reader waits at the end of what is committed while more has been written: bring
            // it to disk for him.
            None if request.offset < self.log.log_end_offset() => {
                self.logs.flusher().request(&self.log);
            }
            None => {}
        }
        Ok(())
    }

    fn divergence(&self, request: &ReadRequest) -> Option<DivergingEpoch> {
        if request.last_fetched_epoch < 0 {
            return None;
        }
        let (epoch, end_offset) = self.log.end_offset_for_leader_epoch(request.last_fetched_epoch);
        let diverges = epoch < request.last_fetched_epoch || end_offset < request.offset;
        (epoch >= 0 && diverges).then_some(DivergingEpoch { epoch, end_offset })
    }

    /// About how many bytes a reader at `offset` could get; cheap, for `min_bytes`.
    pub fn available_bytes(&self, offset: i64, isolation: Isolation) -> u64 {
        let upper_bound = match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        };
        if offset >= upper_bound { 0 } else { self.log.bytes_between(offset, upper_bound) }
    }

    /// Wakes `waiter` when there is more to read, until it is dropped.
    pub fn watch(&self, waiter: &mut FetchWaiter) {
        waiter.register(&self.waiters);
        if self.log.log_end_offset() > self.high_watermark() {
            self.logs.flusher().request(&self.log);
        }
    }

    /// The first offset that is not committed.
    pub fn high_watermark(&self) -> i64 {
        match &*self.role.read() {
            Role::Leader { watermark, .. } => watermark.lock().offset(),
            Role::NotLeader { .. } => self.log.high_watermark(),
        }
    }

    /// The first offset that `read_committed` may not see.
    pub fn last_stable_offset(&self) -> i64 {
        self.log.last_stable_offset()
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log.log_start_offset()
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> i64 {
        self.log.log_end_offset()
    }

    /// Answers ListOffsets for one partition: a time, or one of its special values -1 to -6.
    pub fn list_offset(
        &self,
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<Option<FoundOffset>, ErrorCode> {
        if !self.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let end = match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        };
        if end < self.log.log_end_offset() {
            self.logs.flusher().request(&self.log);
        }
        let at = |offset: i64, leader_epoch: Option<i32>| FoundOffset {
            offset,
            timestamp: -1,
            leader_epoch: leader_epoch.unwrap_or(-1),
        };
        let found = match timestamp {
            super::outcome::LATEST => return Ok(Some(at(end, Some(self.leader_epoch())))),
            super::outcome::EARLIEST | super::outcome::EARLIEST_LOCAL => {
                let start = self.log.log_start_offset();
                return Ok(Some(at(start, self.log.leader_epoch_for_offset(start))));
            }
            super::outcome::MAX_TIMESTAMP => self.log.offset_of_max_timestamp(),
            // Nothing is tiered, so there is no last tiered offset and none pending upload.
            ..0 => return Ok(None),
            timestamp => self.log.offset_for_timestamp(timestamp),
        };
        let found = found.map_err(|error| {
            tracing::error!(partition = %self.topic_partition, %error, "look up a timestamp");
            ErrorCode::KafkaStorageError
        })?;
        Ok(found.filter(|found| found.offset < end).map(|found| FoundOffset {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: found.leader_epoch,
        }))
    }

    /// The largest leader epoch not above `leader_epoch` and where it ends; (-1, -1) if unknown.
    pub fn end_offset_for_leader_epoch(&self, leader_epoch: i32) -> (i32, i64) {
        self.log.end_offset_for_leader_epoch(leader_epoch)
    }

    /// Forgets the records before `offset`; -1 means all that are committed. Returns the new start.
    pub fn delete_records_before(&self, offset: i64) -> Result<i64, ErrorCode> {
        if !self.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let target = if offset == -1 { self.high_watermark() } else { offset };
        if target < 0 {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        match self.log.advance_log_start_offset(target) {
            Ok(Some(log_start_offset)) => Ok(log_start_offset),
            Ok(None) => Err(ErrorCode::OffsetOutOfRange),
            Err(error) => {
                tracing::error!(partition = %self.topic_partition, %error, "delete records failed");
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }

    /// The producers whose sequences the log remembers.
    pub fn active_producers(&self) -> Vec<ProducerDescription> {
        self.log.active_producers()
    }

    fn committable_end(&self) -> i64 {
        match self.settings.load().durability {
            Durability::Disk => self.log.flushed_offset(),
            Durability::PageCache => self.log.log_end_offset(),
        }
    }

    fn flushed(&self, flushed_offset: i64) {
        // With page-cache durability too: the append that asked for this may have seen the topic's
        // earlier durability, and nobody else tells those who wait for it.
        self.advance(flushed_offset);
    }

    /// Moves the high watermark to what this replica's end allows, and wakes who waited for it.
    fn advance(&self, leader_end_offset: i64) {
        let role = self.role.read();
        let Role::Leader { isr, watermark, .. } = &*role else { return };
        let min_insync = self.settings.load().min_insync;
        // Followers report their ends when they fetch; a partition with one replica has none.
        let follower_end_offsets = &[];
        if isr.len() < min_insync {
            return;
        }
        let mut watermark = watermark.lock();
        let ends = ReplicaEnds { leader_end_offset, follower_end_offsets, min_insync: 1 };
        if let Some(offset) = watermark.advance(ends) {
            self.log.set_high_watermark(offset);
            drop(watermark);
            drop(role);
            self.waiters.advanced(offset);
        }
    }
}
