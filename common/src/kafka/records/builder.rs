//! Builds a batch from records.

use bytes::Bytes;

use super::super::compression::Compression;
use super::super::record_batch::{
    BATCH_HEADER_SIZE, BatchError, BatchHeader, DELETE_HORIZON_MASK, LOG_OVERHEAD, TimestampType,
    attributes, checksum, set_crc,
};
use super::super::varint::{put_varint, put_varlong, varint_size, varlong_size};
use super::{RecordHeader, RecordView};

/// What a batch's header says besides what its records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// The codec.
    pub compression: Compression,
    /// The codec's level; `None` is its default.
    pub compression_level: Option<i32>,
    /// Whose clock the timestamps are of.
    pub timestamp_type: TimestampType,
    /// The offset of the first record.
    pub base_offset: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether its records are control records.
    pub control: bool,
    /// The epoch of the leader that appends, or -1.
    pub partition_leader_epoch: i32,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            compression_level: None,
            timestamp_type: TimestampType::CreateTime,
            base_offset: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
            partition_leader_epoch: -1,
        }
    }
}

/// A batch in the making. Records are encoded as they are appended; [`BatchBuilder::build`]
/// compresses them and writes the header.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the encoded records.
    buffer: Vec<u8>,
    records_count: i32,
    next_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    delete_horizon_ms: Option<i64>,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> Self {
        Self::with_capacity(options, 0)
    }

    /// An empty batch with room for `capacity` bytes, the header's included.
    pub fn with_capacity(options: BatchOptions, capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(capacity.max(BATCH_HEADER_SIZE));
        buffer.resize(BATCH_HEADER_SIZE, 0);
        Self {
            options,
            buffer,
            records_count: 0,
            next_offset_delta: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            delete_horizon_ms: None,
        }
    }

    /// Appends a record at the next offset, which is returned.
    ///
    /// # Errors
    /// `TooLarge`, and then nothing was appended.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> Result<i64, BatchError> {
        let headers_size: usize = headers
            .iter()
            .map(|header| nullable_size(Some(&header.key)) + nullable_size(header.value.as_deref()))
            .sum();
        let headers_count = i32::try_from(headers.len()).map_err(|_| BatchError::TooLarge)?;
        let headers_size = varint_size(headers_count).saturating_add(headers_size);
        let fields = Fields { offset_delta: self.next_offset_delta, timestamp, key, value };
        self.append_fields(&fields, headers_size)?;
        put_varint(&mut self.buffer, headers_count);
        for header in headers {
            put_nullable(&mut self.buffer, Some(&header.key));
            put_nullable(&mut self.buffer, header.value.as_deref());
        }
        Ok(self.options.base_offset.saturating_add(i64::from(fields.offset_delta)))
    }

    /// Appends a record of another batch with its offset and timestamp, as a log cleaner does.
    ///
    /// # Errors
    /// `TooLarge`, also if the offset is not between the last one and 2^31 after the base offset.
    pub fn append_view(&mut self, record: &RecordView<'_>) -> Result<(), BatchError> {
        let offset_delta = record.offset.checked_sub(self.options.base_offset);
        let offset_delta = offset_delta.and_then(|delta| i32::try_from(delta).ok());
        let offset_delta = offset_delta.filter(|&delta| delta >= self.next_offset_delta);
        let offset_delta = offset_delta.ok_or(BatchError::TooLarge)?;
        let headers_count =
            i32::try_from(record.headers.len()).map_err(|_| BatchError::TooLarge)?;
        let headers_size = varint_size(headers_count).saturating_add(record.headers.encoded.len());
        let fields = Fields {
            offset_delta,
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
        };
        self.append_fields(&fields, headers_size)?;
        put_varint(&mut self.buffer, headers_count);
        self.buffer.extend_from_slice(record.headers.encoded);
        Ok(())
    }

    /// All of a record but its headers, which have `headers_size` bytes with their count.
    fn append_fields(
        &mut self,
        fields: &Fields<'_>,
        headers_size: usize,
    ) -> Result<(), BatchError> {
        let first = self.records_count == 0;
        let base_timestamp = match self.delete_horizon_ms {
            Some(horizon) => horizon,
            None if first => fields.timestamp,
            None => self.base_timestamp,
        };
        let timestamp_delta = fields.timestamp.wrapping_sub(base_timestamp);
        let size = (1 + varlong_size(timestamp_delta) + varint_size(fields.offset_delta))
            .saturating_add(nullable_size(fields.key))
            .saturating_add(nullable_size(fields.value))
            .saturating_add(headers_size);
        let next_offset_delta = fields.offset_delta.checked_add(1).ok_or(BatchError::TooLarge)?;
        let length = i32::try_from(size).map_err(|_| BatchError::TooLarge)?;
        let total = self.buffer.len().saturating_add(varint_size(length)).saturating_add(size);
        i32::try_from(total).map_err(|_| BatchError::TooLarge)?;

        put_varint(&mut self.buffer, length);
        self.buffer.push(0);
        put_varlong(&mut self.buffer, timestamp_delta);
        put_varint(&mut self.buffer, fields.offset_delta);
        put_nullable(&mut self.buffer, fields.key);
        put_nullable(&mut self.buffer, fields.value);
        self.base_timestamp = base_timestamp;
        let max_timestamp = if first { i64::MIN } else { self.max_timestamp };
        self.max_timestamp = max_timestamp.max(fields.timestamp);
        self.records_count += 1;
        self.next_offset_delta = next_offset_delta;
        Ok(())
    }

    /// How many records were appended.
    pub fn records_count(&self) -> i32 {
        self.records_count
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.records_count == 0
    }

    /// Bytes of the batch, header included, if it is not compressed: never less than with a codec
    /// that makes anything smaller.
    pub fn estimated_size(&self) -> usize {
        self.buffer.len()
    }

    /// The most bytes that appending a record like this can add.
    pub fn record_size_max(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> usize {
        const FIXED_MAX: usize = 5 + 1 + 10 + 5 + 5;
        let headers = headers
            .iter()
            .map(|header| nullable_size(Some(&header.key)) + nullable_size(header.value.as_deref()))
            .sum();
        nullable_size(key)
            .saturating_add(nullable_size(value))
            .saturating_add(headers)
            .saturating_add(FIXED_MAX)
    }

    /// What the batch's header will say besides; may be changed until it is built.
    pub fn options_mut(&mut self) -> &mut BatchOptions {
        &mut self.options
    }

    /// Notes when the batch's tombstones, or its marker, may go (KIP-534), as a log cleaner does.
    /// The time takes the place of the base timestamp, so it must be set before the first record.
    pub fn set_delete_horizon_ms(&mut self, delete_horizon_ms: i64) {
        debug_assert!(self.is_empty(), "timestamps already count from another base");
        self.delete_horizon_ms = Some(delete_horizon_ms);
        self.base_timestamp = delete_horizon_ms;
    }

    /// Makes the batch end at `last_offset` although its last records are gone, as a log cleaner
    /// does.
    ///
    /// # Errors
    /// `TooLarge` if that is before the last record, or 2^31 after the base offset.
    pub fn set_last_offset(&mut self, last_offset: i64) -> Result<(), BatchError> {
        let delta = last_offset.checked_sub(self.options.base_offset);
        let delta = delta.and_then(|delta| i32::try_from(delta.checked_add(1)?).ok());
        let delta = delta.filter(|&delta| delta >= self.next_offset_delta.max(1));
        self.next_offset_delta = delta.ok_or(BatchError::TooLarge)?;
        Ok(())
    }

    fn attributes(&self) -> i16 {
        let options = &self.options;
        let horizon = if self.delete_horizon_ms.is_some() { DELETE_HORIZON_MASK } else { 0 };
        let (transactional, control) = (options.transactional, options.control);
        let rest = attributes(options.compression, options.timestamp_type, transactional, control);
        horizon | rest
    }

    /// The batch.
    ///
    /// # Errors
    /// If the codec refuses.
    pub fn build(mut self) -> Result<Bytes, BatchError> {
        let options = self.options;
        if options.compression != Compression::None {
            let records = self.buffer.get(BATCH_HEADER_SIZE..).unwrap_or_default();
            let mut compressed = Vec::with_capacity(BATCH_HEADER_SIZE + records.len() / 2);
            compressed.resize(BATCH_HEADER_SIZE, 0);
            options.compression.compress(records, options.compression_level, &mut compressed)?;
            self.buffer = compressed;
        }
        let length = self.buffer.len() - LOG_OVERHEAD;
        let header = BatchHeader {
            base_offset: options.base_offset,
            batch_length: i32::try_from(length).map_err(|_| BatchError::TooLarge)?,
            partition_leader_epoch: options.partition_leader_epoch,
            crc: 0,
            attributes: self.attributes(),
            last_offset_delta: (self.next_offset_delta - 1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            records_count: self.records_count,
        };
        if let Some(place) = self.buffer.first_chunk_mut() {
            *place = header.to_bytes();
        }
        let crc = checksum(&self.buffer);
        set_crc(&mut self.buffer, crc)?;
        Ok(Bytes::from(self.buffer))
    }
}

/// A record without its headers.
struct Fields<'a> {
    offset_delta: i32,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

/// Bytes of a key or value with its length. A length that is too long for the format is found out
/// where the record's whole length is.
fn nullable_size(bytes: Option<&[u8]>) -> usize {
    let length = bytes.map_or(0, <[u8]>::len);
    varint_size(length_or_null(bytes)).saturating_add(length)
}

fn put_nullable(buffer: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(buffer, length_or_null(bytes));
    buffer.extend_from_slice(bytes.unwrap_or_default());
}

fn length_or_null(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX))
}

/// The control record that ends a transaction in a partition (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Whether the transaction was committed; else it was aborted.
    pub commit: bool,
    /// The epoch of the transaction coordinator that wrote the marker.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The batch that holds this marker alone. The options' control and transactional bits are set.
    ///
    /// # Errors
    /// None in practice; see [`BatchBuilder::build`].
    pub fn batch(self, options: BatchOptions, timestamp: i64) -> Result<Bytes, BatchError> {
        let kind: i16 = self.commit.into();
        let [kind_high, kind_low] = kind.to_be_bytes();
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        let options = BatchOptions { control: true, transactional: true, ..options };
        let mut builder = BatchBuilder::new(options);
        let (key, value) = ([0, 0, kind_high, kind_low], [0, 0, a, b, c, d]);
        builder.append(timestamp, Some(&key), Some(&value), &[])?;
        builder.build()
    }

    /// The marker that a control record holds. `None` if it is another kind of control record.
    pub fn parse(key: &[u8], value: &[u8]) -> Option<Self> {
        let kind = key.get(2..4)?.first_chunk().copied().map(i16::from_be_bytes)?;
        let commit = match kind {
            0 => false,
            1 => true,
            _ => return None,
        };
        let coordinator_epoch = value.get(2..6)?.first_chunk().copied().map(i32::from_be_bytes)?;
        Some(Self { commit, coordinator_epoch })
    }
}
