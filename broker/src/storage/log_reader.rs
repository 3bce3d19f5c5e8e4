//! Reading a log: which bytes of which file answer a fetch. Never waits for an append.

use std::sync::Arc;

use bytes::Bytes;
use ottla_common::kafka::wire::FileRegion;

use super::error::StorageError;
use super::files::DataFile;
use super::log::{AbortedTransaction, Log};
use super::segment::Segment;

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

/// What a read found.
#[derive(Clone, Debug)]
pub struct LogRead {
    /// Whole batches in one file, to be sent without copying; `None` if there is nothing (yet) at
    /// the offset.
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

/// The bytes of a region, for who does not send files.
///
/// # Errors
/// If the disk fails, or the log was cut meanwhile.
pub fn read_region(region: &FileRegion) -> std::io::Result<Bytes> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; region.length];
    region.file.read_exact_at(&mut bytes, region.position)?;
    Ok(Bytes::from(bytes))
}

/// The segments from the one on that may hold `offset`.
pub(super) fn segments_from(segments: &[Arc<Segment>], offset: i64) -> &[Arc<Segment>] {
    let after = segments.partition_point(|segment| segment.base_offset() <= offset);
    segments.get(after.saturating_sub(1)..).unwrap_or_default()
}

impl Log {
    /// Whole batches from an offset on.
    ///
    /// # Errors
    /// If the offset is not in the log, or the disk fails.
    pub fn read(&self, request: LogReadRequest) -> Result<LogRead, LogReadError> {
        self.check_usable()?;
        let LogReadRequest { offset, .. } = request;
        let offsets = self.offsets();
        if offset < offsets.start || offset > offsets.end {
            return Err(LogReadError::OffsetOutOfRange {
                offset,
                log_start_offset: offsets.start,
                log_end_offset: offsets.end,
            });
        }
        let mut read = LogRead {
            region: None,
            first_offset: offset,
            segment_base_offset: offset,
            next_offset: offset,
            log_start_offset: offsets.start,
        };
        if offset >= request.upper_bound {
            return Ok(read);
        }
        let segments = self.segments.load();
        for segment in segments_from(&segments, offset) {
            if segment.base_offset() >= request.upper_bound {
                break;
            }
            read.segment_base_offset = segment.base_offset();
            let invalid =
                |error: super::batch_scan::ScanError| self.read_failed(error, segment.file());
            let Some(first) = segment.find_batch(offset).map_err(invalid)? else { continue };
            let size = first.header.size_bytes();
            if first.header.last_offset() >= request.upper_bound
                || (size > request.max_bytes && !request.min_one_batch)
            {
                break;
            }
            let max_bytes = request.max_bytes.max(size);
            let (end, next_offset) =
                segment.batches_end(&first, max_bytes, request.upper_bound).map_err(invalid)?;
            read.first_offset = first.header.base_offset;
            read.next_offset = next_offset;
            read.region = Some(FileRegion {
                file: segment.file().handle().clone(),
                position: first.position,
                length: usize::try_from(end - first.position).unwrap_or(usize::MAX),
            });
            break;
        }
        Ok(read)
    }

    /// A batch in the midst of the log does not parse, or the disk fails.
    pub(super) fn read_failed(
        &self,
        error: super::batch_scan::ScanError,
        file: &DataFile,
    ) -> StorageError {
        let error = error.into_storage_error(file);
        tracing::error!(log = %self.topic_partition, %error, "read failed");
        self.failed(error)
    }

    /// About how many bytes lie between two offsets: no call to the disk for the newest segment,
    /// and wrong by no more than an index interval (or a batch) at each end.
    pub fn bytes_between(&self, offset: i64, upper_bound: i64) -> u64 {
        if offset >= upper_bound {
            return 0;
        }
        let segments = self.segments.load();
        let mut bytes = 0;
        for segment in segments_from(&segments, offset) {
            if segment.base_offset() >= upper_bound {
                break;
            }
            let state = segment.state().read();
            let end = match state.end_offset <= upper_bound {
                true => state.size,
                false => {
                    let end = state.offset_index.lookup(upper_bound);
                    end.map_or(state.size, |entry| u64::from(entry.position))
                }
            };
            let start = match segment.base_offset() >= offset {
                true => 0,
                false if offset >= state.end_offset => state.size,
                false => {
                    let start = state.offset_index.lookup(offset);
                    start.map_or(0, |entry| u64::from(entry.position))
                }
            };
            bytes += end.saturating_sub(start);
        }
        bytes
    }

    /// The transactions aborted that a reader of `from..to` must know of, by first offset: those
    /// whose marker is at `from` or later and that began before `to`.
    ///
    /// # Errors
    /// If the log may not be read.
    pub fn aborted_transactions(
        &self,
        from: i64,
        to: i64,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        self.check_usable()?;
        let segments = self.segments.load();
        let mut found = Vec::new();
        'segments: for segment in segments_from(&segments, from) {
            for entry in segment.state().read().aborted.entries() {
                if entry.last_offset >= from && entry.first_offset < to {
                    let (producer_id, first_offset) = (entry.producer_id, entry.first_offset);
                    found.push(AbortedTransaction { producer_id, first_offset });
                }
                if entry.last_stable_offset >= to {
                    // No transaction that ended later began before `to`.
                    break 'segments;
                }
            }
        }
        found.sort_by_key(|transaction| (transaction.first_offset, transaction.producer_id));
        Ok(found)
    }
}
