//! Frames: four bytes of length, then a message.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::wire::{Segment, WireError, Writer};

/// The bytes of a frame's length.
const LENGTH_SIZE: usize = 4;

/// How much room is made at a time for a frame of which not all has come. A length alone must not
/// allocate what it promises.
const RESERVED_SIZE_MAX: usize = 1024 * 1024;

/// An encoded message with its length before it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedFrame {
    /// What is to be sent, in order; none is empty.
    pub segments: Vec<Segment>,
    /// The bytes of all segments together, the four of the length included.
    pub size: usize,
}

impl EncodedFrame {
    /// The frame of what `writer` holds, which must begin with four bytes for the length.
    pub(crate) fn finish(mut writer: Writer) -> Result<Self, WireError> {
        let size = writer.size();
        let length = size.saturating_sub(LENGTH_SIZE);
        let most = i32::MAX.unsigned_abs() as usize;
        writer.set_first_i32(i32::try_from(length).map_err(|_| WireError::TooLong(size, most))?);
        Ok(Self { segments: writer.into_segments(), size })
    }

    /// All of it in one piece, copied. A file is an error.
    pub fn to_bytes(&self) -> Result<Bytes, WireError> {
        let mut bytes = BytesMut::with_capacity(self.size);
        for segment in &self.segments {
            match segment {
                Segment::Bytes(segment) => bytes.put_slice(segment),
                Segment::File(_) => return Err(WireError::FileInMemory),
            }
        }
        Ok(bytes.freeze())
    }
}

/// Why a connection cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("the length of a frame is negative: {0}")]
    NegativeLength(i32),
    /// The length is beyond what is allowed here.
    #[error("a frame of {size} bytes is beyond the {max} that are allowed")]
    TooLarge {
        /// What the peer claims.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// The peer speaks another protocol, which its first bytes give away.
    #[error("the peer speaks {0}, not Kafka's protocol")]
    OtherProtocol(&'static str),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A frame to be sent is not in memory.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Cuts a stream of bytes into frames. What it gives are the messages, without the lengths.
#[derive(Clone, Debug)]
pub struct FrameCodec {
    size_max: usize,
}

impl FrameCodec {
    /// A codec that refuses messages of more than `size_max` bytes.
    pub fn new(size_max: usize) -> Self {
        Self { size_max }
    }

    /// Changes the limit, for the frames of which the length has not been read.
    pub fn set_size_max(&mut self, size_max: usize) {
        self.size_max = size_max;
    }
}

/// Reads the length of a frame and judges it.
fn checked_length(prefix: [u8; LENGTH_SIZE], max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    let size = usize::try_from(length).map_err(|_| FrameError::NegativeLength(length))?;
    if size <= max {
        return Ok(size);
    }
    Err(match &prefix {
        [0x16, 0x03, _, _] => FrameError::OtherProtocol("TLS"),
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"PRI " | b"CONN" => {
            FrameError::OtherProtocol("HTTP")
        }
        _ => FrameError::TooLarge { size, max },
    })
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = src.first_chunk::<LENGTH_SIZE>() else {
            return Ok(None);
        };
        let size = checked_length(*prefix, self.size_max)?;
        let missing = (LENGTH_SIZE + size).saturating_sub(src.len());
        if missing > 0 {
            src.reserve(missing.min(RESERVED_SIZE_MAX));
            return Ok(None);
        }
        src.advance(LENGTH_SIZE);
        Ok(Some(src.split_to(size).freeze()))
    }
}

/// Copies the frame. Where records are sent, write the segments instead.
impl Encoder<EncodedFrame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: EncodedFrame, dst: &mut BytesMut) -> Result<(), FrameError> {
        dst.reserve(frame.size);
        for segment in frame.segments {
            match segment {
                Segment::Bytes(bytes) => dst.put(bytes),
                Segment::File(_) => return Err(WireError::FileInMemory.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Option<Bytes>, FrameError> {
        FrameCodec::new(1000).decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn frames_come_out_whole_however_they_came_in() {
        let mut codec = FrameCodec::new(1000);
        let mut stream = BytesMut::new();
        let mut frames = Vec::new();
        for byte in [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 1, b'c'] {
            stream.put_u8(byte);
            frames.extend(codec.decode(&mut stream).unwrap());
        }
        assert_eq!(frames, [&b"ab"[..], b"", b"c"]);
        assert!(stream.is_empty());
    }

    #[test]
    fn a_length_promises_nothing() {
        assert!(matches!(decode(&[0xff; 4]), Err(FrameError::NegativeLength(-1))));
        let too_large = decode(&1001i32.to_be_bytes());
        assert!(matches!(too_large, Err(FrameError::TooLarge { size: 1001, max: 1000 })));
        assert!(matches!(decode(b"GET / HTTP/1.1"), Err(FrameError::OtherProtocol("HTTP"))));
        let hello = [0x16, 0x03, 0x01, 0x02, 0x00];
        assert!(matches!(decode(&hello), Err(FrameError::OtherProtocol("TLS"))));

        let mut stream = BytesMut::from(&0x7000_0000i32.to_be_bytes()[..]);
        assert!(FrameCodec::new(usize::MAX).decode(&mut stream).unwrap().is_none());
        assert!(stream.capacity() <= 2 * RESERVED_SIZE_MAX);
    }
}
