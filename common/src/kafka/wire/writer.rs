//! Collects a message as a list of segments; what is large is referred to, not copied.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    COPIED_SIZE_MAX, Encode, FileRegion, KafkaString, Records, STRING_SIZE_MAX, Segment,
    UnknownTaggedField, Value, WireError,
};
use crate::types::Uuid;

/// What all lengths fit into.
const LENGTH_MAX: usize = 0x7fff_ffff;

/// Where encoded values go. Small ones are gathered in one buffer; long bytes and files become
/// segments of their own.
#[derive(Debug)]
pub struct Writer {
    buffer: BytesMut,
    /// The large pieces, each with the place in `buffer` that it stands before.
    cuts: Vec<(usize, Segment)>,
    size: usize,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Only the size is wanted.
    Count,
    /// Large pieces become segments.
    Cut,
    /// All in one piece.
    Whole,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A writer of segments.
    pub fn new() -> Self {
        Self::with_mode(Mode::Cut, 256)
    }

    /// A writer that only counts.
    pub fn counting() -> Self {
        Self::with_mode(Mode::Count, 0)
    }

    /// A writer of one piece, with room for `capacity` bytes.
    pub fn in_memory(capacity: usize) -> Self {
        Self::with_mode(Mode::Whole, capacity)
    }

    fn with_mode(mode: Mode, capacity: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity), cuts: Vec::new(), size: 0, mode }
    }

    /// How many bytes have been written, all segments together.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What has been written. The segments are in order and none is empty.
    pub fn into_segments(mut self) -> Vec<Segment> {
        let mut segments = Vec::with_capacity(self.cuts.len() * 2 + 1);
        let mut taken = 0;
        for (at, segment) in self.cuts {
            if at > taken {
                segments.push(Segment::Bytes(self.buffer.split_to(at - taken).freeze()));
                taken = at;
            }
            segments.push(segment);
        }
        if !self.buffer.is_empty() {
            segments.push(Segment::Bytes(self.buffer.freeze()));
        }
        segments
    }

    /// What has been written, if nothing of it became a segment of its own.
    pub fn into_bytes(self) -> Result<Bytes, WireError> {
        if self.cuts.is_empty() { Ok(self.buffer.freeze()) } else { Err(WireError::FileInMemory) }
    }

    /// Writes `value` over the four bytes that were written first.
    pub(crate) fn set_first_i32(&mut self, value: i32) {
        if let Some(first) = self.buffer.first_chunk_mut() {
            *first = value.to_be_bytes();
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
        if self.mode != Mode::Count {
            self.buffer.put_slice(bytes);
        }
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if self.mode == Mode::Cut && bytes.len() > COPIED_SIZE_MAX {
            self.size += bytes.len();
            self.cuts.push((self.buffer.len(), Segment::Bytes(bytes.clone())));
        } else {
            self.put(bytes);
        }
    }

    fn put_file(&mut self, region: &FileRegion) -> Result<(), WireError> {
        if self.mode == Mode::Whole {
            return Err(WireError::FileInMemory);
        }
        self.size += region.length;
        if self.mode == Mode::Cut && region.length > 0 {
            self.cuts.push((self.buffer.len(), Segment::File(region.clone())));
        }
        Ok(())
    }

    /// One byte: 1 for true.
    pub fn bool(&mut self, value: bool) {
        self.put(&[u8::from(value)]);
    }

    /// One byte.
    pub fn i8(&mut self, value: i8) {
        self.put(&value.to_be_bytes());
    }

    /// Two bytes.
    pub fn i16(&mut self, value: i16) {
        self.put(&value.to_be_bytes());
    }

    /// Two bytes, without sign.
    pub fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    /// Four bytes, without sign.
    pub fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    /// Eight bytes, IEEE 754.
    pub fn f64(&mut self, value: f64) {
        self.put(&value.to_be_bytes());
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.put(&value.0);
    }

    /// An unsigned varint: seven bits a byte, the lowest first.
    pub fn varint(&mut self, value: u32) {
        let mut rest = value;
        loop {
            let [low, ..] = (rest & 0x7f).to_le_bytes();
            rest >>= 7;
            if rest == 0 {
                return self.put(&[low]);
            }
            self.put(&[low | 0x80]);
        }
    }

    /// A length in the compact form or in four bytes; `None` for null.
    fn length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), WireError> {
        let too_long = |length| WireError::TooLong(length, LENGTH_MAX);
        match (length, flexible) {
            (None, true) => self.varint(0),
            (None, false) => self.i32(-1),
            (Some(length), true) => {
                let length = i32::try_from(length).map_err(|_| too_long(length))?;
                self.varint(length.unsigned_abs() + 1);
            }
            (Some(length), false) => {
                self.i32(i32::try_from(length).map_err(|_| too_long(length))?);
            }
        }
        Ok(())
    }

    /// A string, or null.
    pub fn nullable_string(
        &mut self,
        value: Option<&KafkaString>,
        flexible: bool,
    ) -> Result<(), WireError> {
        match value {
            Some(value) => self.string(value, flexible)?,
            None if flexible => self.varint(0),
            None => self.i16(-1),
        }
        Ok(())
    }

    /// A string of at most 32767 bytes.
    pub fn string(&mut self, value: &KafkaString, flexible: bool) -> Result<(), WireError> {
        let too_long = |_| WireError::TooLong(value.len(), STRING_SIZE_MAX);
        let length = i16::try_from(value.len()).map_err(too_long)?;
        if flexible {
            self.varint(u32::from(length.unsigned_abs()) + 1);
        } else {
            self.i16(length);
        }
        self.put_shared(value.as_bytes());
        Ok(())
    }

    /// Bytes, or null.
    pub fn nullable_bytes(
        &mut self,
        value: Option<&Bytes>,
        flexible: bool,
    ) -> Result<(), WireError> {
        self.length(value.map(Bytes::len), flexible)?;
        if let Some(value) = value {
            self.put_shared(value);
        }
        Ok(())
    }

    /// Bytes.
    pub fn bytes(&mut self, value: &Bytes, flexible: bool) -> Result<(), WireError> {
        self.nullable_bytes(Some(value), flexible)
    }

    /// Record batches, or null.
    pub fn nullable_records(
        &mut self,
        value: Option<&Records>,
        flexible: bool,
    ) -> Result<(), WireError> {
        self.length(value.map(Records::len), flexible)?;
        match value {
            Some(Records::Bytes(bytes)) => self.put_shared(bytes),
            Some(Records::File(region)) => self.put_file(region)?,
            None => {}
        }
        Ok(())
    }

    /// Record batches.
    pub fn records(&mut self, value: &Records, flexible: bool) -> Result<(), WireError> {
        self.nullable_records(Some(value), flexible)
    }

    /// A structure in a tagged field behind a one, or a zero for null.
    pub fn nullable_tagged_struct<T: Encode>(
        &mut self,
        value: Option<&T>,
        version: i16,
    ) -> Result<(), WireError> {
        self.varint(u32::from(value.is_some()));
        value.map_or(Ok(()), |value| value.encode(self, version))
    }

    /// A structure behind a byte 1, or a byte -1 for null.
    pub fn nullable_struct<T: Encode>(
        &mut self,
        value: Option<&T>,
        version: i16,
    ) -> Result<(), WireError> {
        match value {
            Some(value) => {
                self.i8(1);
                value.encode(self, version)
            }
            None => {
                self.i8(-1);
                Ok(())
            }
        }
    }

    /// An array of structures, or null.
    pub fn nullable_array<T: Encode>(
        &mut self,
        values: Option<&[T]>,
        flexible: bool,
        version: i16,
    ) -> Result<(), WireError> {
        self.length(values.map(<[T]>::len), flexible)?;
        for value in values.unwrap_or_default() {
            value.encode(self, version)?;
        }
        Ok(())
    }

    /// An array of structures.
    pub fn array<T: Encode>(
        &mut self,
        values: &[T],
        flexible: bool,
        version: i16,
    ) -> Result<(), WireError> {
        self.nullable_array(Some(values), flexible, version)
    }

    /// An array of plain values, or null.
    pub fn nullable_values<T: Value>(
        &mut self,
        values: Option<&[T]>,
        flexible: bool,
    ) -> Result<(), WireError> {
        self.length(values.map(<[T]>::len), flexible)?;
        for value in values.unwrap_or_default() {
            value.write(self, flexible)?;
        }
        Ok(())
    }

    /// An array of plain values.
    pub fn values<T: Value>(&mut self, values: &[T], flexible: bool) -> Result<(), WireError> {
        self.nullable_values(Some(values), flexible)
    }

    /// Begins the section of tagged fields at the end of a structure.
    pub fn tagged_count(&mut self, count: usize) -> Result<(), WireError> {
        let too_long = |_| WireError::TooLong(count, LENGTH_MAX);
        self.varint(u32::try_from(count).map_err(too_long)?);
        Ok(())
    }

    /// A tagged field, whose value `write` writes. It is called twice, once for the size.
    pub fn tagged(
        &mut self,
        tag: u32,
        write: impl Fn(&mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut counter = Self::counting();
        write(&mut counter)?;
        self.varint(tag);
        self.tagged_count(counter.size)?;
        write(self)
    }

    /// Those of the unknown tagged fields that come before `tag`; gives back the others.
    pub fn unknown_below<'a>(
        &mut self,
        tag: u32,
        fields: &'a [UnknownTaggedField],
    ) -> Result<&'a [UnknownTaggedField], WireError> {
        let below = fields.iter().take_while(|field| field.tag < tag).count();
        let (below, rest) = fields.split_at_checked(below).unwrap_or((fields, &[]));
        if rest.first().is_some_and(|field| field.tag == tag) {
            return Err(WireError::TaggedOrder(tag));
        }
        self.unknown_rest(below)?;
        Ok(rest)
    }

    /// Unknown tagged fields, as they stand. They must be in the order of their tags.
    pub fn unknown_rest(&mut self, fields: &[UnknownTaggedField]) -> Result<(), WireError> {
        let mut last = None;
        for field in fields {
            if last.is_some_and(|last| last >= field.tag) {
                return Err(WireError::TaggedOrder(field.tag));
            }
            last = Some(field.tag);
            self.varint(field.tag);
            self.tagged_count(field.data.len())?;
            self.put_shared(&field.data);
        }
        Ok(())
    }

    /// The tagged fields of a structure that knows none.
    pub fn unknown_tagged_fields(
        &mut self,
        fields: &[UnknownTaggedField],
    ) -> Result<(), WireError> {
        self.tagged_count(fields.len())?;
        self.unknown_rest(fields)
    }
}
