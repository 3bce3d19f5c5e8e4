//! The codecs that the records of a batch may be compressed with.
//!
//! Compressed bytes come from clients and are not trusted: decompression is a stream with a limit
//! on what comes out, nothing is allocated because the input says how large it will be, and what a
//! codec keeps for itself is bounded by its format: 32 KiB for gzip, one block for Snappy, about
//! 12 MiB for LZ4, and for Zstandard the window of at most 128 MiB that Java's highest level uses.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod snappy;

use std::io::{self, Read, Write};

use bytes::Bytes;

use snappy::SnappyReader;

/// The base-two logarithm of the largest Zstandard window that is accepted, that of level 22.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A codec, as the lowest three bits of a batch's attributes number it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The records as they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of `xerial/snappy-java`.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// A Zstandard frame (KIP-110).
    Zstd,
}

/// Why records could not be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// No codec has this number.
    #[error("compression codec {0} does not exist")]
    UnknownCodec(i16),
    /// No codec has this name.
    #[error("compression type {0:?} is not one of none, gzip, snappy, lz4, zstd")]
    UnknownName(String),
    /// What came out of the compressed bytes was larger than allowed.
    #[error("decompressed records are larger than {limit} bytes")]
    TooLarge {
        /// The most bytes that were allowed.
        limit: usize,
    },
    /// The bytes are not what the codec writes.
    #[error("invalid {codec} data: {reason}")]
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What the decoder says.
        reason: String,
    },
    /// The codec could not compress.
    #[error("{codec} could not compress: {reason}")]
    Failed {
        /// The codec.
        codec: Compression,
        /// What the encoder says.
        reason: String,
    },
}

impl Compression {
    /// All codecs, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of this number.
    ///
    /// # Errors
    /// If there is none.
    pub fn from_id(id: i16) -> Result<Self, CompressionError> {
        match id {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            _ => Err(CompressionError::UnknownCodec(id)),
        }
    }

    /// The codec's number.
    pub fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec's name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Appends `input`, compressed, to `out`. `level` is the codec's own scale (gzip 1 to 9, zstd
    /// negative to 22; Snappy and LZ4 have none); `None` is its default.
    ///
    /// # Errors
    /// If the codec refuses, which it does only for input that is too long for it.
    pub fn compress(
        self,
        input: &[u8],
        level: Option<i32>,
        out: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        let result = match self {
            Self::None => out.write_all(input),
            Self::Gzip => compress_gzip(input, level, out),
            Self::Snappy => snappy::compress(input, out),
            Self::Lz4 => compress_lz4(input, out),
            Self::Zstd => compress_zstd(input, level, out),
        };
        result.map_err(|error| CompressionError::Failed { codec: self, reason: error.to_string() })
    }

    /// What the compressed `input` decompresses to. No copy is made if it is not compressed.
    ///
    /// # Errors
    /// If it is not valid or more than `limit` bytes, and not before the bytes up to that place
    /// were decompressed.
    pub fn decompress(self, input: &Bytes, limit: usize) -> Result<Bytes, CompressionError> {
        if self == Self::None {
            if input.len() > limit {
                return Err(CompressionError::TooLarge { limit });
            }
            return Ok(input.clone());
        }
        let mut reader = self.reader(input, limit)?;
        // Doubles as it grows, so that memory follows what has really come out.
        let mut output = Vec::new();
        reader.read_to_end(&mut output).map_err(|error| reader.describe(error))?;
        Ok(Bytes::from(output))
    }

    /// Decompresses as it is read, at most `limit` bytes.
    ///
    /// # Errors
    /// If the decoder cannot be set up.
    pub fn reader(self, input: &[u8], limit: usize) -> Result<Decompressor<'_>, CompressionError> {
        let decoder = match self {
            Self::None => Decoder::None(input),
            Self::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Self::Snappy => Decoder::Snappy(SnappyReader::new(input, limit)),
            Self::Lz4 => Decoder::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(input))),
            Self::Zstd => Decoder::Zstd(zstd_decoder(input).map_err(|error| {
                CompressionError::Corrupt { codec: self, reason: error.to_string() }
            })?),
        };
        Ok(Decompressor { codec: self, decoder, limit, produced: 0, ended: false })
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Compression {
    type Err = CompressionError;

    fn from_str(name: &str) -> Result<Self, CompressionError> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| CompressionError::UnknownName(name.to_owned()))
    }
}

enum Decoder<'a> {
    None(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(zstd::stream::read::Decoder<'static, &'a [u8]>),
}

/// A decompressing reader, which fails as soon as more than its limit comes out. Its errors are
/// told apart by [`Decompressor::describe`].
pub struct Decompressor<'a> {
    codec: Compression,
    decoder: Decoder<'a>,
    limit: usize,
    produced: usize,
    /// A decoder that said "end" is not asked again: it would look for a second frame.
    ended: bool,
}

impl Decompressor<'_> {
    /// What an error of reading means.
    pub fn describe(&self, error: io::Error) -> CompressionError {
        if self.produced > self.limit
            || matches!(&self.decoder, Decoder::Snappy(s) if s.too_large())
        {
            return CompressionError::TooLarge { limit: self.limit };
        }
        CompressionError::Corrupt { codec: self.codec, reason: error.to_string() }
    }
}

impl Read for Decompressor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let read = match &mut self.decoder {
            Decoder::None(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Snappy(decoder) => decoder.read(buffer),
            Decoder::Lz4(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }?;
        self.ended = read == 0;
        self.produced = self.produced.saturating_add(read);
        if self.produced > self.limit {
            return Err(io::Error::other("larger than allowed"));
        }
        Ok(read)
    }
}

fn zstd_decoder(input: &[u8]) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

fn compress_gzip(input: &[u8], level: Option<i32>, out: &mut Vec<u8>) -> io::Result<()> {
    let level = level.and_then(|level| u32::try_from(level.clamp(0, 9)).ok());
    let level = level.map_or(flate2::Compression::default(), flate2::Compression::new);
    let mut encoder = flate2::write::GzEncoder::new(out, level);
    encoder.write_all(input)?;
    encoder.finish().map(drop)
}

fn compress_lz4(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    // Java reads neither linked blocks nor dictionaries, and writes blocks of 64 KiB.
    let frame = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Independent)
        .block_size(lz4_flex::frame::BlockSize::Max64KB);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, out);
    encoder.write_all(input)?;
    encoder.finish().map(drop).map_err(io::Error::other)
}

fn compress_zstd(input: &[u8], level: Option<i32>, out: &mut Vec<u8>) -> io::Result<()> {
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    out.extend_from_slice(&zstd::bulk::compress(input, level)?);
    Ok(())
}

#[cfg(test)]
mod tests;
