//! Walks from batch to batch through a segment file, reading it in pieces.

use std::io;

use bytes::Bytes;
use ottla_common::kafka::record_batch::{BATCH_HEADER_SIZE, BatchHeader, RecordBatch};

use super::error::StorageError;
use super::files::DataFile;

/// Pieces for finding one batch near an index entry.
pub const LOOKUP_PIECE_BYTES: usize = 4 * 1024;
/// Pieces for reading a whole file.
pub const SEQUENTIAL_PIECE_BYTES: usize = 256 * 1024;

/// Where the part of a batch that its CRC covers begins.
const CRC_COVERS_FROM: u64 = 21;

/// Why a walk ended before the end of the file.
#[derive(Debug)]
pub enum ScanError {
    /// The disk failed.
    Io(io::Error),
    /// What stands there is not a whole batch.
    Invalid {
        /// Where.
        position: u64,
        /// What is wrong.
        what: String,
    },
}

impl ScanError {
    /// As an error of a file whose batches must all be valid.
    pub fn into_storage_error(self, file: &DataFile) -> StorageError {
        let path = file.path().to_owned();
        match self {
            Self::Io(source) => StorageError::Io { action: "read", path, source },
            Self::Invalid { position, what } => {
                StorageError::Corrupt { path, what: format!("{what}, at byte {position}") }
            }
        }
    }
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A batch in a file.
#[derive(Clone, Copy, Debug)]
pub struct ScannedBatch {
    /// Where it begins.
    pub position: u64,
    /// What its first 61 bytes say.
    pub header: BatchHeader,
}

impl ScannedBatch {
    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.position.saturating_add(self.header.size_bytes() as u64)
    }
}

/// The walk. Headers are read; records only when asked for.
#[derive(Debug)]
pub struct BatchScan<'a> {
    file: &'a DataFile,
    next: u64,
    end: u64,
    piece_bytes: usize,
    piece: Vec<u8>,
    piece_position: u64,
}

impl<'a> BatchScan<'a> {
    /// Walks the batches between two positions, of which the first is the beginning of one.
    pub fn new(file: &'a DataFile, from: u64, end: u64, piece_bytes: usize) -> Self {
        let piece_bytes = piece_bytes.max(BATCH_HEADER_SIZE);
        Self { file, next: from, end, piece_bytes, piece: Vec::new(), piece_position: from }
    }

    /// Where the next batch begins, if there is one.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The bytes at a position, read unless they are at hand. Fewer only at the end.
    fn bytes(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        let available = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let length = length.min(available);
        let at_hand = position
            .checked_sub(self.piece_position)
            .and_then(|start| usize::try_from(start).ok())
            .filter(|&start| start.saturating_add(length) <= self.piece.len());
        let start = match at_hand {
            Some(start) => start,
            None => {
                self.piece.resize(self.piece_bytes.max(length).min(available), 0);
                self.piece_position = position;
                let count = self.file.read_at(&mut self.piece, position)?;
                self.piece.truncate(count);
                0
            }
        };
        let piece = self.piece.get(start..).unwrap_or_default();
        Ok(piece.get(..length).unwrap_or(piece))
    }

    /// The next batch, `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<ScannedBatch>, ScanError> {
        let position = self.next;
        if position >= self.end {
            return Ok(None);
        }
        let end = self.end;
        let invalid = |what: String| ScanError::Invalid { position, what };
        let bytes = self.bytes(position, BATCH_HEADER_SIZE)?;
        let header = BatchHeader::parse(bytes).map_err(|error| invalid(error.to_string()))?;
        let batch = ScannedBatch { position, header };
        if batch.end() > end {
            return Err(invalid(format!(
                "a record batch of {} bytes is cut off after {}",
                header.size_bytes(),
                end - position
            )));
        }
        self.next = batch.end();
        Ok(Some(batch))
    }

    /// Whether a batch's bytes are those that its CRC was made of.
    pub fn has_right_crc(&mut self, batch: &ScannedBatch) -> io::Result<bool> {
        let mut position = batch.position + CRC_COVERS_FROM;
        let mut crc = 0;
        while position < batch.end() {
            let wanted = usize::try_from(batch.end() - position).unwrap_or(usize::MAX);
            let bytes = self.bytes(position, wanted.min(SEQUENTIAL_PIECE_BYTES))?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            crc = crc32c::crc32c_append(crc, bytes);
            position += bytes.len() as u64;
        }
        Ok(crc == batch.header.crc)
    }
}

/// Reads a whole batch.
pub fn read_batch(file: &DataFile, batch: &ScannedBatch) -> io::Result<RecordBatch> {
    let mut bytes = vec![0; batch.header.size_bytes()];
    file.read_exact_at(&mut bytes, batch.position)?;
    Ok(RecordBatch { header: batch.header, bytes: Bytes::from(bytes) })
}
