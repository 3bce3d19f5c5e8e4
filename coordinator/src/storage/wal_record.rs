//! The bytes of the log: headers of segments, and records with their checksums. All numbers are
//! little-endian.

use bytes::Bytes;

/// The length of a segment's header in bytes.
pub const SEGMENT_HEADER_SIZE: usize = 32;

/// The length of a record's header in bytes.
pub const RECORD_HEADER_SIZE: usize = 40;

/// Records begin at multiples of this, so that a search for one needs to look only there.
pub const RECORD_ALIGNMENT: usize = 8;

/// The longest payload of a record. A request has at most
/// [`ottla_common::coordination::protocol::FRAME_SIZE_MAX`]; what is added to it is little.
pub const PAYLOAD_SIZE_MAX: usize = 16 * 1024 * 1024;

/// The first index of a batch has seven bytes of a record's header.
const BATCH_FIRST_MAX: u64 = (1 << 56) - 1;

const SEGMENT_MAGIC: [u8; 8] = *b"OTTLALOG";
const SEGMENT_VERSION: u32 = 1;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log, from 1, without gaps.
    pub index: u64,
    /// The term of the leader that put it there.
    pub term: u64,
    /// The leader's wall clock when it did, in milliseconds since 1970.
    pub time_ms: i64,
    /// What the payload is.
    pub kind: EntryKind,
    /// What the entry says; the log does not care.
    pub payload: Bytes,
}

impl Entry {
    /// What it takes in memory, in bytes, about.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 64;
        self.payload.len() + OVERHEAD
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// A command for the state machine.
    #[default]
    Command = 0,
    /// Who the members are from here on.
    Membership = 1,
    /// Nothing: the first entry of a leader's term, by which it commits what it found.
    Blank = 2,
}

impl EntryKind {
    /// The kind of a byte in a record, if this build knows it.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Command, Self::Membership, Self::Blank].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// How a segment file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Goes into the checksum of every record here: random, so that neither a record of another
    /// file nor a payload made to look like a record passes for one.
    pub salt: u32,
    /// The index of the first record.
    pub first_index: u64,
}

impl SegmentHeader {
    /// The bytes: magic, version, salt, first index, four zeros, checksum.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_SIZE);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.first_index.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header in `bytes`, or what is wrong with it.
    pub fn parse(bytes: &[u8; SEGMENT_HEADER_SIZE]) -> Result<Self, String> {
        let (content, checksum) = bytes.split_at(SEGMENT_HEADER_SIZE - 4);
        let mut fields = Fields(content);
        if fields.take() != SEGMENT_MAGIC {
            return Err("it does not begin as a log segment".to_owned());
        }
        let version = u32::from_le_bytes(fields.take());
        if version != SEGMENT_VERSION {
            return Err(format!("its format {version} is not one that this build reads"));
        }
        let salt = u32::from_le_bytes(fields.take());
        let first_index = u64::from_le_bytes(fields.take());
        if crc32c::crc32c(content) != u32::from_le_bytes(Fields(checksum).take()) {
            return Err("the checksum of the segment's header is wrong".to_owned());
        }
        Ok(Self { salt, first_index })
    }
}

/// What stands before a record's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// CRC-32C over the rest of the header and the payload, begun with the segment's salt.
    pub checksum: u32,
    /// The payload's length in bytes.
    pub length: u32,
    /// As in [`Entry`].
    pub index: u64,
    /// As in [`Entry`].
    pub term: u64,
    /// As in [`Entry`].
    pub time_ms: i64,
    /// The index of the first record that was flushed together with this one. All before it were
    /// durable when this one was written: that tells a torn tail from a corrupt middle.
    pub batch_first: u64,
    /// As in [`Entry`], before it is known to be one.
    pub kind: u8,
}

impl RecordHeader {
    /// The header in `bytes`.
    pub fn parse(bytes: &[u8; RECORD_HEADER_SIZE]) -> Self {
        let mut fields = Fields(bytes);
        let mut header = Self {
            checksum: u32::from_le_bytes(fields.take()),
            length: u32::from_le_bytes(fields.take()),
            index: u64::from_le_bytes(fields.take()),
            term: u64::from_le_bytes(fields.take()),
            time_ms: i64::from_le_bytes(fields.take()),
            batch_first: u64::from_le_bytes(fields.take()),
            kind: bytes.last().copied().unwrap_or_default(),
        };
        header.batch_first &= BATCH_FIRST_MAX;
        header
    }

    /// The payload's length, if it is one that is ever written.
    pub fn payload_size(&self) -> Option<usize> {
        usize::try_from(self.length).ok().filter(|length| *length <= PAYLOAD_SIZE_MAX)
    }

    /// Whether header and payload are as they were written.
    pub fn verifies(&self, salt: u32, bytes: &[u8; RECORD_HEADER_SIZE], payload: &[u8]) -> bool {
        self.checksum == record_checksum(salt, bytes, payload)
    }
}

fn record_checksum(salt: u32, header: &[u8], payload: &[u8]) -> u32 {
    let covered = header.get(4..RECORD_HEADER_SIZE).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c_append(salt, covered), payload)
}

/// The length of a record with its header and the zeros behind it.
pub fn record_size(payload_size: usize) -> usize {
    (RECORD_HEADER_SIZE + payload_size).next_multiple_of(RECORD_ALIGNMENT)
}

/// Appends a record to `target`.
pub fn encode_record(salt: u32, entry: &Entry, batch_first: u64, target: &mut Vec<u8>) {
    let length = entry.payload.len();
    assert!(length <= PAYLOAD_SIZE_MAX, "a payload of {length} bytes");
    assert!(entry.index > 0 && batch_first > 0 && batch_first <= entry.index);
    assert!(batch_first <= BATCH_FIRST_MAX, "a batch that begins at {batch_first}");
    let mut header = [0_u8; RECORD_HEADER_SIZE];
    let length_field = u32::try_from(length).unwrap_or(u32::MAX);
    let mut rest = header.as_mut_slice();
    put(&mut rest, &[0; 4]);
    put(&mut rest, &length_field.to_le_bytes());
    put(&mut rest, &entry.index.to_le_bytes());
    put(&mut rest, &entry.term.to_le_bytes());
    put(&mut rest, &entry.time_ms.to_le_bytes());
    let kind = u64::from(entry.kind as u8) << 56;
    put(&mut rest, &(batch_first | kind).to_le_bytes());
    let checksum = record_checksum(salt, &header, &entry.payload);
    put(&mut header.as_mut_slice(), &checksum.to_le_bytes());
    let start = target.len();
    target.extend_from_slice(&header);
    target.extend_from_slice(&entry.payload);
    target.resize(start + record_size(length), 0);
}

fn put(target: &mut &mut [u8], bytes: &[u8]) {
    let taken = std::mem::take(target);
    let (place, rest) = taken.split_at_mut(bytes.len());
    place.copy_from_slice(bytes);
    *target = rest;
}

/// Reads fixed fields one after the other; zeros behind the end, which the callers' array types
/// rule out.
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_not_as_written_does_not_verify() {
        let payload = Bytes::from_static(b"payload");
        let kind = EntryKind::Membership;
        let entry = Entry { index: 7, term: 2, time_ms: -5, kind, payload };
        let mut record = Vec::new();
        encode_record(99, &entry, 6, &mut record);
        assert_eq!(record.len(), 48);
        let parsed = RecordHeader::parse(record.first_chunk().unwrap());
        assert_eq!((parsed.batch_first, EntryKind::from_byte(parsed.kind)), (6, Some(kind)));
        assert_eq!(EntryKind::from_byte(3), None);
        let verifies = |salt, record: &[u8]| {
            let (header, rest) = record.split_first_chunk::<RECORD_HEADER_SIZE>().unwrap();
            let parsed = RecordHeader::parse(header);
            let payload = parsed.payload_size().and_then(|size| rest.get(..size));
            payload.is_some_and(|payload| parsed.verifies(salt, header, payload))
        };
        assert!(verifies(99, &record));
        assert!(!verifies(98, &record), "a record of another segment");
        for bit in 0..(RECORD_HEADER_SIZE + 7) * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies(99, &flipped), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_header_that_is_not_as_written_is_refused() {
        let header = SegmentHeader { salt: 5, first_index: 1000 };
        let bytes: [u8; SEGMENT_HEADER_SIZE] = header.encode().try_into().unwrap();
        assert_eq!(SegmentHeader::parse(&bytes), Ok(header));
        for bit in 0..SEGMENT_HEADER_SIZE * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&flipped).is_err(), "bit {bit}");
        }
    }
}
