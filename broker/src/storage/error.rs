//! What can go wrong in storage, as types. The broker's `error.rs` maps them to protocol error
//! codes.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A failure of the disk, or bytes on it that are not as they were written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A call to the file system failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// Verb and object: "append to".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log directory was taken offline by an earlier failure; nothing in it is read or written
    /// until the broker restarts.
    #[error("log directory {} is offline: {reason}", path.display())]
    DirectoryOffline {
        /// The log directory.
        path: PathBuf,
        /// The failure that took it offline.
        reason: String,
    },
    /// Bytes that were known to be on disk are not valid any more.
    #[error("{} is corrupt: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// Another process uses the log directory.
    #[error("log directory {} is in use by another process (.lock is locked)", path.display())]
    Locked {
        /// The log directory.
        path: PathBuf,
    },
    /// The directory belongs to another broker or cluster, or its `meta.properties` is unreadable.
    #[error("{}: {what}", path.display())]
    WrongDirectory {
        /// The file that says so.
        path: PathBuf,
        /// What does not fit, and what to do.
        what: String,
    },
    /// The log was closed or is being deleted.
    #[error("the log in {} is closed", path.display())]
    Closed {
        /// The partition's folder.
        path: PathBuf,
    },
    /// No directory is online, or the log may be in one that is not.
    #[error("no online log directory can take {what}")]
    NoDirectory {
        /// The partition.
        what: String,
    },
}

impl StorageError {
    /// Makes an `io::Error` into one of ours: `map_err(StorageError::io("open", &path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether there was merely too little of something, which passes: the directory stays online
    /// and writes are tried again.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_shortage(source))
    }
}

/// Whether a call failed because the disk, or the user's quota on it, is full, or because too many
/// files are open. Neither says anything about what is on the disk.
fn is_shortage(error: &io::Error) -> bool {
    let too_many_open = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || too_many_open.contains(&error.raw_os_error())
}

/// What is wrong with one record of a batch (KIP-467): its index in the batch, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in its batch, from 0.
    pub batch_index: i32,
    /// For people.
    pub message: String,
}

/// Why records were not appended. Each variant names the error code that the protocol has for it.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// `MESSAGE_TOO_LARGE`: a batch is larger than `max.message.bytes`.
    #[error("the record batch of {size_bytes} bytes is larger than max.message.bytes, {max_bytes}")]
    MessageTooLarge {
        /// Bytes of the batch.
        size_bytes: usize,
        /// The topic's limit.
        max_bytes: usize,
    },
    /// `RECORD_LIST_TOO_LARGE`: the batches are larger than a whole segment may be.
    #[error("{size_bytes} bytes of records do not fit into a segment of {max_bytes}")]
    RecordListTooLarge {
        /// Bytes of all batches.
        size_bytes: usize,
        /// The topic's `segment.bytes`.
        max_bytes: usize,
    },
    /// `CORRUPT_MESSAGE`: the CRC or the framing is wrong.
    #[error("corrupt record batch: {0}")]
    CorruptMessage(String),
    /// `INVALID_RECORD`: well-formed, but not allowed here; perhaps single records.
    #[error("{message}")]
    InvalidRecord {
        /// For people.
        message: String,
        /// The records at fault, if single ones are.
        record_errors: Vec<RecordError>,
    },
    /// `INVALID_TIMESTAMP`: timestamps outside of what the topic takes.
    #[error("{message}")]
    InvalidTimestamp {
        /// For people.
        message: String,
        /// The records at fault.
        record_errors: Vec<RecordError>,
    },
    /// `UNSUPPORTED_COMPRESSION_TYPE`.
    #[error("unsupported compression: {0}")]
    UnsupportedCompression(String),
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`, `INVALID_PRODUCER_EPOCH` and so on.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// A follower was given batches that do not continue its log. A bug or a stale fetch; the
    /// partition has to be reconciled with its leader.
    #[error(
        "records from offset {first_offset} do not continue a log that ends at {log_end_offset}"
    )]
    OffsetsOutOfOrder {
        /// The first offset of the offending batch.
        first_offset: i64,
        /// Where the log ends.
        log_end_offset: i64,
    },
    /// `KAFKA_STORAGE_ERROR`.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What an idempotent or transactional producer did wrong (KIP-98, KIP-360).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error(
        "out of order sequence number of producer {producer_id}: {base_sequence} came, \
         {expected} was expected"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The first sequence number of the batch.
        base_sequence: i32,
        /// The sequence number that would have been right.
        expected: i32,
    },
    /// `DUPLICATE_SEQUENCE_NUMBER`: appended before, too long ago to know at which offset.
    #[error("sequence number {base_sequence} of producer {producer_id} was appended before")]
    DuplicateSequence {
        /// The producer.
        producer_id: i64,
        /// The first sequence number of the batch.
        base_sequence: i32,
    },
    /// `INVALID_PRODUCER_EPOCH`: a newer incarnation of the producer has written.
    #[error("epoch {producer_epoch} of producer {producer_id} is older than {current_epoch}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// The batch's producer epoch.
        producer_epoch: i16,
        /// The newest producer epoch in this log.
        current_epoch: i16,
    },
    /// `INVALID_TXN_STATE`: a write outside of the transaction that the producer has open.
    #[error("producer {producer_id} has an open transaction and wrote outside of it")]
    InvalidTransactionState {
        /// The producer.
        producer_id: i64,
    },
    /// `TRANSACTION_COORDINATOR_FENCED`: a marker of a deposed transaction coordinator.
    #[error("marker of coordinator epoch {coordinator_epoch}, {current_epoch} has been seen")]
    TransactionCoordinatorFenced {
        /// The epoch in the marker.
        coordinator_epoch: i32,
        /// The newest epoch in this log.
        current_epoch: i32,
    },
}
