//! Jute, the encoding of ZooKeeper's messages: integers big-endian, strings and byte arrays behind
//! a 4-byte length, lists behind a 4-byte count; -1 stands for nothing at all.
//!
//! What is decoded came from the network: each length and count is held against what is left of the
//! message before anything is reserved for it.

use bytes::{BufMut, BytesMut};

/// Why bytes are not the record that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JuteError {
    /// The message ends within the record.
    #[error("the message ends within a record")]
    Truncated,
    /// A length or count is below -1, or there is less behind it than it says.
    #[error("a length of {length} where {left} bytes are left")]
    Length {
        /// What was said.
        length: i32,
        /// How many bytes there are.
        left: usize,
    },
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// The record is of a type that cannot stand here.
    #[error("a record of type {type_code} cannot stand here")]
    Type {
        /// ZooKeeper's number of it.
        type_code: i32,
    },
    /// A list has more items than this side takes.
    #[error("a list has more than {most} items")]
    TooMany {
        /// How many it takes.
        most: usize,
    },
}

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads a message from its start.
    pub fn new(message: &'a [u8]) -> Self {
        Self { left: message }
    }

    /// What has not been read.
    pub fn left(&self) -> &'a [u8] {
        self.left
    }

    /// Whether all has been read.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Reads a record or a primitive.
    pub fn read<T: Jute>(&mut self) -> Result<T, JuteError> {
        T::decode(self)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], JuteError> {
        let (taken, left) = self.left.split_first_chunk().ok_or(JuteError::Truncated)?;
        self.left = left;
        Ok(*taken)
    }

    /// The bytes behind a length; none where it is -1.
    pub fn slice(&mut self) -> Result<Option<&'a [u8]>, JuteError> {
        let length: i32 = self.read()?;
        if length == -1 {
            return Ok(None);
        }
        let left = self.left;
        let taken = usize::try_from(length).ok().and_then(|length| left.split_at_checked(length));
        let (taken, left) = taken.ok_or(JuteError::Length { length, left: left.len() })?;
        self.left = left;
        Ok(Some(taken))
    }

    /// A string; nothing at all counts as the empty one, as some clients send it so.
    pub fn str(&mut self) -> Result<&'a str, JuteError> {
        let bytes = self.slice()?.unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| JuteError::NotUtf8)
    }

    /// The count of a list whose items take at least `size_min` bytes each; 0 for no list at all.
    fn count(&mut self, size_min: usize) -> Result<usize, JuteError> {
        let length: i32 = self.read()?;
        if length == -1 {
            return Ok(0);
        }
        let left = self.left.len();
        let count = usize::try_from(length).ok().filter(|count| *count <= left / size_min.max(1));
        count.ok_or(JuteError::Length { length, left })
    }
}

/// What can be put into a message and taken out of it.
pub trait Jute: Sized {
    /// The fewest bytes that one takes.
    const SIZE_MIN: usize;

    /// Appends it.
    fn encode(&self, out: &mut BytesMut);

    /// Takes it from the front.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError>;
}

impl Jute for i32 {
    const SIZE_MIN: usize = 4;

    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(*self);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        reader.take().map(Self::from_be_bytes)
    }
}

impl Jute for i64 {
    const SIZE_MIN: usize = 8;

    fn encode(&self, out: &mut BytesMut) {
        out.put_i64(*self);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        reader.take().map(Self::from_be_bytes)
    }
}

impl Jute for bool {
    const SIZE_MIN: usize = 1;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        reader.take().map(|[byte]| byte != 0)
    }
}

impl Jute for String {
    const SIZE_MIN: usize = 4;

    fn encode(&self, out: &mut BytesMut) {
        put_slice(self.as_bytes(), out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        reader.str().map(str::to_owned)
    }
}

/// Bytes, or nothing at all: ZooKeeper's clients tell a node without data from one with no bytes.
impl Jute for Option<Vec<u8>> {
    const SIZE_MIN: usize = 4;

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Some(bytes) => put_slice(bytes, out),
            None => out.put_i32(-1),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        reader.slice().map(|bytes| bytes.map(<[u8]>::to_vec))
    }
}

impl<T: Jute> Jute for Vec<T> {
    const SIZE_MIN: usize = 4;

    fn encode(&self, out: &mut BytesMut) {
        put_length(self.len(), out);
        for item in self {
            item.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        let count = reader.count(T::SIZE_MIN)?;
        (0..count).map(|_| reader.read()).collect()
    }
}

/// Appends a length or count.
pub fn put_length(length: usize, out: &mut BytesMut) {
    // What is longer does not fit into a message anyway; whoever reads this finds out.
    out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
}

/// Appends bytes behind their length.
pub fn put_slice(bytes: &[u8], out: &mut BytesMut) {
    put_length(bytes.len(), out);
    out.put_slice(bytes);
}

/// Appends a message behind its length: `write` appends the message.
pub fn put_message(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    write(out);
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Declares records: structs that are encoded as their fields in this order.
macro_rules! records {
    ($($(#[$attribute:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(
                #[doc = concat!("ZooKeeper's `", stringify!($field), "`.")]
                pub $field: $type,
            )*
        }

        impl $crate::frontends::zookeeper::jute::Jute for $name {
            const SIZE_MIN: usize =
                0 $(+ <$type as $crate::frontends::zookeeper::jute::Jute>::SIZE_MIN)*;

            fn encode(&self, _out: &mut bytes::BytesMut) {
                $(self.$field.encode(_out);)*
            }

            fn decode(
                _reader: &mut $crate::frontends::zookeeper::jute::Reader<'_>,
            ) -> Result<Self, $crate::frontends::zookeeper::jute::JuteError> {
                Ok(Self { $($field: _reader.read()?,)* })
            }
        }
    )*};
}
pub(crate) use records;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<T: Jute>(value: &T) -> BytesMut {
        let mut out = BytesMut::new();
        value.encode(&mut out);
        out
    }

    #[test]
    fn a_length_is_held_against_what_is_left() {
        for bytes in [&[0, 0, 0, 5, 1, 2, 3, 4][..], &[0x7f, 0xff, 0xff, 0xff], &[0xff; 3]] {
            assert!(Reader::new(bytes).slice().is_err(), "{bytes:?}");
        }
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xfe]).slice(),
            Err(JuteError::Length { length: -2, left: 0 })
        );
        // A million items of four bytes each in eight bytes.
        let list: Result<Vec<i32>, _> = Reader::new(&[0, 0x0f, 0, 0, 0, 0, 0, 0]).read();
        assert!(matches!(list, Err(JuteError::Length { length: 0x0f_0000, left: 4 })));
    }

    #[test]
    fn nothing_is_not_the_same_as_empty() {
        assert_eq!(encoded(&None), [0xff; 4][..]);
        assert_eq!(encoded(&Some(vec![])), [0; 4][..]);
        assert_eq!(Reader::new(&[0xff; 4]).read::<String>(), Ok(String::new()));
        assert_eq!(Reader::new(&[0xff; 4]).read::<Vec<i32>>(), Ok(vec![]));
    }

    #[test]
    fn a_message_stands_behind_its_length() {
        let mut out = BytesMut::from(&b"x"[..]);
        put_message(&mut out, |out| "abc".to_owned().encode(out));
        assert_eq!(out, b"x\0\0\0\x07\0\0\0\x03abc"[..]);
    }
}
