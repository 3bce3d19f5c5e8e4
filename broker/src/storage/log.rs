//! The log of one partition. All methods take `&self`; `Log` is shared as `Arc<Log>`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_common::types::{TopicId, TopicPartition};

use super::error::{AppendError, StorageError};
use super::log_config::LogConfig;
use super::log_dirs::LogDir;
use super::log_reader::{LogRead, LogReadError, LogReadRequest, TimestampedOffset};

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
    /// The offset of the last record.
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
    /// `flush.messages` is reached: the caller should ask the flusher.
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

/// One partition's log.
pub struct Log {
    topic_partition: TopicPartition,
    dir: Arc<LogDir>,
}

#[allow(unused_variables, reason = "signatures to code against; bodies follow")]
impl Log {
    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }
    /// The topic's id as `partition.metadata` has it.
    pub fn topic_id(&self) -> Option<TopicId> {
        None
    }
    /// The log directory it lies in.
    pub fn dir(&self) -> &Arc<LogDir> {
        &self.dir
    }
    /// The partition's folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }
    /// How the log is kept.
    pub fn config(&self) -> Arc<LogConfig> {
        Arc::default()
    }
    /// Changes how the log is kept, from the next append on.
    pub fn set_config(&self, config: Arc<LogConfig>) {}

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        0
    }
    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> i64 {
        0
    }
    /// Everything before this offset is on disk.
    pub fn flushed_offset(&self) -> i64 {
        0
    }
    /// The high watermark as last set.
    pub fn high_watermark(&self) -> i64 {
        0
    }
    /// Sets the high watermark, kept within log start and log end; returns what it is now. May go
    /// back only by truncation.
    pub fn set_high_watermark(&self, high_watermark: i64) -> i64 {
        0
    }
    /// The first offset that `read_committed` may not see: the smaller of the high watermark and the
    /// start of the oldest transaction that is open or whose marker is not below the high watermark.
    pub fn last_stable_offset(&self) -> i64 {
        0
    }
    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        0
    }
    /// About how many bytes lie between two offsets; cheap, never too small by more than an index
    /// interval a segment.
    pub fn bytes_between(&self, offset: i64, upper_bound: i64) -> u64 {
        0
    }

    /// Checks, numbers and writes records as the leader. Their order is fixed when it returns.
    pub fn append_as_leader(
        &self,
        records: Bytes,
        append: LeaderAppend,
    ) -> Result<AppendInfo, AppendError> {
        Err(self.unfinished().into())
    }
    /// Writes what the leader sent (whole batches; a cut-off last one is ignored), CRCs checked.
    pub fn append_as_follower(
        &self,
        records: Bytes,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        Err(self.unfinished().into())
    }

    /// Whole batches from an offset on. Never waits for appends.
    pub fn read(&self, request: LogReadRequest) -> Result<LogRead, LogReadError> {
        Err(self.unfinished().into())
    }
    /// Transactions aborted that a reader of `from..to` must know of, by first offset.
    pub fn aborted_transactions(
        &self,
        from: i64,
        to: i64,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        Err(self.unfinished())
    }
    /// The first record with a timestamp of at least `timestamp`.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampedOffset>, StorageError> {
        Err(self.unfinished())
    }
    /// The first record with the largest timestamp (ListOffsets -3).
    pub fn offset_of_max_timestamp(&self) -> Result<Option<TimestampedOffset>, StorageError> {
        Err(self.unfinished())
    }

    /// The newest leader epoch that the log knows.
    pub fn latest_leader_epoch(&self) -> Option<i32> {
        None
    }
    /// The leader epoch that an offset was appended in.
    pub fn leader_epoch_for_offset(&self, offset: i64) -> Option<i32> {
        None
    }
    /// The largest epoch not above `leader_epoch`, and where it ends; (-1, -1) if unknown (KIP-101).
    pub fn end_offset_for_leader_epoch(&self, leader_epoch: i32) -> (i32, i64) {
        (-1, -1)
    }
    /// On becoming leader: the epoch starts at the log's end.
    pub fn assign_leader_epoch(&self, leader_epoch: i32) -> Result<(), StorageError> {
        Err(self.unfinished())
    }

    /// Cuts everything from `offset` on. Lowers the high watermark if need be (logged as a warning).
    pub fn truncate_to(&self, offset: i64) -> Result<(), StorageError> {
        Err(self.unfinished())
    }
    /// Throws everything away; the next record gets `offset`.
    pub fn truncate_fully_and_start_at(&self, offset: i64) -> Result<(), StorageError> {
        Err(self.unfinished())
    }
    /// Moves the log's start forward (DeleteRecords), to at most the high watermark. Returns the log
    /// start offset, or `None` if `offset` is above the high watermark.
    pub fn advance_log_start_offset(&self, offset: i64) -> Result<Option<i64>, StorageError> {
        Err(self.unfinished())
    }
    /// Applies retention.ms, retention.bytes and the log start offset, never above the high
    /// watermark. Returns how many segments went.
    pub fn delete_old_segments(&self, now_ms: i64) -> Result<usize, StorageError> {
        Err(self.unfinished())
    }
    /// Producers that the log remembers, by id.
    pub fn active_producers(&self) -> Vec<ProducerDescription> {
        Vec::new()
    }

    /// Adds a listener of [`Log::flushed_offset`].
    pub fn on_flush(&self, listener: FlushListener) {}
    /// Brings everything appended so far to disk, on the caller's thread; appends go on meanwhile.
    /// Most callers ask the [`Flusher`](super::flusher::Flusher) instead.
    pub fn flush(&self) -> Result<i64, StorageError> {
        Err(self.unfinished())
    }

    fn unfinished(&self) -> StorageError {
        let source = io::Error::from(io::ErrorKind::Unsupported);
        StorageError::Io { action: "use", path: self.dir.path().to_owned(), source }
    }
}
