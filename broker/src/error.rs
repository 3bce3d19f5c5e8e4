//! What can go wrong in the broker as a whole, and the only place that says which error code of the
//! protocol stands for an error of ours. The matches are exhaustive on purpose: whoever adds an
//! error decides here what clients see.

use std::net::AddrParseError;

use ottla_common::kafka::ErrorCode;

use crate::storage::error::{AppendError, ProducerError, StorageError};

/// Why a broker does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that cannot be served.
    #[error("configuration: {0}")]
    Config(String),
    /// The log directories.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The coordinator.
    #[error("coordinator: {0}")]
    Coordinator(String),
    /// An address that cannot be listened on.
    #[error("{0}")]
    Listen(#[source] std::io::Error),
    /// An address that is none.
    #[error("not an address: {0}")]
    Address(#[from] AddrParseError),
    /// Randomness for an identifier.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl From<&Error> for ErrorCode {
    fn from(error: &Error) -> Self {
        match error {
            Error::Config(_) => Self::InvalidConfig,
            Error::Storage(error) => storage_error_code(error),
            Error::Coordinator(_) => Self::CoordinatorNotAvailable,
            Error::Listen(_) | Error::Address(_) | Error::Random(_) => Self::UnknownServerError,
        }
    }
}

/// What clients see of a failure of the disk: a retriable error, upon which they look for a leader.
pub fn storage_error_code(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::Io { .. }
        | StorageError::DirectoryOffline { .. }
        | StorageError::Corrupt { .. }
        | StorageError::Locked { .. }
        | StorageError::WrongDirectory { .. }
        | StorageError::NoDirectory { .. } => ErrorCode::KafkaStorageError,
        StorageError::Closed { .. } => ErrorCode::NotLeaderOrFollower,
    }
}

/// What producers see of records that were not appended.
pub fn append_error_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
        AppendError::CorruptMessage(_) => ErrorCode::CorruptMessage,
        AppendError::InvalidRecord { .. } => ErrorCode::InvalidRecord,
        AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
        AppendError::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
        AppendError::Producer(error) => producer_error_code(error),
        AppendError::OffsetsOutOfOrder { .. } => ErrorCode::UnknownServerError,
        AppendError::Storage(error) => storage_error_code(error),
    }
}

/// What producers see of sequences and epochs that do not fit.
pub fn producer_error_code(error: &ProducerError) -> ErrorCode {
    match error {
        ProducerError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        ProducerError::DuplicateSequence { .. } => ErrorCode::DuplicateSequenceNumber,
        ProducerError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        ProducerError::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
        ProducerError::TransactionCoordinatorFenced { .. } => {
            ErrorCode::TransactionCoordinatorFenced
        }
    }
}
