//! Reading a log: which bytes of which file answer a fetch, and which offset has a timestamp.

use std::fs::File;
use std::sync::Arc;

use super::error::StorageError;

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct LogReadRequest {
    /// The offset of the first record wanted; the batch that holds it is returned whole.
    pub offset: i64,
    /// At most so many bytes, always whole batches.
    pub max_bytes: usize,
    /// Return the first batch even if it is larger than `max_bytes`.
    pub min_one_batch: bool,
    /// Nothing at or after this offset is returned: high watermark, last stable or log end offset.
    pub upper_bound: i64,
}

/// Whole batches in one file, to be sent without copying.
#[derive(Clone, Debug)]
pub struct FileRegion {
    /// The segment file.
    pub file: Arc<File>,
    /// The first byte.
    pub position: u64,
    /// How many bytes.
    pub length: usize,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct LogRead {
    /// Whole batches, or `None` if there is nothing (yet) at the offset.
    pub region: Option<FileRegion>,
    /// The base offset of the first batch returned, or the offset asked for.
    pub first_offset: i64,
    /// The base offset of the segment read.
    pub segment_base_offset: i64,
    /// The offset after the last batch returned; the offset asked for if there is none.
    pub next_offset: i64,
    /// Where the log starts.
    pub log_start_offset: i64,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum LogReadError {
    /// `OFFSET_OUT_OF_RANGE`.
    #[error("offset {offset} is not in the log, which has {log_start_offset}..{log_end_offset}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The first offset there is.
        log_start_offset: i64,
        /// The offset after the last one.
        log_end_offset: i64,
    },
    /// `KAFKA_STORAGE_ERROR`.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record's offset.
    pub offset: i64,
    /// The record's timestamp.
    pub timestamp: i64,
    /// The epoch of the leader that appended it; -1 if unknown.
    pub leader_epoch: i32,
}
