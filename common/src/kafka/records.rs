//! The records inside of a batch: reading, checking and building them.
//!
//! A record is a varint of its length, then attributes (unused), timestamp delta, offset delta,
//! key, value and headers, lengths and deltas as zigzag varints, -1 for null. Deltas count from the
//! batch's base timestamp and base offset.
//!
//! Three ways lead in: [`RecordBatch::records`] gives records that share the batch's (decompressed)
//! bytes; [`RecordBuffer::views`] borrows and allocates nothing; [`validate_records`] streams
//! through a batch and keeps nothing of it, for the produce path. All of them take a batch from a
//! stranger: counts and lengths are compared with the bytes that are there, and never decide how
//! much to allocate.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod builder;
mod validation;

use std::borrow::Cow;

use bytes::Bytes;

use super::record_batch::{BatchError, BatchHeader, RecordBatch, TimestampType};
use super::varint::{take_varint, take_varlong};

pub use builder::{BatchBuilder, BatchOptions, EndTransactionMarker};
pub use validation::{RecordsSummary, validate_records};

/// The bounds of reading a batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// The most bytes that the records may have when decompressed.
    pub decompressed_bytes_max: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { decompressed_bytes_max: 256 << 20 }
    }
}

/// A header of a record (KIP-82).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The key: UTF-8, if its writer kept to the rules.
    pub key: Bytes,
    /// The value, which may be null.
    pub value: Option<Bytes>,
}

impl RecordHeader {
    /// A header.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    /// The key as text; bytes that are not UTF-8 are replaced.
    pub fn key_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// A record, which shares the bytes of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// The key, which may be null.
    pub key: Option<Bytes>,
    /// The value; null is a tombstone where logs are compacted.
    pub value: Option<Bytes>,
    /// The headers, in order; a key may appear more than once.
    pub headers: Vec<RecordHeader>,
}

/// A record that borrows everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its number in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// The key, which may be null.
    pub key: Option<&'a [u8]>,
    /// The value, which may be null.
    pub value: Option<&'a [u8]>,
    /// The headers, which were checked to be well-formed.
    pub headers: HeadersView<'a>,
}

/// The headers of a [`RecordView`], decoded as they are iterated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadersView<'a> {
    encoded: &'a [u8],
    count: usize,
}

impl<'a> HeadersView<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut encoded = self.encoded;
        std::iter::from_fn(move || take_header(&mut encoded).ok())
    }
}

/// Why a record is refused.
type Reason = &'static str;

impl RecordBatch {
    /// The records, which share the batch's bytes, or the bytes that those decompress to. After the
    /// first error it ends; it also is an error if the batch holds more, or less, than its count.
    /// The CRC is not looked at.
    pub fn records(&self, limits: RecordLimits) -> RecordIter {
        match self.record_buffer(limits) {
            Ok(buffer) => RecordIter { cursor: Cursor::new(&buffer), buffer, failure: None },
            Err(error) => RecordIter {
                cursor: Cursor::ended(&self.header),
                buffer: RecordBuffer { header: self.header, bytes: Bytes::new() },
                failure: Some(error),
            },
        }
    }

    /// The decompressed records, to be looked at without an allocation for each.
    ///
    /// # Errors
    /// If they do not decompress, or are larger than allowed.
    pub fn record_buffer(&self, limits: RecordLimits) -> Result<RecordBuffer, BatchError> {
        let codec = self.header.compression()?;
        let bytes = codec.decompress(&self.payload(), limits.decompressed_bytes_max)?;
        Ok(RecordBuffer { header: self.header, bytes })
    }
}

/// The decompressed records of a batch.
#[derive(Clone, Debug)]
pub struct RecordBuffer {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBuffer {
    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records, borrowed.
    pub fn views(&self) -> impl Iterator<Item = Result<RecordView<'_>, BatchError>> {
        let mut cursor = Cursor::new(self);
        std::iter::from_fn(move || cursor.next(&self.bytes))
    }
}

/// The iterator of [`RecordBatch::records`].
#[derive(Debug)]
pub struct RecordIter {
    buffer: RecordBuffer,
    cursor: Cursor,
    failure: Option<BatchError>,
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failure.take() {
            return Some(Err(error));
        }
        let view = self.cursor.next(&self.buffer.bytes)?;
        Some(view.map(|view| share(&self.buffer.bytes, &view)))
    }
}

/// The record of `view`, whose slices lie in `bytes`.
fn share(bytes: &Bytes, view: &RecordView<'_>) -> Record {
    let share = |slice: &[u8]| bytes.slice_ref(slice);
    let headers = view.headers.iter();
    Record {
        offset: view.offset,
        timestamp: view.timestamp,
        key: view.key.map(share),
        value: view.value.map(share),
        headers: headers
            .map(|(key, value)| RecordHeader { key: share(key), value: value.map(share) })
            .collect(),
    }
}

/// A place in the records of a batch.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    position: usize,
    index: i32,
    count: i32,
    base_offset: i64,
    last_offset_delta: i32,
    /// Larger than that of the record before; offsets may have gaps, never steps back.
    offset_delta_min: i32,
    base_timestamp: i64,
    log_append_time: Option<i64>,
}

impl Cursor {
    fn new(buffer: &RecordBuffer) -> Self {
        Self { count: buffer.header.records_count, ..Self::ended(&buffer.header) }
    }

    fn ended(header: &BatchHeader) -> Self {
        let append_time = header.timestamp_type() == TimestampType::LogAppendTime;
        Self {
            position: 0,
            index: 0,
            count: 0,
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            offset_delta_min: 0,
            base_timestamp: header.base_timestamp,
            log_append_time: append_time.then_some(header.max_timestamp),
        }
    }

    fn next<'a>(&mut self, bytes: &'a [u8]) -> Option<Result<RecordView<'a>, BatchError>> {
        let index = self.index;
        let rest = bytes.get(self.position..).unwrap_or_default();
        let result = if index < self.count {
            self.decode(rest)
        } else if rest.is_empty() {
            return None;
        } else {
            Err("bytes follow the last record")
        };
        if result.is_err() {
            // Ends the iteration: no record is left, and no byte.
            self.count = 0;
            self.position = usize::MAX;
        }
        Some(result.map_err(|reason| BatchError::InvalidRecord { index, reason }))
    }

    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<RecordView<'a>, Reason> {
        let mut rest = bytes;
        let length = take_varint(&mut rest).ok_or("its length is cut off")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let (body, rest) = rest.split_at_checked(length).ok_or("it is cut off")?;
        let fields = take_fields(body)?;
        if fields.offset_delta < self.offset_delta_min {
            return Err("its offset is not larger than the one before");
        }
        if fields.offset_delta > self.last_offset_delta {
            return Err("its offset is beyond the batch's last");
        }
        self.position += bytes.len() - rest.len();
        self.index += 1;
        self.offset_delta_min = fields.offset_delta.saturating_add(1);
        let create_time = self.base_timestamp.wrapping_add(fields.timestamp_delta);
        Ok(RecordView {
            offset: self.base_offset.saturating_add(i64::from(fields.offset_delta)),
            timestamp: self.log_append_time.unwrap_or(create_time),
            key: fields.key,
            value: fields.value,
            headers: fields.headers,
        })
    }
}

/// A record's body as it is encoded.
struct Fields<'a> {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: HeadersView<'a>,
}

fn take_fields(body: &[u8]) -> Result<Fields<'_>, Reason> {
    let (_attributes, mut rest) = body.split_first().ok_or("it is empty")?;
    let rest = &mut rest;
    let timestamp_delta = take_varlong(rest).ok_or("its timestamp is cut off")?;
    let offset_delta = take_varint(rest).ok_or("its offset is cut off")?;
    let key = take_nullable(rest).ok_or("its key is cut off")?;
    let value = take_nullable(rest).ok_or("its value is cut off")?;
    let count = take_varint(rest).ok_or("its count of headers is cut off")?;
    let count = usize::try_from(count).map_err(|_| "its count of headers is negative")?;
    let encoded = *rest;
    for _ in 0..count {
        take_header(rest)?;
    }
    if !rest.is_empty() {
        return Err("bytes follow its headers");
    }
    let headers = HeadersView { encoded, count };
    Ok(Fields { timestamp_delta, offset_delta, key, value, headers })
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), Reason> {
    let key = take_nullable(rest).flatten().ok_or("a header's key is null or cut off")?;
    let value = take_nullable(rest).ok_or("a header's value is cut off")?;
    Ok((key, value))
}

/// Takes a length and as many bytes. `None` if they are not there, `Some(None)` for null.
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = take_varint(rest)?;
    let Ok(length) = usize::try_from(length) else {
        return (length == -1).then_some(None);
    };
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Some(bytes))
}

#[cfg(test)]
mod tests;
