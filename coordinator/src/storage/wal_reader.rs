//! Reads the log: one segment record by record, and all of them one after the other.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::StorageError;
use super::files::{FileReader, Files, numbered_path};
use super::wal_record::{
    Entry, EntryKind, RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RecordHeader, SEGMENT_HEADER_SIZE,
    SegmentHeader, record_size,
};
use crate::seeded_bugs::{MemberBug, has};

/// What files of log segments end in.
pub const SEGMENT_EXTENSION: &str = "log";

const READ_BUFFER_SIZE: usize = 256 * 1024;

/// What stands where a record could begin.
#[derive(Debug)]
pub enum Step {
    /// The next record.
    Record(Entry),
    /// Zeros, or the end of the file.
    End,
    /// Something that is not the next record; the text says why.
    Invalid(String),
}

/// Reads one segment from its beginning.
#[derive(Debug)]
pub struct SegmentReader {
    reader: BufReader<FileReader>,
    path: PathBuf,
    salt: u32,
    position: u64,
    batch_position: u64,
    length: u64,
    next_index: u64,
}

impl SegmentReader {
    /// Opens the segment of `folder` whose first record has the index `first_index`.
    pub fn open(folder: &Path, files: &Files, first_index: u64) -> Result<Self, StorageError> {
        let path = numbered_path(folder, first_index, SEGMENT_EXTENSION);
        let file = files.open(&path)?;
        let length = file.length()?;
        let capacity = usize::try_from(length).unwrap_or(READ_BUFFER_SIZE).min(READ_BUFFER_SIZE);
        let mut reader = BufReader::with_capacity(capacity, file.into_reader());
        let mut header = [0; SEGMENT_HEADER_SIZE];
        if length < header.len() as u64 {
            return Err(StorageError::corrupt(&path, 0, "the segment's header is cut off"));
        }
        reader.read_exact(&mut header).map_err(StorageError::io("read", &path))?;
        let header = SegmentHeader::parse(&header);
        let header = header.map_err(|reason| StorageError::corrupt(&path, 0, reason))?;
        if header.first_index != first_index {
            let reason = format!("its name says {first_index}, its header {}", header.first_index);
            return Err(StorageError::corrupt(&path, 0, reason));
        }
        let (salt, position) = (header.salt, SEGMENT_HEADER_SIZE as u64);
        let (batch_position, next_index) = (position, first_index);
        Ok(Self { reader, path, salt, position, batch_position, length, next_index })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The segment's part of its records' checksums.
    pub fn salt(&self) -> u32 {
        self.salt
    }

    /// Where the next record begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where the batch of the last record began.
    pub fn batch_position(&self) -> u64 {
        self.batch_position
    }

    /// The index of the next record.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// The next record. After anything but a record there is nothing more to read.
    pub fn step(&mut self) -> Result<Step, StorageError> {
        let remaining = usize::try_from(self.length - self.position).unwrap_or(usize::MAX);
        let mut header = [0; RECORD_HEADER_SIZE];
        if remaining < header.len() {
            let mut piece = Vec::new();
            let read = self.reader.read_to_end(&mut piece);
            read.map_err(StorageError::io("read", &self.path))?;
            let zeros = piece.iter().all(|byte| *byte == 0);
            return Ok(if zeros { Step::End } else { Step::Invalid("it is cut off".to_owned()) });
        }
        self.read_exact(&mut header)?;
        if header == [0; RECORD_HEADER_SIZE] {
            return Ok(Step::End);
        }
        let parsed = RecordHeader::parse(&header);
        let payload_size = parsed.payload_size().filter(|size| record_size(*size) <= remaining);
        let Some(payload_size) = payload_size else {
            return Ok(Step::Invalid(format!("its length {} cannot be", parsed.length)));
        };
        let mut payload = vec![0; payload_size];
        self.read_exact(&mut payload)?;
        if !parsed.verifies(self.salt, &header, &payload) && !has(MemberBug::LogUnchecked) {
            return Ok(Step::Invalid("its checksum is wrong".to_owned()));
        }
        if parsed.index != self.next_index {
            return Ok(Step::Invalid(format!("it is the record {}", parsed.index)));
        }
        let Some(kind) = EntryKind::from_byte(parsed.kind) else {
            // It is whole: a newer build wrote it, and it must not be cut.
            let reason = format!("the kind {} is not one that this build reads", parsed.kind);
            return Err(StorageError::corrupt(&self.path, self.position, reason));
        };
        let size = record_size(payload_size);
        let mut padding = [0; RECORD_ALIGNMENT];
        let padding_size = size - RECORD_HEADER_SIZE - payload_size;
        self.read_exact(padding.get_mut(..padding_size).unwrap_or_default())?;
        if parsed.batch_first == parsed.index {
            self.batch_position = self.position;
        }
        self.position += size as u64;
        self.next_index += 1;
        Ok(Step::Record(Entry {
            index: parsed.index,
            term: parsed.term,
            time_ms: parsed.time_ms,
            kind,
            payload: Bytes::from(payload),
        }))
    }

    fn read_exact(&mut self, target: &mut [u8]) -> Result<(), StorageError> {
        self.reader.read_exact(target).map_err(StorageError::io("read", &self.path))
    }

    /// What stands from [`SegmentReader::position`] to the end of the file, to decide what a record
    /// that is not valid means.
    pub fn read_rest(&mut self) -> Result<Vec<u8>, StorageError> {
        let mut rest = Vec::new();
        let sought = self.reader.seek(SeekFrom::Start(self.position));
        let read = sought.and_then(|_| self.reader.read_to_end(&mut rest));
        read.map_err(StorageError::io("read", &self.path))?;
        Ok(rest)
    }
}

/// Looks in `rest`, which begins where the record `missing` should stand, for a whole record that
/// was written when `missing` was already durable. Returns its place in `rest` and its index.
///
/// A record that was flushed together with `missing` proves nothing: the pages of a flush that did
/// not end reach the disk in any order.
pub fn find_later_record(rest: &[u8], salt: u32, missing: u64) -> Option<(usize, u64)> {
    let index_max = missing + (rest.len() / RECORD_HEADER_SIZE) as u64;
    for place in (0..rest.len()).step_by(RECORD_ALIGNMENT) {
        let (header, behind) = rest.get(place..)?.split_first_chunk::<RECORD_HEADER_SIZE>()?;
        let parsed = RecordHeader::parse(header);
        let later = parsed.batch_first > missing && parsed.batch_first <= parsed.index;
        if !later || parsed.index > index_max {
            continue;
        }
        let payload = parsed.payload_size().and_then(|size| behind.get(..size));
        if payload.is_some_and(|payload| parsed.verifies(salt, header, payload)) {
            return Some((place, parsed.index));
        }
    }
    None
}

/// Reads the log from some record to its end. Anything that is not valid is an error, since what is
/// read has been durable.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    files: Files,
    /// First indexes of the segments still to be opened.
    segments: VecDeque<u64>,
    current: Option<SegmentReader>,
    next_index: u64,
    last_index: u64,
}

impl LogReader {
    /// Reads `from..=last_index`; `segments` are the first indexes of all segments, ascending.
    pub(super) fn new(
        (folder, files): (&Path, &Files),
        segments: &[u64],
        from: u64,
        last_index: u64,
    ) -> Self {
        let start = segments.partition_point(|first| *first <= from).saturating_sub(1);
        let segments = segments.get(start..).unwrap_or_default().iter().copied().collect();
        let (folder, files) = (folder.to_owned(), files.clone());
        Self { folder, files, segments, current: None, next_index: from, last_index }
    }

    fn next_entry(&mut self) -> Result<Entry, StorageError> {
        loop {
            let mut reader = match self.current.take() {
                Some(reader) => reader,
                None => match self.segments.pop_front() {
                    Some(first_index) => {
                        SegmentReader::open(&self.folder, &self.files, first_index)?
                    }
                    None => {
                        let reason = format!("the log has no record {}", self.next_index);
                        return Err(StorageError::inconsistent(&self.folder, reason));
                    }
                },
            };
            let index = reader.next_index();
            match reader.step()? {
                Step::Record(entry) => {
                    self.current = Some(reader);
                    if entry.index >= self.next_index {
                        return Ok(entry);
                    }
                }
                Step::End if self.segments.front() == Some(&index) => {}
                Step::End => return Err(missing_record(&reader, "it is missing")),
                Step::Invalid(reason) => return Err(missing_record(&reader, &reason)),
            }
        }
    }
}

fn missing_record(reader: &SegmentReader, reason: &str) -> StorageError {
    let reason = format!("record {} was flushed, but {reason}", reader.next_index());
    StorageError::corrupt(reader.path(), reader.position(), reason)
}

impl Iterator for LogReader {
    type Item = Result<Entry, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next_index > self.last_index {
            return None;
        }
        let entry = self.next_entry();
        self.next_index = match &entry {
            Ok(entry) => entry.index + 1,
            // Ends behind an error.
            Err(_) => u64::MAX,
        };
        Some(entry)
    }
}
