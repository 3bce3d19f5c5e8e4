//! Frames of the native protocol: a 4-byte big-endian length, then that many bytes of MessagePack
//! with named fields.
//!
//! What comes from the network is hostile until it has been decoded. A length over the cap is an
//! error at once; a length under it reserves memory only as its bytes arrive; nesting is bounded;
//! bytes left over behind the value are an error. After an error the connection is of no more use.

use std::io;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder};

use super::protocol::FRAME_SIZE_MAX;

/// The length before each frame, in bytes.
const LENGTH_SIZE: usize = 4;

/// The most that is reserved for a frame ahead of its bytes.
const RESERVE_SIZE_MAX: usize = 64 * 1024;

/// The deepest nesting that is followed. The protocol's own messages need fewer than 16 levels.
const DEPTH_MAX: usize = 32;

/// Why bytes could not be made a message, or a message bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// A frame is longer than this side accepts.
    #[error("frame of {size} bytes is over the limit of {size_max}")]
    TooLong {
        /// The length that was announced, or that the message would have.
        size: usize,
        /// The limit.
        size_max: usize,
    },
    /// The bytes are no such message.
    #[error("frame is not a valid message: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// There are bytes behind the message.
    #[error("{count} bytes are left over behind the message")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The message cannot be encoded.
    #[error("encode message: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

/// Decodes frames of `In`; encodes anything.
pub struct FrameCodec<In> {
    frame_size_max: usize,
    decodes: PhantomData<fn() -> In>,
}

impl<In> FrameCodec<In> {
    /// A codec with the protocol's own limit, [`FRAME_SIZE_MAX`].
    pub fn new() -> Self {
        Self::with_frame_size_max(FRAME_SIZE_MAX)
    }

    /// A codec with a limit of its own, in bytes; for the time before a peer has said who it is.
    pub fn with_frame_size_max(frame_size_max: usize) -> Self {
        Self { frame_size_max, decodes: PhantomData }
    }
}

impl<In> Default for FrameCodec<In> {
    fn default() -> Self {
        Self::new()
    }
}

impl<In: DeserializeOwned> Decoder for FrameCodec<In> {
    type Item = In;
    type Error = CodecError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<In>, CodecError> {
        let frame = take_frame(source, self.frame_size_max)?;
        frame.map(|frame| decode_message(&frame)).transpose()
    }
}

/// Takes the bytes of one frame, without its length, out of `source` if they have all arrived.
pub fn take_frame(
    source: &mut BytesMut,
    frame_size_max: usize,
) -> Result<Option<BytesMut>, CodecError> {
    let Some(length) = source.first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
    let size = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if size > frame_size_max {
        return Err(CodecError::TooLong { size, size_max: frame_size_max });
    }
    let missing = (LENGTH_SIZE + size).saturating_sub(source.len());
    if missing > 0 {
        source.reserve(missing.min(RESERVE_SIZE_MAX));
        return Ok(None);
    }
    source.advance(LENGTH_SIZE);
    Ok(Some(source.split_to(size)))
}

impl<In, Out: Serialize> Encoder<Out> for FrameCodec<In> {
    type Error = CodecError;

    fn encode(&mut self, message: Out, target: &mut BytesMut) -> Result<(), CodecError> {
        encode_frame(&message, self.frame_size_max, target)
    }
}

/// One message from all of `bytes`.
pub fn decode_message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut deserializer = rmp_serde::Deserializer::new(bytes);
    deserializer.set_max_depth(DEPTH_MAX);
    let message = T::deserialize(&mut deserializer)?;
    match deserializer.get_ref().len() {
        0 => Ok(message),
        count => Err(CodecError::TrailingBytes { count }),
    }
}

/// A message as bytes, without a length before it.
pub fn encode_message<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    Ok(rmp_serde::to_vec_named(message)?)
}

/// Appends a message without a frame to `target`.
pub fn append_message<T: Serialize>(message: &T, target: &mut Vec<u8>) -> Result<(), CodecError> {
    Ok(rmp_serde::encode::write_named(target, message)?)
}

/// Appends a whole frame to `target`, or leaves `target` as it was.
pub fn encode_frame<T: Serialize>(
    message: &T,
    frame_size_max: usize,
    target: &mut BytesMut,
) -> Result<(), CodecError> {
    let start = target.len();
    target.put_u32(0);
    let encoded = rmp_serde::encode::write_named(&mut target.writer(), message);
    let size = target.len() - start - LENGTH_SIZE;
    let length = u32::try_from(size).ok().filter(|_| size <= frame_size_max);
    match (encoded, length, target.get_mut(start..start + LENGTH_SIZE)) {
        (Ok(()), Some(length), Some(place)) => {
            place.copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        (Err(error), _, _) => {
            target.truncate(start);
            Err(error.into())
        }
        _ => {
            target.truncate(start);
            Err(CodecError::TooLong { size, size_max: frame_size_max })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::protocol::{CoordinationError, Op, Request, RequestFrame};

    fn example() -> RequestFrame {
        let op = Op::SetData { path: "/a".to_owned(), data: vec![0, 255, 7], version: Some(3) };
        RequestFrame { xid: 42, request: Request::Multi(vec![op]) }
    }

    fn frame() -> BytesMut {
        let mut bytes = BytesMut::new();
        FrameCodec::<RequestFrame>::new().encode(example(), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_message_survives_in_whatever_pieces_it_arrives() {
        let whole = frame();
        for cut in 0..whole.len() {
            let mut codec = FrameCodec::<RequestFrame>::new();
            let mut arrived = BytesMut::from(&whole[..cut]);
            assert!(codec.decode(&mut arrived).unwrap().is_none(), "cut at {cut}");
            arrived.extend_from_slice(&whole[cut..]);
            arrived.extend_from_slice(&whole);
            assert_eq!(codec.decode(&mut arrived).unwrap(), Some(example()));
            assert_eq!(codec.decode(&mut arrived).unwrap(), Some(example()));
            assert!(arrived.is_empty());
        }
    }

    #[test]
    fn a_lying_length_reserves_no_more_than_a_little() {
        let mut codec = FrameCodec::<RequestFrame>::new();
        let mut bytes = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 1][..]);
        assert!(matches!(codec.decode(&mut bytes), Err(CodecError::TooLong { .. })));

        let announced = u32::try_from(FRAME_SIZE_MAX).unwrap().to_be_bytes();
        let mut bytes = BytesMut::from(&announced[..]);
        assert!(codec.decode(&mut bytes).unwrap().is_none());
        assert!(bytes.capacity() <= 2 * RESERVE_SIZE_MAX, "{}", bytes.capacity());
    }

    #[test]
    fn a_message_over_the_limit_leaves_what_was_there_before() {
        let mut bytes = BytesMut::from(&b"before"[..]);
        let mut codec = FrameCodec::<RequestFrame>::with_frame_size_max(8);
        let error = codec.encode(example(), &mut bytes);
        assert!(matches!(error, Err(CodecError::TooLong { size_max: 8, .. })));
        assert_eq!(&bytes[..], b"before");
    }

    #[test]
    fn left_over_bytes_and_lying_counts_are_errors() {
        let mut message = encode_message(&example()).unwrap();
        message.push(0);
        let error = decode_message::<RequestFrame>(&message);
        assert!(matches!(error, Err(CodecError::TrailingBytes { count: 1 })));
        // An array, a map, a string and a blob, each of four thousand million elements.
        for marker in [0xdd, 0xdf, 0xdb, 0xc6] {
            let lie = [marker, 0xff, 0xff, 0xff, 0xff];
            assert!(decode_message::<Vec<RequestFrame>>(&lie).is_err());
            assert!(decode_message::<RequestFrame>(&lie).is_err());
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut error = CoordinationError::InvalidAcl;
        for index in 0..40 {
            error = CoordinationError::MultiFailed { index, error: Box::new(error) };
        }
        let bytes = encode_message(&error).unwrap();
        assert!(decode_message::<CoordinationError>(&bytes).is_err());
    }

    #[test]
    fn mutated_frames_never_panic() {
        let seed = std::env::var("OTTLA_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("OTTLA_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let whole = frame();
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(..bytes.len());
                bytes[place] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let _ = FrameCodec::<RequestFrame>::new().decode(&mut bytes);
        }
    }
}
