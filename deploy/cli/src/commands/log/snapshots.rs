//! Snapshots of the producers' state.

use std::path::Path;

use bytes::{Buf, Bytes};
use ottla_common::kafka::messages::records::producer_snapshot::ProducerSnapshot;
use ottla_common::kafka::wire::{Decode, Reader};
use serde_json::json;

use super::Printer;

/// Prints a snapshot.
pub(super) fn dump(printer: &mut Printer, file: &Path) -> anyhow::Result<Option<String>> {
    let mut bytes = Bytes::from(std::fs::read(file)?);
    let version = bytes.try_get_i16()?;
    let snapshot = ProducerSnapshot::decode(&mut Reader::new(bytes), version)?;
    for entry in &snapshot.producer_entries {
        let first_offset = entry.current_txn_first_offset;
        let transaction = match first_offset {
            -1 => "OptionalLong.empty".to_owned(),
            offset => format!("OptionalLong[{offset}]"),
        };
        let first_sequence = entry.last_sequence.wrapping_sub(entry.offset_delta).max(-1);
        printer.text(format_args!(
            "producerId: {} producerEpoch: {} coordinatorEpoch: {} \
             currentTxnFirstOffset: {transaction} lastTimestamp: {} firstSequence: \
             {first_sequence} lastSequence: {} lastOffset: {} offsetDelta: {} timestamp: {}",
            entry.producer_id,
            entry.epoch,
            entry.coordinator_epoch,
            entry.timestamp,
            entry.last_sequence,
            entry.last_offset,
            entry.offset_delta,
            entry.timestamp,
        ))?;
        printer.entry(&json!({
            "kind": "producer",
            "producer_id": entry.producer_id,
            "producer_epoch": entry.epoch,
            "coordinator_epoch": entry.coordinator_epoch,
            "transaction_first_offset": (first_offset >= 0).then_some(first_offset),
            "last_sequence": entry.last_sequence,
            "last_offset": entry.last_offset,
            "offset_delta": entry.offset_delta,
            "timestamp_ms": entry.timestamp,
        }))?;
    }
    Ok(None)
}
