//! The log of one partition. All methods take `&self`; a `Log` is shared as `Arc<Log>`.
//!
//! **Who waits for whom.** Appends, truncation and deletion of segments take the `appender` lock
//! one after another. Reads take none of it: they look at the list of segments, which is replaced
//! as a whole, and at the segments' short locks. A flush works on the open files of the segments
//! that it found and holds only `flushing`, so that appends go on while the disk works. The small
//! locks (`offsets`, `transactions`, `epochs`) are held for moments and never over a call to the
//! disk, but for the lists that are written by [`Log::prepare_checkpoint`].
//!
//! This file has what a log is; `append.rs`, `log_reader.rs`, `timestamps.rs`, `truncation.rs`,
//! `retention.rs`, `flushing.rs`, `recovery.rs` and `cleaner/` what is done with it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};

use arc_swap::ArcSwap;
use ottla_common::types::{TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};

use super::cleaner::CleaningState;
use super::error::StorageError;
use super::files::FileSystem;
use super::leader_epochs::LeaderEpochs;
use super::log_config::LogConfig;
use super::log_dirs::LogDir;
use super::offsets::LogOffsets;
use super::producer_state::{Producers, Transactions};
use super::segment::Segment;

/// Where records come from, which decides how far they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A Produce request: everything is checked, control batches are refused, exactly one batch.
    Client,
    /// This broker's own records (group offsets, transaction markers): no sequence check.
    Coordinator,
}

/// How the leader appends.
#[derive(Clone, Copy, Debug)]
pub struct LeaderAppend {
    /// This leader's epoch.
    pub leader_epoch: i32,
    /// Who sent the records.
    pub origin: AppendOrigin,
    /// Wall time, for `LogAppendTime`, timestamp checks and rolling.
    pub now_ms: i64,
}

/// What was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendInfo {
    /// The offset of the first record. For a duplicate: where it was appended the first time.
    pub first_offset: i64,
    /// The offset of the last record; one less than the first if nothing was appended.
    pub last_offset: i64,
    /// The largest timestamp; -1 if none.
    pub max_timestamp: i64,
    /// The broker's time if the topic has `LogAppendTime`, else -1.
    pub log_append_time_ms: i64,
    /// Where the log starts.
    pub log_start_offset: i64,
    /// Bytes written.
    pub size_bytes: usize,
    /// The batch had been appended before (idempotent retry); nothing was written.
    pub duplicate: bool,
    /// `flush.messages` is reached or a segment was closed: the caller should ask the flusher.
    pub flush_due: bool,
}

/// A producer in DescribeProducers' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerDescription {
    /// The producer.
    pub producer_id: i64,
    /// Its newest epoch.
    pub producer_epoch: i16,
    /// The last sequence number, -1 if unknown.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch, -1 if unknown.
    pub last_timestamp: i64,
    /// The epoch of the transaction coordinator that wrote the last marker, -1 if none.
    pub coordinator_epoch: i32,
    /// Where its open transaction starts, -1 if none is open.
    pub current_txn_start_offset: i64,
}

/// A transaction that was aborted: consumers that read committed data skip the producer's records
/// from `first_offset` until its abort marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// The transaction's first offset in this log.
    pub first_offset: i64,
}

/// Called with the offset up to which the log is on disk, each time it moves forward. Runs on a
/// flusher thread; must be quick and must not call back into [`Log::flush`].
pub type FlushListener = Arc<dyn Fn(i64) + Send + Sync>;

/// What only one appender at a time may touch.
#[derive(Debug, Default)]
pub(super) struct Appender {
    /// The producers as of the log's end.
    pub producers: Producers,
    /// Offsets at which there is a snapshot file.
    pub snapshots: BTreeSet<i64>,
    /// Of those: written, and not known to be on disk.
    pub unsynced_snapshots: BTreeSet<i64>,
}

/// A file that was renamed and is to be removed when nobody reads it any more.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    /// When.
    pub due_ms: i64,
    /// What.
    pub path: PathBuf,
}

/// What recovery found, from which a log is made.
#[derive(Debug)]
pub(super) struct LoadedLog {
    pub segments: Vec<Arc<Segment>>,
    pub appender: Appender,
    pub epochs: LeaderEpochs,
    pub offsets: LogOffsets,
    pub topic_id: Option<TopicId>,
    /// Where it lies.
    pub folder: PathBuf,
    /// The epochs are not as in their file.
    pub epochs_dirty: bool,
    /// The folder is new or has new files, and its names may not be on disk.
    pub is_new: bool,
}

/// One partition's log.
pub struct Log {
    pub(super) topic_partition: TopicPartition,
    pub(super) dir: Arc<LogDir>,
    pub(super) folder: PathBuf,
    pub(super) file_system: FileSystem,
    topic_id: Mutex<Option<TopicId>>,
    config: ArcSwap<LogConfig>,
    pub(super) appender: Mutex<Appender>,
    pub(super) segments: ArcSwap<Vec<Arc<Segment>>>,
    offsets: Mutex<LogOffsets>,
    pub(super) transactions: Mutex<Transactions>,
    pub(super) epochs: RwLock<LeaderEpochs>,
    /// The epochs are not as in their file.
    pub(super) epochs_dirty: AtomicBool,
    /// The file with the topic's id may not be on disk.
    pub(super) topic_id_dirty: AtomicBool,
    /// Names were added to the folder since it was last brought to disk.
    pub(super) folder_dirty: AtomicBool,
    /// The folder's own name may not be on disk.
    pub(super) parent_dirty: AtomicBool,
    /// Held during a flush.
    pub(super) flushing: Mutex<()>,
    /// Held while side files are brought to disk.
    pub(super) preparing: Mutex<()>,
    /// The flusher's note of what it owes this log.
    pub(super) flush_request: AtomicU8,
    pub(super) last_flush_ms: AtomicI64,
    pub(super) listeners: RwLock<Vec<FlushListener>>,
    pub(super) deletions: Mutex<Vec<Deletion>>,
    pub(super) cleaning: Mutex<CleaningState>,
    closed: AtomicBool,
}

impl Log {
    pub(super) fn new(
        topic_partition: TopicPartition,
        dir: Arc<LogDir>,
        config: Arc<LogConfig>,
        loaded: LoadedLog,
    ) -> Self {
        loaded.offsets.check();
        Self {
            topic_partition,
            folder: loaded.folder,
            file_system: dir.file_system().clone(),
            dir,
            topic_id: Mutex::new(loaded.topic_id),
            config: ArcSwap::new(config),
            transactions: Mutex::new(Transactions::of(&loaded.appender.producers)),
            appender: Mutex::new(loaded.appender),
            segments: ArcSwap::from_pointee(loaded.segments),
            offsets: Mutex::new(loaded.offsets),
            epochs: RwLock::new(loaded.epochs),
            epochs_dirty: AtomicBool::new(loaded.epochs_dirty),
            topic_id_dirty: AtomicBool::new(loaded.is_new && loaded.topic_id.is_some()),
            folder_dirty: AtomicBool::new(loaded.is_new),
            parent_dirty: AtomicBool::new(loaded.is_new),
            flushing: Mutex::new(()),
            preparing: Mutex::new(()),
            flush_request: AtomicU8::new(0),
            last_flush_ms: AtomicI64::new(0),
            listeners: RwLock::default(),
            deletions: Mutex::default(),
            cleaning: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The topic's id as `partition.metadata` has it.
    pub fn topic_id(&self) -> Option<TopicId> {
        *self.topic_id.lock()
    }

    /// Gives a log that has none its topic's id.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn set_topic_id(&self, topic_id: TopicId) -> Result<(), StorageError> {
        super::checkpoints::write_topic_id(&self.file_system, &self.folder, topic_id)?;
        *self.topic_id.lock() = Some(topic_id);
        self.topic_id_dirty.store(true, Ordering::Release);
        self.folder_dirty.store(true, Ordering::Release);
        Ok(())
    }

    /// The log directory it lies in.
    pub fn dir(&self) -> &Arc<LogDir> {
        &self.dir
    }

    /// The partition's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the log is kept.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// Changes how the log is kept, from the next append on.
    pub fn set_config(&self, config: Arc<LogConfig>) {
        self.config.store(config);
    }

    /// The log's offsets, all of one moment.
    pub fn offsets(&self) -> LogOffsets {
        *self.offsets.lock()
    }

    /// The only way to change the log's offsets.
    pub(super) fn update_offsets<T>(&self, change: impl FnOnce(&mut LogOffsets) -> T) -> T {
        let mut offsets = self.offsets.lock();
        let result = change(&mut offsets);
        offsets.check();
        result
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.offsets().start
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> i64 {
        self.offsets().end
    }

    /// Everything before this offset is on disk.
    pub fn flushed_offset(&self) -> i64 {
        self.offsets().flushed
    }

    /// The high watermark as last set; after a start: as last checkpointed.
    pub fn high_watermark(&self) -> i64 {
        self.offsets().high_watermark
    }

    /// Moves the high watermark forward, at most to the log's end; returns what it is now. It goes
    /// back only by truncation.
    pub fn set_high_watermark(&self, high_watermark: i64) -> i64 {
        let high_watermark = self.update_offsets(|offsets| {
            offsets.high_watermark = offsets.high_watermark.max(high_watermark.min(offsets.end));
            offsets.high_watermark
        });
        self.transactions.lock().advance_high_watermark(high_watermark);
        high_watermark
    }

    /// The first offset that `read_committed` may not see: the smaller of the high watermark and
    /// the start of the oldest transaction that is open or whose marker is not below the high
    /// watermark.
    pub fn last_stable_offset(&self) -> i64 {
        // In this order: a transaction that begins after the first look begins above it.
        let high_watermark = self.high_watermark();
        let first_unstable = self.transactions.lock().first_unstable_offset();
        high_watermark.min(first_unstable.unwrap_or(high_watermark))
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.load().iter().map(|segment| segment.size()).sum()
    }

    /// The newest leader epoch that the log knows.
    pub fn latest_leader_epoch(&self) -> Option<i32> {
        self.epochs.read().latest().map(|entry| entry.leader_epoch)
    }

    /// The leader epoch that an offset was appended in.
    pub fn leader_epoch_for_offset(&self, offset: i64) -> Option<i32> {
        self.epochs.read().epoch_for_offset(offset)
    }

    /// The largest epoch not above `leader_epoch`, and where it ends; (-1, -1) if unknown
    /// (KIP-101).
    pub fn end_offset_for_leader_epoch(&self, leader_epoch: i32) -> (i32, i64) {
        let end = self.log_end_offset();
        self.epochs.read().end_offset_for(leader_epoch, end).unwrap_or((-1, -1))
    }

    /// On becoming leader: the epoch starts at the log's end.
    ///
    /// # Errors
    /// If the log may not be written to.
    pub fn assign_leader_epoch(&self, leader_epoch: i32) -> Result<(), StorageError> {
        self.check_usable()?;
        // The log must not grow meanwhile.
        let _appender = self.appender.lock();
        self.note_epoch(leader_epoch, self.log_end_offset());
        Ok(())
    }

    pub(super) fn note_epoch(&self, leader_epoch: i32, start_offset: i64) {
        let known = self.epochs.read().latest().is_some_and(|e| e.leader_epoch == leader_epoch);
        if !known && self.epochs.write().assign(leader_epoch, start_offset) {
            self.epochs_dirty.store(true, Ordering::Release);
        }
    }

    /// Producers that the log remembers, by id.
    pub fn active_producers(&self) -> Vec<ProducerDescription> {
        let appender = self.appender.lock();
        let describe = |(&producer_id, entry): (&i64, &super::producer_state::ProducerEntry)| {
            ProducerDescription {
                producer_id,
                producer_epoch: entry.producer_epoch,
                last_sequence: entry.last_batch().map_or(-1, |batch| batch.last_sequence),
                last_timestamp: entry.last_timestamp,
                coordinator_epoch: entry.coordinator_epoch,
                current_txn_start_offset: entry.current_txn_first_offset.unwrap_or(-1),
            }
        };
        appender.producers.entries().iter().map(describe).collect()
    }

    /// Forgets idle producers.
    pub fn expire_producers(&self, now_ms: i64, producer_id_expiration_ms: i64) {
        self.appender.lock().producers.expire(now_ms, producer_id_expiration_ms);
    }

    /// Whether the log may be read and written.
    pub(super) fn check_usable(&self) -> Result<(), StorageError> {
        self.dir.check_online()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(StorageError::Closed { path: self.folder.clone() });
        }
        Ok(())
    }

    /// Takes the directory offline for an error, unless it is a shortage that passes. Returns the
    /// error for passing on.
    pub(super) fn failed(&self, error: StorageError) -> StorageError {
        match &error {
            // The log was cut while somebody read there.
            StorageError::Io { source, .. } if source.kind() == ErrorKind::UnexpectedEof => {}
            StorageError::Io { .. } if !error.is_shortage() => self.dir.fail(&error),
            _ => {}
        }
        error
    }

    /// Whether the log was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes the log without bringing anything to disk. When it returns nobody is at work on its
    /// files by their names, so that the folder may get another one.
    pub(super) fn withdraw(&self) {
        self.set_closed();
        drop(self.flushing.lock());
        drop(self.preparing.lock());
    }

    /// From now on nothing is appended, read or flushed.
    pub(super) fn set_closed(&self) {
        {
            // Whoever is appending finishes first.
            let _appender = self.appender.lock();
            self.closed.store(true, Ordering::Release);
        }
        // They may hold on to who holds on to this log. One that is being told may wait for an
        // append to end, so this must not wait for it with the appenders' lock.
        self.listeners.write().clear();
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("folder", &self.folder).finish_non_exhaustive()
    }
}
