//! The primitives of Kafka's encoding: integers, strings, arrays, varints, compact forms and tagged
//! fields (KIP-482), each in a bounded reader and in a writer that does not copy what is large.
//!
//! A peer is never believed. A count is compared with the bytes that are left before anything is
//! allocated for it; room for elements is made as they are decoded, and what all of them take
//! together is bounded in proportion to the frame ([`Reader::new`]). Decoding does not recurse
//! beyond the nesting of the schema, which the build checks to be finite.

mod reader;
mod string;
mod writer;

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

pub use reader::{Reader, TaggedSection};
pub use string::KafkaString;
pub use writer::Writer;

/// The most elements that an array may have, as in Kafka 4.4.
pub const ARRAY_ELEMENTS_MAX: usize = 1_000_000;

/// The most tagged fields that a structure may have, as in Kafka 4.4.
pub const TAGGED_FIELDS_MAX: usize = 10_000;

/// The longest string, in bytes.
pub const STRING_SIZE_MAX: usize = 0x7fff;

/// What the decoded elements of a small frame may take, in bytes.
pub const DECODED_SIZE_MIN: usize = 64 * 1024;

/// How many times the frame the decoded elements may take, as long as the frame is small. An empty
/// string is one byte on the wire and four words in memory.
pub const DECODED_SIZE_FACTOR: usize = 64;

/// What the decoded elements of a large frame may take beyond twice the frame, in bytes.
pub const DECODED_SIZE_SLACK: usize = 256 * 1024 * 1024;

/// `Bytes` longer than this are not copied into the frame but sent from where they are.
pub const COPIED_SIZE_MAX: usize = 4096;

/// Why bytes could not be decoded or a value not be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The value ends after the bytes do.
    #[error("{needed} bytes are needed and {left} are left")]
    Truncated {
        /// How many bytes the value takes at least.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// A length or a count is negative and does not mean null.
    #[error("the length {0} is negative")]
    NegativeLength(i32),
    /// A length, a count or a size is beyond its limit; the limit is the second number.
    #[error("the length {0} is beyond {1}")]
    TooLong(usize, usize),
    /// A varint has more than five bytes or more than 32 bits.
    #[error("a varint does not end")]
    InvalidVarint,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// Null where the version does not allow it. When encoding, the name of the field.
    #[error("null where a value must be: {0}")]
    UnexpectedNull(&'static str),
    /// What is decoded takes more memory than its frame justifies.
    #[error("the decoded message is out of proportion to its frame")]
    TooLarge,
    /// The value of a tagged field is longer or shorter than its size says.
    #[error("the tagged field {0} does not have the size that it claims")]
    TaggedSize(u32),
    /// A tagged field is there twice, or not in the order of the tags, or under a taken tag.
    #[error("the tagged field {0} is there twice or out of order")]
    TaggedOrder(u32),
    /// There is no API of this key.
    #[error("there is no API of key {0}")]
    UnknownApiKey(i16),
    /// The message does not exist in this version.
    #[error("{0} has no version {1}")]
    UnsupportedVersion(&'static str, i16),
    /// A field has a value that matters and does not exist in this version.
    #[error("{0} has a value, which version {1} cannot carry")]
    NotInVersion(&'static str, i16),
    /// A file stands where the bytes are wanted in memory.
    #[error("a region of a file cannot be encoded in memory")]
    FileInMemory,
}

/// What can be read from the wire, in any version that it exists in.
pub trait Decode: Sized {
    /// Reads one value as `version` writes it, and leaves the reader behind it.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, WireError>;
}

/// What can be written to the wire, in any version that it exists in.
pub trait Encode {
    /// Writes the value as `version` wants it.
    ///
    /// It is an error if a field without place in `version` has another value than its default,
    /// unless the schema calls the field ignorable.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), WireError>;

    /// The exact number of bytes that [`Encode::encode`] writes, files included.
    fn encoded_size(&self, version: i16) -> Result<usize, WireError> {
        let mut writer = Writer::counting();
        self.encode(&mut writer, version)?;
        Ok(writer.size())
    }

    /// The value in one piece. All bytes are copied; a file is an error.
    fn to_bytes(&self, version: i16) -> Result<Bytes, WireError> {
        let mut writer = Writer::in_memory(self.encoded_size(version)?);
        self.encode(&mut writer, version)?;
        writer.into_bytes()
    }

    /// The value in one piece behind two bytes of `prefix`: the version of a stored value, or the
    /// type of a stored key.
    fn to_prefixed_bytes(&self, prefix: i16, version: i16) -> Result<Bytes, WireError> {
        let mut writer = Writer::in_memory(2 + self.encoded_size(version)?);
        writer.i16(prefix);
        self.encode(&mut writer, version)?;
        writer.into_bytes()
    }
}

/// A tagged field that the schema does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTaggedField {
    /// The number of the field.
    pub tag: u32,
    /// Its value, undecoded.
    pub data: Bytes,
}

/// A part of a file, to be sent without passing through memory.
#[derive(Clone, Debug)]
pub struct FileRegion {
    /// The file; the region is read by position, so it may be shared.
    pub file: Arc<File>,
    /// Where in the file the region begins.
    pub position: u64,
    /// Its length in bytes.
    pub length: usize,
}

/// The same part of the same open file.
impl PartialEq for FileRegion {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
            && (self.position, self.length) == (other.position, other.length)
    }
}

/// Record batches, which the codec does not look into. Decoding always gives `Bytes`.
#[derive(Clone, Debug, PartialEq)]
pub enum Records {
    /// Batches in memory.
    Bytes(Bytes),
    /// Batches in a file.
    File(FileRegion),
}

impl Records {
    /// The size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(region) => region.length,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches, if they are in memory.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::File(_) => None,
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// A piece of what is to be sent, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A part of a file.
    File(FileRegion),
}

impl Segment {
    /// The size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(region) => region.length,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The value of a nullable field in a version that does not allow null.
pub(crate) fn required<'a, T>(
    value: &'a Option<T>,
    name: &'static str,
) -> Result<&'a T, WireError> {
    value.as_ref().ok_or(WireError::UnexpectedNull(name))
}

/// Puts unknown tagged fields, as they came, into the order of their tags.
pub(crate) fn sort_unknown(fields: &mut [UnknownTaggedField]) -> Result<(), WireError> {
    fields.sort_by_key(|field| field.tag);
    match fields.iter().zip(fields.iter().skip(1)).find(|(one, next)| one.tag == next.tag) {
        Some((twice, _)) => Err(WireError::TaggedOrder(twice.tag)),
        None => Ok(()),
    }
}

/// What arrays can hold besides structures: the plain types, each with one form for all versions.
pub trait Value: Sized {
    /// The fewest bytes that a value takes in the compact form.
    const SIZE_MIN_COMPACT: usize;
    /// The fewest bytes that a value takes in the plain form.
    const SIZE_MIN: usize;
    /// Reads one.
    fn read(reader: &mut Reader, flexible: bool) -> Result<Self, WireError>;
    /// Writes one.
    fn write(&self, writer: &mut Writer, flexible: bool) -> Result<(), WireError>;
}

macro_rules! fixed_size_values {
    ($($ty:ty, $method:ident, $size:literal;)*) => {$(
        impl Value for $ty {
            const SIZE_MIN_COMPACT: usize = $size;
            const SIZE_MIN: usize = $size;

            fn read(reader: &mut Reader, _flexible: bool) -> Result<Self, WireError> {
                reader.$method()
            }

            fn write(&self, writer: &mut Writer, _flexible: bool) -> Result<(), WireError> {
                writer.$method(*self);
                Ok(())
            }
        }
    )*};
}

fixed_size_values! {
    i8, i8, 1;
    i16, i16, 2;
    i32, i32, 4;
    i64, i64, 8;
    crate::types::Uuid, uuid, 16;
}

impl Value for KafkaString {
    const SIZE_MIN_COMPACT: usize = 1;
    const SIZE_MIN: usize = 2;

    fn read(reader: &mut Reader, flexible: bool) -> Result<Self, WireError> {
        reader.string(flexible)
    }

    fn write(&self, writer: &mut Writer, flexible: bool) -> Result<(), WireError> {
        writer.string(self, flexible)
    }
}

#[cfg(test)]
mod tests;
