//! Record batches of format 2 (KIP-98) as they lie in a request, in a response and in a log file:
//! a header of 61 bytes, then the records, which this file never looks into (`records.rs` does).
//!
//! | position | field | type |
//! |---|---|---|
//! | 0 | base offset | i64 |
//! | 8 | batch length: bytes after this field | i32 |
//! | 12 | partition leader epoch | i32 |
//! | 16 | magic, always 2 | i8 |
//! | 17 | CRC-32C of everything from the attributes to the end | u32 |
//! | 21 | attributes | i16 |
//! | 23 | last offset delta | i32 |
//! | 27 | base timestamp (the delete horizon, if attribute bit 6 is set) | i64 |
//! | 35 | max timestamp | i64 |
//! | 43 | producer id | i64 |
//! | 51 | producer epoch | i16 |
//! | 53 | base sequence | i32 |
//! | 57 | records count | i32 |
//!
//! What a broker sets on append (base offset, partition leader epoch) stands before the part that
//! the CRC covers; a log append time stands in it, so setting that one computes the CRC anew.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use bytes::{Buf, Bytes};

use super::compression::{Compression, CompressionError};

/// Bytes of a batch's header, after which its records begin.
pub const BATCH_HEADER_SIZE: usize = 61;
/// Bytes that the batch length does not count: the base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// The one supported value of the magic byte.
pub const MAGIC: i8 = 2;

const LENGTH_POSITION: usize = 8;
const LEADER_EPOCH_POSITION: usize = 12;
const MAGIC_POSITION: usize = 16;
const CRC_POSITION: usize = 17;
const ATTRIBUTES_POSITION: usize = 21;
const MAX_TIMESTAMP_POSITION: usize = 35;

const COMPRESSION_MASK: i16 = 0x07;
const TIMESTAMP_TYPE_MASK: i16 = 0x08;
const TRANSACTIONAL_MASK: i16 = 0x10;
const CONTROL_MASK: i16 = 0x20;
pub(super) const DELETE_HORIZON_MASK: i16 = 0x40;

/// What is wrong with a batch or with its records.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes end inside the batch.
    #[error("a record batch of {needed} bytes has only {available}")]
    Truncated {
        /// Bytes that the batch says it has.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// Message sets of the formats 0 and 1, which Kafka 4 no longer takes, or garbage.
    #[error("record batch magic {0} is not supported, only 2 is")]
    UnsupportedMagic(i8),
    /// The batch length is smaller than a header.
    #[error("record batch length {0} is smaller than a batch header")]
    InvalidLength(i32),
    /// A header field that no writer writes.
    #[error("invalid record batch header: {0}")]
    InvalidHeader(&'static str),
    /// The bytes are not those that the producer wrote.
    #[error("record batch CRC is {computed:08x}, its header says {stored:08x}")]
    CrcMismatch {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// There are bytes after the one batch that was expected.
    #[error("{0} bytes follow the record batch")]
    TrailingBytes(usize),
    /// A record that breaks the format, or that its batch's header contradicts.
    #[error("record {index} of the batch is invalid: {reason}")]
    InvalidRecord {
        /// The record's number in its batch, from 0.
        index: i32,
        /// What is wrong.
        reason: &'static str,
    },
    /// More records than a batch can hold.
    #[error("a record batch cannot be larger than 2 GiB")]
    TooLarge,
    /// The records could not be decompressed, or are larger than allowed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Whose clock gave the timestamps of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's, record by record.
    #[default]
    CreateTime,
    /// The broker's: all records have the batch's max timestamp.
    LogAppendTime,
}

/// The decoded header of a batch. A copy: changing it does not change any bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record (after compaction: that it had, if it is gone).
    pub base_offset: i64,
    /// Bytes of the batch after its first [`LOG_OVERHEAD`].
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch; -1 in a producer's request.
    pub partition_leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Bits 0–2 compression, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon.
    pub attributes: i16,
    /// The last record's offset minus the base offset; compaction does not change it.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas are added to, or the delete horizon (bit 6).
    pub base_timestamp: i64,
    /// The largest timestamp of the records; -1 if there is none.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records there are: data of the sender, never a size to allocate.
    pub records_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the beginning of `bytes`, which may end anywhere after it.
    ///
    /// # Errors
    /// If there are not 61 bytes, the magic is not 2, or a length or count cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic stands at the same place in all formats, so an old one is named as such even
        // where it is shorter than our header.
        if let Some(&magic) = bytes.get(MAGIC_POSITION) {
            let magic = i8::from_be_bytes([magic]);
            if magic != MAGIC {
                return Err(BatchError::UnsupportedMagic(magic));
            }
        }
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_SIZE>() else {
            let available = bytes.len();
            return Err(BatchError::Truncated { needed: BATCH_HEADER_SIZE, available });
        };
        let header = Self::decode(header);
        header.check()?;
        Ok(header)
    }

    fn decode(bytes: &[u8; BATCH_HEADER_SIZE]) -> Self {
        let mut fields = bytes.as_slice();
        let base_offset = fields.get_i64();
        let batch_length = fields.get_i32();
        let partition_leader_epoch = fields.get_i32();
        let _magic = fields.get_i8();
        Self {
            base_offset,
            batch_length,
            partition_leader_epoch,
            crc: fields.get_u32(),
            attributes: fields.get_i16(),
            last_offset_delta: fields.get_i32(),
            base_timestamp: fields.get_i64(),
            max_timestamp: fields.get_i64(),
            producer_id: fields.get_i64(),
            producer_epoch: fields.get_i16(),
            base_sequence: fields.get_i32(),
            records_count: fields.get_i32(),
        }
    }

    fn check(&self) -> Result<(), BatchError> {
        let length = usize::try_from(self.batch_length)
            .map_err(|_| BatchError::InvalidLength(self.batch_length))?;
        if length < BATCH_HEADER_SIZE - LOG_OVERHEAD {
            return Err(BatchError::InvalidLength(self.batch_length));
        }
        if self.base_offset < 0 {
            return Err(BatchError::InvalidHeader("the base offset is negative"));
        }
        if self.last_offset_delta < 0 {
            return Err(BatchError::InvalidHeader("the last offset delta is negative"));
        }
        if self.base_offset.checked_add(i64::from(self.last_offset_delta)).is_none() {
            return Err(BatchError::InvalidHeader("the last offset is beyond 64 bits"));
        }
        // Compaction removes records and keeps the last offset, so fewer are right, more never.
        if self.records_count < 0
            || i64::from(self.records_count) > i64::from(self.last_offset_delta) + 1
        {
            return Err(BatchError::InvalidHeader("the records count contradicts the offsets"));
        }
        Ok(())
    }

    /// The header's bytes, CRC and lengths as they stand in this struct.
    pub fn to_bytes(&self) -> [u8; BATCH_HEADER_SIZE] {
        let mut bytes = [0; BATCH_HEADER_SIZE];
        bytes[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        bytes[16..17].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..].copy_from_slice(&self.records_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch, header included.
    pub fn size_bytes(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0).saturating_add(LOG_OVERHEAD)
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The sequence number of the last record, which wraps from `i32::MAX` to 0; -1 if the batch
    /// has no sequence.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// If the attributes name a codec that does not exist.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Ok(Compression::from_id(self.attributes & COMPRESSION_MASK)?)
    }

    /// Whose clock the timestamps are of.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes & TIMESTAMP_TYPE_MASK {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the batch belongs to a transaction (markers do too).
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_MASK != 0
    }

    /// Whether the batch holds control records (transaction markers), which consumers do not see.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_MASK != 0
    }

    /// When the cleaner may drop the batch's tombstones (KIP-534), in milliseconds since 1970.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_MASK != 0).then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer wrote the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }
}

/// `sequence + increment` as producers count: after `i32::MAX` comes 0.
pub fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    sequence.wrapping_add(increment) & i32::MAX
}

/// The attributes field of a batch of this kind.
pub fn attributes(
    compression: Compression,
    timestamp_type: TimestampType,
    transactional: bool,
    control: bool,
) -> i16 {
    let mut attributes = compression.id();
    if timestamp_type == TimestampType::LogAppendTime {
        attributes |= TIMESTAMP_TYPE_MASK;
    }
    if transactional {
        attributes |= TRANSACTIONAL_MASK;
    }
    if control {
        attributes |= CONTROL_MASK;
    }
    attributes
}

/// One whole batch: its decoded header, and all its bytes, the header's included. The header's
/// `size_bytes` is the length of `bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    /// What the first 61 bytes say.
    pub header: BatchHeader,
    /// All bytes of the batch, shared with what they were split from.
    pub bytes: Bytes,
}

impl RecordBatch {
    /// Takes the first batch off `bytes`, without copying. `None` if there is not a whole batch (a
    /// fetch response may end inside one), and then `bytes` is left alone.
    ///
    /// # Errors
    /// If what is there is not the beginning of a batch.
    pub fn split_from(bytes: &mut Bytes) -> Result<Option<Self>, BatchError> {
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(BatchError::Truncated { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if header.size_bytes() > bytes.len() {
            return Ok(None);
        }
        Ok(Some(Self { header, bytes: bytes.split_to(header.size_bytes()) }))
    }

    /// The one batch that `bytes` must be: Produce carries one for each partition.
    ///
    /// # Errors
    /// If the bytes are not one whole batch and nothing else. The CRC is not looked at.
    pub fn parse_one(mut bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let available = bytes.len();
        let Some(after) = available.checked_sub(header.size_bytes()) else {
            return Err(BatchError::Truncated { needed: header.size_bytes(), available });
        };
        if after > 0 {
            return Err(BatchError::TrailingBytes(after));
        }
        Ok(Self { header, bytes: bytes.split_to(available) })
    }

    /// Checks the CRC, the counts of the header, and that the codec is known. What the records say
    /// is `validate_records`'s business.
    ///
    /// # Errors
    /// What is wrong.
    pub fn validate(&self) -> Result<(), BatchError> {
        self.header.check()?;
        self.header.compression()?;
        let computed = checksum(&self.bytes);
        if computed != self.header.crc {
            return Err(BatchError::CrcMismatch { stored: self.header.crc, computed });
        }
        Ok(())
    }

    /// The bytes after the header: the records, compressed or not.
    pub fn payload(&self) -> Bytes {
        let mut bytes = self.bytes.clone();
        bytes.advance(bytes.len().min(BATCH_HEADER_SIZE));
        bytes
    }

    /// A copy of the header's bytes to patch.
    pub fn patched_header(&self) -> PatchedHeader {
        match self.bytes.first_chunk() {
            Some(&bytes) => PatchedHeader { bytes },
            None => PatchedHeader { bytes: self.header.to_bytes() },
        }
    }
}

/// CRC-32C of a whole batch's bytes from the attributes on: what its header should say.
pub fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(ATTRIBUTES_POSITION..).unwrap_or_default())
}

/// The batches in `bytes`, one after another, without copying. Ends at a batch that is cut off, as
/// the last one of a fetch response may be ([`Batches::rest`] tells), and after the first error.
pub fn batches(bytes: Bytes) -> Batches {
    Batches { bytes, failed: false }
}

/// The iterator of [`batches`].
#[derive(Clone, Debug)]
pub struct Batches {
    bytes: Bytes,
    failed: bool,
}

impl Batches {
    /// What was not read yet; at the end: the batch that was cut off, or nothing.
    pub fn rest(&self) -> &Bytes {
        &self.bytes
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = RecordBatch::split_from(&mut self.bytes).transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// A copy of a batch's header with what the broker sets, to be written before the rest of the
/// original bytes, which are neither copied nor changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchedHeader {
    bytes: [u8; BATCH_HEADER_SIZE],
}

impl PatchedHeader {
    /// A copy of the header at the beginning of `batch`.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`].
    pub fn new(batch: &[u8]) -> Result<Self, BatchError> {
        BatchHeader::parse(batch)?;
        let needed = BATCH_HEADER_SIZE;
        let available = batch.len();
        let header = batch.first_chunk().ok_or(BatchError::Truncated { needed, available })?;
        Ok(Self { bytes: *header })
    }

    /// The patched bytes.
    pub fn as_bytes(&self) -> &[u8; BATCH_HEADER_SIZE] {
        &self.bytes
    }

    /// The patched fields.
    pub fn header(&self) -> BatchHeader {
        BatchHeader::decode(&self.bytes)
    }

    /// Sets the offset of the first record. The CRC does not cover it.
    pub fn set_base_offset(&mut self, base_offset: i64) {
        put_base_offset(&mut self.bytes, base_offset);
    }

    /// Sets the epoch of the appending leader. The CRC does not cover it.
    pub fn set_partition_leader_epoch(&mut self, partition_leader_epoch: i32) {
        put_partition_leader_epoch(&mut self.bytes, partition_leader_epoch);
    }

    /// Sets the largest timestamp, where the producer's was wrong (Kafka corrects it). The CRC is
    /// made to fit.
    pub fn set_max_timestamp(&mut self, timestamp_ms: i64) {
        let attributes = BatchHeader::decode(&self.bytes).attributes;
        put_timestamps(&mut self.bytes, attributes, timestamp_ms);
    }

    /// Makes the broker's time the time of all records. The CRC is made to fit from the old one,
    /// without reading the records: a batch that was sound stays so, one that was corrupt too.
    pub fn set_log_append_time(&mut self, time_ms: i64) {
        put_log_append_time(&mut self.bytes, time_ms);
    }
}

/// Sets the offset of the first record of the batch at the beginning of `batch`, in place.
///
/// # Errors
/// If `batch` is shorter than a header.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) -> Result<(), BatchError> {
    put_base_offset(header_bytes(batch)?, base_offset);
    Ok(())
}

/// Sets the appending leader's epoch of the batch at the beginning of `batch`, in place.
///
/// # Errors
/// If `batch` is shorter than a header.
pub fn set_partition_leader_epoch(
    batch: &mut [u8],
    partition_leader_epoch: i32,
) -> Result<(), BatchError> {
    put_partition_leader_epoch(header_bytes(batch)?, partition_leader_epoch);
    Ok(())
}

/// As [`PatchedHeader::set_log_append_time`], in place.
///
/// # Errors
/// If `batch` is shorter than a header.
pub fn set_log_append_time(batch: &mut [u8], time_ms: i64) -> Result<(), BatchError> {
    put_log_append_time(header_bytes(batch)?, time_ms);
    Ok(())
}

/// Sets who wrote the batch at the beginning of `batch`, in place, and makes the CRC fit.
///
/// # Errors
/// If `batch` is shorter than a header.
pub fn set_producer(
    batch: &mut [u8],
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
) -> Result<(), BatchError> {
    let header = BatchHeader {
        producer_id,
        producer_epoch,
        base_sequence,
        ..BatchHeader::decode(header_bytes(batch)?)
    };
    *header_bytes(batch)? = header.to_bytes();
    let crc = checksum(batch.get(..header.size_bytes()).unwrap_or(batch));
    set_crc(batch, crc)
}

/// Sets the CRC of the batch at the beginning of `batch`, in place. See [`checksum`].
///
/// # Errors
/// If `batch` is shorter than a header.
pub fn set_crc(batch: &mut [u8], crc: u32) -> Result<(), BatchError> {
    put_crc(header_bytes(batch)?, crc);
    Ok(())
}

fn header_bytes(batch: &mut [u8]) -> Result<&mut [u8; BATCH_HEADER_SIZE], BatchError> {
    let available = batch.len();
    batch.first_chunk_mut().ok_or(BatchError::Truncated { needed: BATCH_HEADER_SIZE, available })
}

fn put_base_offset(header: &mut [u8; BATCH_HEADER_SIZE], base_offset: i64) {
    header[..LENGTH_POSITION].copy_from_slice(&base_offset.to_be_bytes());
}

fn put_partition_leader_epoch(header: &mut [u8; BATCH_HEADER_SIZE], leader_epoch: i32) {
    header[LEADER_EPOCH_POSITION..MAGIC_POSITION].copy_from_slice(&leader_epoch.to_be_bytes());
}

fn put_log_append_time(header: &mut [u8; BATCH_HEADER_SIZE], time_ms: i64) {
    let attributes = BatchHeader::decode(header).attributes | TIMESTAMP_TYPE_MASK;
    put_timestamps(header, attributes, time_ms);
}

fn put_timestamps(header: &mut [u8; BATCH_HEADER_SIZE], attributes: i16, max_timestamp: i64) {
    let before = BatchHeader::decode(header);
    let checksum_before = crc32c::crc32c(&header[ATTRIBUTES_POSITION..]);
    header[ATTRIBUTES_POSITION..ATTRIBUTES_POSITION + 2].copy_from_slice(&attributes.to_be_bytes());
    header[MAX_TIMESTAMP_POSITION..MAX_TIMESTAMP_POSITION + 8]
        .copy_from_slice(&max_timestamp.to_be_bytes());
    let checksum_after = crc32c::crc32c(&header[ATTRIBUTES_POSITION..]);
    // CRCs are linear: crc(head ‖ records) = shift(crc(head), length of records) ^ crc(records),
    // and `crc32c_combine(a, b, n)` is shift(a, n) ^ b. So the difference of the heads, shifted,
    // turns the batch's old CRC into its new one.
    let records_length = before.size_bytes().saturating_sub(BATCH_HEADER_SIZE);
    let crc = crc32c::crc32c_combine(checksum_before ^ checksum_after, before.crc, records_length);
    put_crc(header, crc);
}

fn put_crc(header: &mut [u8; BATCH_HEADER_SIZE], crc: u32) {
    header[CRC_POSITION..ATTRIBUTES_POSITION].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch with `payload` as its (opaque) records.
    fn batch(base_offset: i64, last_offset_delta: i32, payload: &[u8]) -> Vec<u8> {
        let mut header = BatchHeader {
            base_offset,
            batch_length: i32::try_from(BATCH_HEADER_SIZE - LOG_OVERHEAD + payload.len()).unwrap(),
            partition_leader_epoch: -1,
            last_offset_delta,
            base_timestamp: 1_000,
            max_timestamp: 2_000,
            producer_id: 7,
            producer_epoch: 1,
            base_sequence: i32::MAX - 1,
            records_count: last_offset_delta + 1,
            ..BatchHeader::default()
        };
        let mut bytes = [&header.to_bytes()[..], payload].concat();
        header.crc = checksum(&bytes);
        bytes[..BATCH_HEADER_SIZE].copy_from_slice(&header.to_bytes());
        bytes
    }

    #[test]
    fn a_batch_is_read_without_looking_into_its_records() {
        // One record, key "k", value "v".
        let mut bytes = batch(0, 0, b"\x10\0\0\0\x02k\x02v\0");
        bytes[12..16].copy_from_slice(&5i32.to_be_bytes());
        let read = RecordBatch::parse_one(Bytes::from(bytes)).unwrap();
        read.validate().unwrap();
        assert_eq!(read.header.partition_leader_epoch, 5);
        assert_eq!(read.header.compression().unwrap(), Compression::None);
        assert_eq!(read.header.timestamp_type(), TimestampType::CreateTime);
        assert!(!read.header.is_transactional() && !read.header.is_control());
        assert_eq!(&read.payload()[..], b"\x10\0\0\0\x02k\x02v\0");
    }

    #[test]
    fn the_header_survives_its_bytes_and_says_what_follows_from_it() {
        let bytes = batch(40, 2, b"records");
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.to_bytes()[..], bytes[..BATCH_HEADER_SIZE]);
        assert_eq!((header.last_offset(), header.next_offset()), (42, 43));
        assert_eq!(header.size_bytes(), bytes.len());
        assert_eq!(header.last_sequence(), 0, "i32::MAX - 1, i32::MAX, 0");
        assert!(header.has_producer_id());
        assert_eq!(header.delete_horizon_ms(), None);
        assert_eq!(BatchHeader { base_sequence: -1, ..header }.last_sequence(), -1);
    }

    #[test]
    fn batches_are_split_and_a_cut_off_tail_ends_them() {
        let first = batch(0, 0, b"a");
        let second = batch(1, 4, b"bcd");
        let all = Bytes::from([&first[..], &second, &second[..second.len() - 1]].concat());
        let mut iterator = batches(all);
        assert_eq!(iterator.next().unwrap().unwrap().bytes[..], first);
        assert_eq!(iterator.next().unwrap().unwrap().header.base_offset, 1);
        assert!(iterator.next().is_none());
        assert_eq!(iterator.rest().len(), second.len() - 1);
    }

    #[test]
    fn an_error_ends_the_batches() {
        let mut bytes = batch(0, 0, b"a");
        bytes[MAGIC_POSITION] = 1;
        let mut iterator = batches(Bytes::from(bytes));
        assert!(matches!(iterator.next(), Some(Err(BatchError::UnsupportedMagic(1)))));
        assert!(iterator.next().is_none());
    }

    #[test]
    fn what_the_broker_sets_keeps_the_checksum_right() {
        let bytes = batch(0, 2, b"some records");
        let mut patched = PatchedHeader::new(&bytes).unwrap();
        patched.set_base_offset(1_234);
        patched.set_partition_leader_epoch(9);
        assert_eq!(patched.header().crc, BatchHeader::parse(&bytes).unwrap().crc);
        patched.set_log_append_time(77_777);

        let whole = [&patched.as_bytes()[..], &bytes[BATCH_HEADER_SIZE..]].concat();
        let read = RecordBatch::parse_one(Bytes::from(whole.clone())).unwrap();
        read.validate().unwrap();
        assert_eq!((read.header.base_offset, read.header.partition_leader_epoch), (1_234, 9));
        assert_eq!(read.header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!((read.header.base_timestamp, read.header.max_timestamp), (1_000, 77_777));
        assert_eq!(read.patched_header().as_bytes()[..], whole[..BATCH_HEADER_SIZE]);

        let mut in_place = bytes;
        set_base_offset(&mut in_place, 1_234).unwrap();
        set_partition_leader_epoch(&mut in_place, 9).unwrap();
        set_log_append_time(&mut in_place, 77_777).unwrap();
        assert_eq!(in_place, whole);
    }

    #[test]
    fn a_batch_can_change_its_producer() {
        let mut bytes = batch(0, 2, b"some records");
        set_producer(&mut bytes, 99, 3, 17).unwrap();
        let read = RecordBatch::parse_one(Bytes::from(bytes)).unwrap();
        read.validate().unwrap();
        let header = read.header;
        assert_eq!((header.producer_id, header.producer_epoch), (99, 3));
        assert_eq!(header.base_sequence, 17);
    }

    #[test]
    fn a_wrong_max_timestamp_is_corrected() {
        let bytes = batch(0, 2, b"some records");
        let mut patched = PatchedHeader::new(&bytes).unwrap();
        patched.set_max_timestamp(12_345);
        let whole = [&patched.as_bytes()[..], &bytes[BATCH_HEADER_SIZE..]].concat();
        let read = RecordBatch::parse_one(Bytes::from(whole)).unwrap();
        read.validate().unwrap();
        assert_eq!(read.header.max_timestamp, 12_345);
        assert_eq!(read.header.timestamp_type(), TimestampType::CreateTime);
    }

    #[test]
    fn a_log_append_time_does_not_hide_a_corruption() {
        let mut bytes = batch(0, 2, b"some records");
        *bytes.last_mut().unwrap() ^= 1;
        set_log_append_time(&mut bytes, 5).unwrap();
        let read = RecordBatch::parse_one(Bytes::from(bytes)).unwrap();
        assert!(matches!(read.validate(), Err(BatchError::CrcMismatch { .. })));
    }

    #[test]
    fn every_flipped_bit_that_the_checksum_covers_is_seen() {
        let bytes = batch(0, 0, b"payload");
        for position in CRC_POSITION..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[position] ^= 1 << bit;
                let result = RecordBatch::parse_one(Bytes::from(bytes)).and_then(|b| b.validate());
                assert!(result.is_err(), "byte {position}, bit {bit}");
            }
        }
    }

    #[test]
    fn impossible_headers_are_refused() {
        let good = batch(3, 1, b"xy");
        let with = |position: usize, field: &[u8]| {
            let mut bytes = good.clone();
            bytes[position..position + field.len()].copy_from_slice(field);
            RecordBatch::parse_one(Bytes::from(bytes)).map(drop).unwrap_err().to_string()
        };
        assert!(with(LENGTH_POSITION, &48i32.to_be_bytes()).contains("smaller than a batch"));
        assert!(with(LENGTH_POSITION, &(-1i32).to_be_bytes()).contains("smaller than a batch"));
        assert!(with(LENGTH_POSITION, &i32::MAX.to_be_bytes()).contains("has only 63"));
        assert!(with(LENGTH_POSITION, &50i32.to_be_bytes()).contains("1 bytes follow"));
        assert!(with(0, &i64::MAX.to_be_bytes()).contains("beyond 64 bits"));
        assert!(with(0, &(-1i64).to_be_bytes()).contains("base offset is negative"));
        assert!(with(23, &(-1i32).to_be_bytes()).contains("offset delta is negative"));
        assert!(with(57, &3i32.to_be_bytes()).contains("contradicts"));
        assert!(with(57, &(-1i32).to_be_bytes()).contains("contradicts"));
        for length in 0..BATCH_HEADER_SIZE {
            assert!(matches!(
                BatchHeader::parse(&good[..length]),
                Err(BatchError::Truncated { needed: BATCH_HEADER_SIZE, .. })
            ));
        }
    }
}
