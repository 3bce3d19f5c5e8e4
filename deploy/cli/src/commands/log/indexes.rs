//! Offset indexes, time indexes and indexes of aborted transactions.

use std::path::Path;

use bytes::{Buf, Bytes};
use ottla_common::kafka::messages::records::aborted_txn::AbortedTxn;
use ottla_common::kafka::wire::{Decode, Reader};
use serde_json::json;

use super::{Printer, offset_in_name};

/// Bytes of an entry of an offset index: relative offset and position.
const OFFSET_ENTRY_SIZE: usize = 8;
/// Bytes of an entry of a time index: timestamp and relative offset.
const TIME_ENTRY_SIZE: usize = 12;
/// Bytes of an aborted transaction: version, producer id, first, last and last stable offset.
const ABORTED_ENTRY_SIZE: usize = 34;

/// Prints an offset index. The zeroes behind the entries of an index in use are passed over.
pub(super) fn dump_offsets(printer: &mut Printer, file: &Path) -> anyhow::Result<Option<String>> {
    let base_offset = offset_in_name(file)?;
    let bytes = std::fs::read(file)?;
    for (index, mut entry) in bytes.chunks_exact(OFFSET_ENTRY_SIZE).enumerate() {
        let (relative, position) = (entry.get_u32(), entry.get_u32());
        if index > 0 && relative == 0 {
            break;
        }
        let offset = base_offset + i64::from(relative);
        printer.text(format_args!("offset: {offset} position: {position}"))?;
        printer.entry(&json!({ "kind": "offset", "offset": offset, "position": position }))?;
    }
    Ok(incomplete(&bytes, OFFSET_ENTRY_SIZE))
}

/// Prints a time index.
pub(super) fn dump_times(printer: &mut Printer, file: &Path) -> anyhow::Result<Option<String>> {
    let base_offset = offset_in_name(file)?;
    let bytes = std::fs::read(file)?;
    for (index, mut entry) in bytes.chunks_exact(TIME_ENTRY_SIZE).enumerate() {
        let (timestamp, relative) = (entry.get_i64(), entry.get_u32());
        if index > 0 && timestamp == 0 {
            break;
        }
        let offset = base_offset + i64::from(relative);
        printer.text(format_args!("timestamp: {timestamp} offset: {offset}"))?;
        printer.entry(&json!({ "kind": "time", "timestamp_ms": timestamp, "offset": offset }))?;
    }
    Ok(incomplete(&bytes, TIME_ENTRY_SIZE))
}

/// Prints an index of aborted transactions.
pub(super) fn dump_aborted(printer: &mut Printer, file: &Path) -> anyhow::Result<Option<String>> {
    let bytes = std::fs::read(file)?;
    for entry in bytes.chunks_exact(ABORTED_ENTRY_SIZE) {
        let mut entry = Bytes::copy_from_slice(entry);
        let version = entry.get_i16();
        let aborted = AbortedTxn::decode(&mut Reader::new(entry), version)?;
        let AbortedTxn { producer_id, first_offset, last_offset, last_stable_offset, .. } = aborted;
        printer.text(format_args!(
            "version: {version} producerId: {producer_id} firstOffset: {first_offset} \
             lastOffset: {last_offset} lastStableOffset: {last_stable_offset}"
        ))?;
        printer.entry(&json!({
            "kind": "aborted",
            "producer_id": producer_id,
            "first_offset": first_offset,
            "last_offset": last_offset,
            "last_stable_offset": last_stable_offset,
        }))?;
    }
    Ok(incomplete(&bytes, ABORTED_ENTRY_SIZE))
}

fn incomplete(bytes: &[u8], entry_size: usize) -> Option<String> {
    let rest = bytes.len() % entry_size;
    (rest != 0).then(|| format!("{rest} bytes behind the last whole entry"))
}
