//! Brings a machine to the state that its partition's log stands for. Blocks on the disk.

use std::io;

use bytes::Bytes;
use ottla_common::kafka::record_batch::{BatchError, RecordBatch, batches};
use ottla_common::kafka::records::{EndTransactionMarker, RecordLimits};

use super::machine::{Place, Producer, Record, StateMachine};
use crate::storage::log::Log;
use crate::storage::log_reader::{LogReadError, LogReadRequest, read_region};

/// Why a partition's log cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogReadError),
    /// Its file cannot be read.
    #[error("read the log: {0}")]
    Read(#[from] io::Error),
    /// A batch in it is damaged.
    #[error("at offset {offset}: {error}")]
    Batch {
        /// Where.
        offset: i64,
        /// What is wrong.
        error: BatchError,
    },
    /// The shard was given up meanwhile.
    #[error("given up")]
    GivenUp,
}

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Records that were replayed.
    pub records: u64,
    /// The offset after the last one.
    pub end_offset: i64,
}

/// Replays the log up to its end. `is_wanted` is asked between reads of `read_size` bytes.
pub fn load<M: StateMachine>(
    machine: &mut M,
    log: &Log,
    read_size: usize,
    is_wanted: impl Fn() -> bool,
) -> Result<Loaded, LoadError> {
    let mut offset = log.log_start_offset();
    let end_offset = log.log_end_offset();
    let mut records = 0;
    while offset < end_offset {
        if !is_wanted() {
            return Err(LoadError::GivenUp);
        }
        let read = match log.read(LogReadRequest {
            offset,
            max_bytes: read_size,
            min_one_batch: true,
            upper_bound: end_offset,
        }) {
            Ok(read) => read,
            // The log's start has moved on: what is gone is of no interest.
            Err(LogReadError::OffsetOutOfRange { log_start_offset, .. })
                if log_start_offset > offset =>
            {
                offset = log_start_offset;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some(region) = read.region else { break };
        records += replay_all(machine, read_region(&region)?, offset)?;
        offset = read.next_offset.max(offset + 1);
    }
    Ok(Loaded { records, end_offset })
}

fn replay_all<M: StateMachine>(
    machine: &mut M,
    bytes: Bytes,
    from_offset: i64,
) -> Result<u64, LoadError> {
    let mut replayed = 0;
    for batch in batches(bytes) {
        let at = |error| LoadError::Batch { offset: from_offset, error };
        let batch = batch.map_err(at)?;
        let offset = batch.header.base_offset;
        let at = |error| LoadError::Batch { offset, error };
        batch.validate().map_err(at)?;
        replayed += replay_batch(machine, &batch, from_offset).map_err(at)?;
    }
    Ok(replayed)
}

fn replay_batch<M: StateMachine>(
    machine: &mut M,
    batch: &RecordBatch,
    from_offset: i64,
) -> Result<u64, BatchError> {
    let header = &batch.header;
    let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
    let transaction = header.is_transactional().then_some(producer);
    let mut replayed = 0;
    for record in batch.records(RecordLimits::default()) {
        let record = record?;
        if record.offset < from_offset {
            continue;
        }
        let Some(key) = record.key else { continue };
        if header.is_control() {
            let marker = EndTransactionMarker::parse(&key, &record.value.unwrap_or_default());
            if let Some(marker) = marker {
                machine.replay_end_of_transaction(producer, marker.commit);
            }
            continue;
        }
        let place = Place { offset: record.offset, timestamp_ms: record.timestamp, transaction };
        // Copies, so that what a machine keeps of them does not keep the whole read.
        let copy = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
        machine.replay(&Record { key: copy(key), value: record.value.map(copy) }, place);
        replayed += 1;
    }
    Ok(replayed)
}
