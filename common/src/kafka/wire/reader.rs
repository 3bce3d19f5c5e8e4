//! Reads values from a frame and never believes a length.

use std::mem::size_of;

use bytes::Bytes;

use super::{
    ARRAY_ELEMENTS_MAX, DECODED_SIZE_FACTOR, DECODED_SIZE_MIN, DECODED_SIZE_SLACK, Decode,
    KafkaString, Records, STRING_SIZE_MAX, TAGGED_FIELDS_MAX, UnknownTaggedField, Value, WireError,
};
use crate::types::Uuid;

/// A position in a frame. Strings, bytes and records that are read share the frame's memory.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    position: usize,
    /// How many bytes the elements of arrays may still take in memory.
    budget: usize,
}

impl Reader {
    /// A reader at the beginning of `frame`.
    ///
    /// The elements of all arrays decoded by it may together take 64 times the frame (and always
    /// 64 KiB), but of a large frame not more than twice its size and 256 MiB.
    pub fn new(frame: Bytes) -> Self {
        let size = frame.len();
        let small = size.saturating_mul(DECODED_SIZE_FACTOR);
        let large = size.saturating_mul(2).saturating_add(DECODED_SIZE_SLACK);
        Self::with_budget(frame, small.min(large).max(DECODED_SIZE_MIN))
    }

    /// A reader of which the elements of all arrays may together take `budget` bytes.
    pub fn with_budget(frame: Bytes, budget: usize) -> Self {
        Self { frame, position: 0, budget }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.frame.len().saturating_sub(self.position)
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What is left, as it stands.
    pub fn into_rest(self) -> Bytes {
        self.frame.slice(self.position.min(self.frame.len())..)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let rest = self.frame.get(self.position..).unwrap_or_default();
        let Some(bytes) = rest.first_chunk::<N>() else {
            return Err(WireError::Truncated { needed: N, left: rest.len() });
        };
        self.position += N;
        Ok(*bytes)
    }

    /// The next `length` bytes, not copied.
    fn take(&mut self, length: usize) -> Result<Bytes, WireError> {
        let left = self.remaining();
        if length > left {
            return Err(WireError::Truncated { needed: length, left });
        }
        let start = self.position;
        self.position += length;
        Ok(self.frame.slice(start..self.position))
    }

    /// A byte that is not zero means true.
    pub fn bool(&mut self) -> Result<bool, WireError> {
        Ok(self.fixed::<1>()? != [0])
    }

    /// One byte.
    pub fn i8(&mut self) -> Result<i8, WireError> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// Two bytes.
    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// Two bytes, without sign.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.fixed().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// Four bytes, without sign.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Eight bytes, IEEE 754.
    pub fn f64(&mut self) -> Result<f64, WireError> {
        self.fixed().map(f64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        self.fixed().map(Uuid)
    }

    /// An unsigned varint of 32 bits: seven bits a byte, the lowest first.
    #[inline]
    pub fn varint(&mut self) -> Result<u32, WireError> {
        // Nearly all lengths, counts and tags are of one byte.
        match self.fixed()? {
            [byte] if byte & 0x80 == 0 => Ok(u32::from(byte)),
            [byte] => self.long_varint(byte),
        }
    }

    fn long_varint(&mut self, first: u8) -> Result<u32, WireError> {
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::InvalidVarint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::InvalidVarint)
    }

    /// A length in the compact form (one more than the length, zero for null) or in four bytes.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, WireError> {
        if flexible {
            return Ok(self.varint()?.checked_sub(1).map(|length| length as usize));
        }
        match self.i32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(WireError::NegativeLength(length)),
            },
        }
    }

    /// A string, or null. Not more than 32767 bytes.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<KafkaString>, WireError> {
        let length = if flexible {
            match self.varint()? {
                0 => return Ok(None),
                length => length as usize - 1,
            }
        } else {
            match self.i16()? {
                -1 => return Ok(None),
                length => usize::try_from(length)
                    .map_err(|_| WireError::NegativeLength(i32::from(length)))?,
            }
        };
        if length > STRING_SIZE_MAX {
            return Err(WireError::TooLong(length, STRING_SIZE_MAX));
        }
        KafkaString::try_from(self.take(length)?).map(Some)
    }

    /// A string that may not be null.
    pub fn string(&mut self, flexible: bool) -> Result<KafkaString, WireError> {
        self.nullable_string(flexible)?.ok_or(WireError::UnexpectedNull("string"))
    }

    /// Bytes, or null.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, WireError> {
        match self.length(flexible)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes that may not be null.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, WireError> {
        self.nullable_bytes(flexible)?.ok_or(WireError::UnexpectedNull("bytes"))
    }

    /// Record batches, or null.
    pub fn nullable_records(&mut self, flexible: bool) -> Result<Option<Records>, WireError> {
        Ok(self.nullable_bytes(flexible)?.map(Records::Bytes))
    }

    /// Record batches that may not be null.
    pub fn records(&mut self, flexible: bool) -> Result<Records, WireError> {
        self.nullable_records(flexible)?.ok_or(WireError::UnexpectedNull("records"))
    }

    /// A structure, or null: one byte tells, negative for null.
    pub fn nullable_struct<T: Decode>(&mut self, version: i16) -> Result<Option<T>, WireError> {
        if self.i8()? < 0 { Ok(None) } else { T::decode(self, version).map(Some) }
    }

    /// A structure in a tagged field, or null: there, a zero tells that it is null.
    pub fn nullable_tagged_struct<T: Decode>(
        &mut self,
        version: i16,
    ) -> Result<Option<T>, WireError> {
        if self.varint()? == 0 { Ok(None) } else { T::decode(self, version).map(Some) }
    }

    /// How many elements an array has, each of at least `element_size_min` bytes. The count is
    /// compared with the bytes that are left.
    fn count(
        &mut self,
        flexible: bool,
        element_size_min: usize,
    ) -> Result<Option<usize>, WireError> {
        let Some(count) = self.length(flexible)? else { return Ok(None) };
        if count > ARRAY_ELEMENTS_MAX {
            return Err(WireError::TooLong(count, ARRAY_ELEMENTS_MAX));
        }
        let (needed, left) = (count.saturating_mul(element_size_min), self.remaining());
        if needed > left {
            return Err(WireError::Truncated { needed, left });
        }
        Ok(Some(count))
    }

    /// Takes the memory of `count` values of type `T` out of the budget.
    fn charge<T>(&mut self, count: usize) -> Result<(), WireError> {
        let size = size_of::<T>().saturating_mul(count);
        self.budget = self.budget.checked_sub(size).ok_or(WireError::TooLarge)?;
        Ok(())
    }

    /// Room for `count` values, but at first not more than the bytes that are left justify.
    fn room<T>(&self, count: usize) -> Vec<T> {
        let justified = self.remaining() / size_of::<T>().max(1);
        Vec::with_capacity(count.min(justified.max(1)))
    }

    /// Adds a value; room doubles as values come, and never goes beyond `count`.
    fn push<T>(&mut self, values: &mut Vec<T>, value: T, count: usize) -> Result<(), WireError> {
        self.charge::<T>(1)?;
        if values.len() == values.capacity() {
            let missing = count.saturating_sub(values.len());
            values.reserve_exact(missing.min(values.len()).max(1));
        }
        values.push(value);
        Ok(())
    }

    /// An array of structures, or null. `element_size_min` is the fewest bytes that one takes.
    pub fn nullable_array<T: Decode>(
        &mut self,
        flexible: bool,
        element_size_min: usize,
        version: i16,
    ) -> Result<Option<Vec<T>>, WireError> {
        let Some(count) = self.count(flexible, element_size_min)? else { return Ok(None) };
        let mut values = self.room(count);
        for _ in 0..count {
            let value = T::decode(self, version)?;
            self.push(&mut values, value, count)?;
        }
        Ok(Some(values))
    }

    /// An array of structures that may not be null.
    pub fn array<T: Decode>(
        &mut self,
        flexible: bool,
        element_size_min: usize,
        version: i16,
    ) -> Result<Vec<T>, WireError> {
        self.nullable_array(flexible, element_size_min, version)?
            .ok_or(WireError::UnexpectedNull("array"))
    }

    /// An array of plain values, or null.
    pub fn nullable_values<T: Value>(
        &mut self,
        flexible: bool,
    ) -> Result<Option<Vec<T>>, WireError> {
        let size_min = if flexible { T::SIZE_MIN_COMPACT } else { T::SIZE_MIN };
        let Some(count) = self.count(flexible, size_min)? else { return Ok(None) };
        let mut values = self.room(count);
        for _ in 0..count {
            let value = T::read(self, flexible)?;
            self.push(&mut values, value, count)?;
        }
        Ok(Some(values))
    }

    /// An array of plain values that may not be null.
    pub fn values<T: Value>(&mut self, flexible: bool) -> Result<Vec<T>, WireError> {
        self.nullable_values(flexible)?.ok_or(WireError::UnexpectedNull("array"))
    }

    /// Begins the section of tagged fields at the end of a structure.
    pub fn tagged_section(&mut self) -> Result<TaggedSection, WireError> {
        let count = self.varint()? as usize;
        if count > TAGGED_FIELDS_MAX {
            return Err(WireError::TooLong(count, TAGGED_FIELDS_MAX));
        }
        // Each has at least a tag and a size.
        let (needed, left) = (count * 2, self.remaining());
        if needed > left {
            return Err(WireError::Truncated { needed, left });
        }
        Ok(TaggedSection { left: count })
    }

    /// The tag and the size of the next tagged field, until there is none.
    pub fn next_tagged(
        &mut self,
        section: &mut TaggedSection,
    ) -> Result<Option<(u32, usize)>, WireError> {
        let Some(left) = section.left.checked_sub(1) else { return Ok(None) };
        section.left = left;
        let (tag, size) = (self.varint()?, self.varint()? as usize);
        let left = self.remaining();
        if size > left {
            return Err(WireError::Truncated { needed: size, left });
        }
        Ok(Some((tag, size)))
    }

    /// Where a value of `size` bytes that begins here ends.
    pub fn end_of(&self, size: usize) -> usize {
        self.position.saturating_add(size)
    }

    /// Complains unless the value of the tagged field was read up to `end`.
    pub fn check_end(&self, tag: u32, end: usize) -> Result<(), WireError> {
        if self.position == end { Ok(()) } else { Err(WireError::TaggedSize(tag)) }
    }

    /// Keeps the value of a tagged field that is not known.
    pub fn keep_unknown(
        &mut self,
        tag: u32,
        size: usize,
        kept: &mut Vec<UnknownTaggedField>,
    ) -> Result<(), WireError> {
        let data = self.take(size)?;
        self.charge::<UnknownTaggedField>(1)?;
        kept.push(UnknownTaggedField { tag, data });
        Ok(())
    }

    /// The tagged fields of a structure that knows none.
    pub fn unknown_tagged_fields(&mut self) -> Result<Vec<UnknownTaggedField>, WireError> {
        let mut kept = Vec::new();
        let mut section = self.tagged_section()?;
        if section.left == 0 {
            return Ok(kept);
        }
        while let Some((tag, size)) = self.next_tagged(&mut section)? {
            self.keep_unknown(tag, size, &mut kept)?;
        }
        super::sort_unknown(&mut kept)?;
        Ok(kept)
    }
}

/// How many tagged fields of a structure are still to be read.
#[derive(Debug)]
pub struct TaggedSection {
    left: usize,
}
