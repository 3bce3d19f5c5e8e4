//! `<offset>.snapshot`: all producers of a log as they were when it ended at that offset, so that
//! recovery need not read the log from its start. One is written at each roll and at a clean stop.
//!
//! Big-endian: version (i16, 1), CRC-32C of all that follows it (u32), number of entries (i32),
//! then entries of 46 bytes: producer id (i64), producer epoch (i16), last sequence (i32), last
//! offset (i64), last offset minus first of the last batch (i32), timestamp (i64), coordinator
//! epoch (i32), first offset of the open transaction (i64). -1 where there is nothing.

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::error::StorageError;
use super::files::FileSystem;
use super::producer_state::{BatchMetadata, ProducerEntry, Producers};
use super::segment::segment_file;

const VERSION: i16 = 1;
const CRC_COVERS_FROM: usize = 6;
const ENTRY_BYTES: usize = 46;

/// What a snapshot's file name ends with.
pub const SNAPSHOT_SUFFIX: &str = ".snapshot";

/// The file of the snapshot at an offset.
pub fn snapshot_file(folder: &Path, offset: i64) -> PathBuf {
    segment_file(folder, offset, SNAPSHOT_SUFFIX)
}

fn encode(producers: &Producers) -> Vec<u8> {
    let entries = producers.entries();
    let mut bytes = Vec::with_capacity(CRC_COVERS_FROM + 4 + entries.len() * ENTRY_BYTES);
    bytes.put_i32(i32::try_from(entries.len()).unwrap_or(i32::MAX));
    for (&producer_id, entry) in entries {
        let nothing =
            BatchMetadata { last_sequence: -1, last_offset: -1, ..BatchMetadata::default() };
        let batch = entry.last_batch().unwrap_or(&nothing);
        bytes.put_i64(producer_id);
        bytes.put_i16(entry.producer_epoch);
        bytes.put_i32(batch.last_sequence);
        bytes.put_i64(batch.last_offset);
        bytes.put_i32(batch.offset_delta);
        bytes.put_i64(entry.last_timestamp);
        bytes.put_i32(entry.coordinator_epoch);
        bytes.put_i64(entry.current_txn_first_offset.unwrap_or(-1));
    }
    let mut file = Vec::with_capacity(CRC_COVERS_FROM + bytes.len());
    file.put_i16(VERSION);
    file.put_u32(crc32c::crc32c(&bytes));
    file.extend_from_slice(&bytes);
    file
}

fn decode(mut bytes: &[u8]) -> Result<Producers, String> {
    if bytes.len() < CRC_COVERS_FROM + 4 {
        return Err(format!("it has {} bytes", bytes.len()));
    }
    let version = bytes.get_i16();
    if version != VERSION {
        return Err(format!("its version is {version}, not {VERSION}"));
    }
    if bytes.get_u32() != crc32c::crc32c(bytes) {
        return Err("its CRC is wrong".to_owned());
    }
    let count = usize::try_from(bytes.get_i32()).unwrap_or(usize::MAX);
    if count.checked_mul(ENTRY_BYTES) != Some(bytes.len()) {
        return Err(format!("it says it has {count} entries and has {} bytes", bytes.len()));
    }
    let mut producers = Producers::default();
    while bytes.has_remaining() {
        let producer_id = bytes.get_i64();
        let producer_epoch = bytes.get_i16();
        let (last_sequence, last_offset) = (bytes.get_i32(), bytes.get_i64());
        let (offset_delta, timestamp) = (bytes.get_i32(), bytes.get_i64());
        let batch = BatchMetadata { last_sequence, last_offset, offset_delta, timestamp };
        let batch = (last_offset >= 0).then_some(batch);
        let coordinator_epoch = bytes.get_i32();
        let first_offset = bytes.get_i64();
        let mut entry =
            ProducerEntry::restored(producer_epoch, coordinator_epoch, timestamp, batch);
        entry.current_txn_first_offset = (first_offset >= 0).then_some(first_offset);
        producers.insert(producer_id, entry);
    }
    Ok(producers)
}

/// Writes a snapshot. It is whole or not there, and on disk only after the file was synced.
///
/// # Errors
/// If the disk fails.
pub fn write(
    file_system: &FileSystem,
    folder: &Path,
    offset: i64,
    producers: &Producers,
) -> Result<(), StorageError> {
    let path = snapshot_file(folder, offset);
    let write = || {
        let file = file_system.open(&path)?;
        file.set_length(0)?;
        // If this is cut short, the CRC says so.
        file.write_all_at(&encode(producers), 0)
    };
    write().map_err(StorageError::io("write", &path))
}

/// Reads a snapshot; `Ok(Err(what))` if it is damaged.
///
/// # Errors
/// If the disk fails.
pub fn read(
    file_system: &FileSystem,
    folder: &Path,
    offset: i64,
) -> Result<Result<Producers, String>, StorageError> {
    let path = snapshot_file(folder, offset);
    let content = file_system.read(&path).map_err(StorageError::io("read", &path))?;
    Ok(content.map_or_else(|| Err("it is gone".to_owned()), |content| decode(&content)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_common::kafka::record_batch::BatchHeader;

    #[test]
    fn producers_survive_their_file_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileSystem::real();
        let mut producers = Producers::default();
        for producer_id in 0..3 {
            producers.entry(producer_id).append(&BatchHeader {
                base_offset: 5 * producer_id,
                last_offset_delta: 4,
                attributes: 0x10,
                producer_id,
                producer_epoch: 2,
                base_sequence: 0,
                max_timestamp: 99,
                ..BatchHeader::default()
            });
        }
        write(&files, folder.path(), 15, &producers).unwrap();
        let path = folder.path().join("00000000000000000015.snapshot");
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len(), 2 + 4 + 4 + 3 * 46);
        assert_eq!(read(&files, folder.path(), 15).unwrap(), Ok(producers));
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 4;
            std::fs::write(&path, &bad).unwrap();
            assert!(read(&files, folder.path(), 15).unwrap().is_err(), "byte {position}");
            std::fs::write(&path, &good[..position]).unwrap();
            assert!(read(&files, folder.path(), 15).unwrap().is_err(), "cut at {position}");
        }
        assert!(read(&files, folder.path(), 16).unwrap().is_err());
    }
}
