//! What a partition is asked and what it answers.

use bytes::Bytes;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::wire::Records;

use crate::error::append_error_code;
use crate::replication::divergence::DivergingEpoch;
use crate::storage::error::{AppendError, RecordError};

/// ListOffsets: the end of what a reader may see.
pub const LATEST: i64 = -1;
/// ListOffsets: the first offset.
pub const EARLIEST: i64 = -2;
/// ListOffsets: the record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: i64 = -3;
/// ListOffsets: the first offset on the broker's own disk (KIP-405).
pub const EARLIEST_LOCAL: i64 = -4;

/// What a reader may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Everything committed, records of open and aborted transactions too.
    #[default]
    ReadUncommitted,
    /// Everything before the first transaction that is open.
    ReadCommitted,
}

impl Isolation {
    /// From the wire's `isolation_level`; unknown levels count as read_uncommitted, as in Kafka.
    pub fn from_wire(level: i8) -> Self {
        if level == 1 { Self::ReadCommitted } else { Self::ReadUncommitted }
    }
}

/// Records to append.
#[derive(Clone, Debug)]
pub struct AppendRequest {
    /// One batch, as the producer sent it.
    pub records: Bytes,
    /// 0, 1 or -1 (all).
    pub acks: i16,
}

/// Records that were appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first one; for a retry of what was appended before, its offset then.
    pub base_offset: i64,
    /// The offset of the last one.
    pub last_offset: i64,
    /// The broker's time if the topic's timestamps are its own, else -1.
    pub log_append_time_ms: i64,
    /// The first offset that may be read.
    pub log_start_offset: i64,
    /// The leader epoch in which they were appended.
    pub leader_epoch: i32,
}

/// Records that were not appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRefused {
    /// Why.
    pub code: ErrorCode,
    /// Why, in words.
    pub message: Option<String>,
    /// The records at fault, if single ones are (KIP-467).
    pub record_errors: Vec<RecordError>,
    /// The first offset that may be read.
    pub log_start_offset: i64,
}

impl AppendRefused {
    /// A refusal that the code says all of.
    pub fn new(code: ErrorCode, log_start_offset: i64) -> Self {
        Self { code, message: None, record_errors: Vec::new(), log_start_offset }
    }

    /// A refusal of the log.
    pub fn from_storage(error: AppendError, log_start_offset: i64) -> Self {
        let code = append_error_code(&error);
        let message = Some(error.to_string());
        let record_errors = match error {
            AppendError::InvalidRecord { record_errors, .. }
            | AppendError::InvalidTimestamp { record_errors, .. } => record_errors,
            _ => Vec::new(),
        };
        Self { code, message, record_errors, log_start_offset }
    }
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A client, up to what it may see.
    Consumer(Isolation),
    /// A replica, which reads everything.
    Follower,
}

/// What is to be read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// The first offset wanted.
    pub offset: i64,
    /// At most so many bytes, in whole batches.
    pub max_bytes: usize,
    /// Return the first batch even if it is larger.
    pub min_one_batch: bool,
    /// Who reads.
    pub reader: Reader,
    /// Whether a follower may be read from (KIP-392).
    pub follower_allowed: bool,
    /// The leader epoch that the reader believes in; -1 if it does not say.
    pub current_leader_epoch: i32,
    /// The epoch of the last record that the reader has; -1 if it does not say.
    pub last_fetched_epoch: i32,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct PartitionRead {
    /// Whole batches, perhaps none.
    pub records: Records,
    /// The first offset that is not committed.
    pub high_watermark: i64,
    /// The first offset that `read_committed` may not see.
    pub last_stable_offset: i64,
    /// The first offset that may be read.
    pub log_start_offset: i64,
    /// Producer id and first offset of aborted transactions; for `read_committed` only.
    pub aborted: Option<Vec<(i64, i64)>>,
    /// The reader's log is not a prefix of this one: where they part.
    pub diverging_epoch: Option<DivergingEpoch>,
}

/// Nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRefused {
    /// Why.
    pub code: ErrorCode,
    /// The first offset that is not committed, or -1.
    pub high_watermark: i64,
    /// The first offset that may be read, or -1.
    pub log_start_offset: i64,
}

/// An offset that ListOffsets found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, or -1.
    pub timestamp: i64,
    /// The leader epoch of the record, or -1.
    pub leader_epoch: i32,
}
