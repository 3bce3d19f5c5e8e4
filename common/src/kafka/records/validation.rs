//! Checks the records of a produced batch as a stream: whatever it decompresses to, no more than a
//! buffer of it is in memory at a time.

use std::io::{BufRead, BufReader};

use super::super::compression::{Compression, CompressionError, Decompressor};
use super::super::record_batch::{BATCH_HEADER_SIZE, BatchError, BatchHeader, RecordBatch};
use super::super::varint::{read_varint, read_varlong};
use super::{Reason, RecordLimits};

/// Bytes that are decompressed at a time.
const BUFFER_SIZE: usize = 16 * 1024;

/// What [`validate_records`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsSummary {
    /// How many records there are.
    pub records_count: i32,
    /// The smallest timestamp of the records, and the index of the first record that has it. The
    /// records' own timestamps, whatever the batch's timestamp type is.
    pub min_timestamp: (i64, i32),
    /// The largest timestamp, likewise. The header's may differ: Kafka then corrects the header.
    pub max_timestamp: (i64, i32),
    /// The index of the first record whose key is null, which a compacted topic refuses.
    pub first_without_key: Option<i32>,
    /// Bytes of the records when decompressed, without the batch's header.
    pub uncompressed_bytes: usize,
}

/// Checks the records of a batch that a producer sent: there are as many as the header says, their
/// offsets follow one another from the base offset without a gap, each is well-formed, and nothing
/// follows them. The CRC is not looked at.
///
/// # Errors
/// `InvalidRecord` names the first record that is wrong; `Compression` if they do not decompress.
pub fn validate_records(
    batch: &RecordBatch,
    limits: RecordLimits,
) -> Result<RecordsSummary, BatchError> {
    let header = &batch.header;
    if header.records_count < 1 {
        return Err(BatchError::InvalidHeader("the batch has no records"));
    }
    if i64::from(header.records_count) != i64::from(header.last_offset_delta) + 1 {
        return Err(BatchError::InvalidHeader("the records count contradicts the offsets"));
    }
    let payload = batch.bytes.get(BATCH_HEADER_SIZE..).unwrap_or_default();
    let limit = limits.decompressed_bytes_max;
    match header.compression()? {
        Compression::None if payload.len() > limit => {
            Err(CompressionError::TooLarge { limit }.into())
        }
        Compression::None => scan(header, &mut SliceSource { rest: payload }),
        codec => {
            let reader = codec.reader(payload, limit)?;
            let reader = BufReader::with_capacity(BUFFER_SIZE, reader);
            scan(header, &mut StreamSource { reader, failure: None })
        }
    }
}

/// Where bytes come from: a slice, for speed, or a decompressing stream.
trait Source {
    /// The next byte; `None` at the end or on failure.
    fn byte(&mut self) -> Option<u8>;
    /// Goes on by `count` bytes; `None` if there are fewer.
    fn skip(&mut self, count: usize) -> Option<()>;
    /// The error of the stream, if that is why there were no more bytes.
    fn failure(&mut self) -> Option<CompressionError>;
}

struct SliceSource<'a> {
    rest: &'a [u8],
}

impl Source for SliceSource<'_> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    fn failure(&mut self) -> Option<CompressionError> {
        None
    }
}

struct StreamSource<'a> {
    reader: BufReader<Decompressor<'a>>,
    failure: Option<CompressionError>,
}

impl StreamSource<'_> {
    /// What is decompressed and not consumed; empty at the end or on failure.
    fn available(&mut self) -> &[u8] {
        // A second call after the buffer was filled is cheap and cannot fail.
        if let Err(error) = self.reader.fill_buf() {
            self.failure = Some(self.reader.get_ref().describe(error));
            return &[];
        }
        self.reader.buffer()
    }
}

impl Source for StreamSource<'_> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = match self.reader.buffer().first() {
            Some(&byte) => byte,
            None => *self.available().first()?,
        };
        self.reader.consume(1);
        Some(byte)
    }

    fn skip(&mut self, mut count: usize) -> Option<()> {
        while count > 0 {
            let step = self.available().len().min(count);
            if step == 0 {
                return None;
            }
            self.reader.consume(step);
            count -= step;
        }
        Some(())
    }

    fn failure(&mut self) -> Option<CompressionError> {
        self.failure.take()
    }
}

fn scan(header: &BatchHeader, source: &mut impl Source) -> Result<RecordsSummary, BatchError> {
    let mut summary = RecordsSummary {
        records_count: header.records_count,
        min_timestamp: (i64::MAX, 0),
        max_timestamp: (i64::MIN, 0),
        first_without_key: None,
        uncompressed_bytes: 0,
    };
    for index in 0..header.records_count {
        let record = scan_record(source, index).map_err(|reason| fail(source, index, reason))?;
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        if timestamp < summary.min_timestamp.0 {
            summary.min_timestamp = (timestamp, index);
        }
        if timestamp > summary.max_timestamp.0 {
            summary.max_timestamp = (timestamp, index);
        }
        if !record.has_key && summary.first_without_key.is_none() {
            summary.first_without_key = Some(index);
        }
        summary.uncompressed_bytes = summary.uncompressed_bytes.saturating_add(record.size);
    }
    if source.byte().is_some() {
        let index = header.records_count;
        return Err(BatchError::InvalidRecord { index, reason: "bytes follow the last record" });
    }
    // The end was reached because there is nothing more, not because of what there is.
    match source.failure() {
        Some(error) => Err(error.into()),
        None => Ok(summary),
    }
}

fn fail(source: &mut impl Source, index: i32, reason: Reason) -> BatchError {
    match source.failure() {
        Some(error) => error.into(),
        None => BatchError::InvalidRecord { index, reason },
    }
}

/// What is kept of a record.
struct Scanned {
    timestamp_delta: i64,
    has_key: bool,
    /// Bytes, its length field included.
    size: usize,
}

fn scan_record(source: &mut impl Source, index: i32) -> Result<Scanned, Reason> {
    let mut length_bytes = 0;
    let length = read_varint(|| {
        length_bytes += 1;
        source.byte()
    });
    let length = length.ok_or("its length is cut off")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let size = length_bytes + length;
    let mut body = Body { source, left: length };
    body.skip(1, "it is empty")?;
    let timestamp_delta = body.varlong("its timestamp is cut off")?;
    if body.varint("its offset is cut off")? != index {
        return Err("its offset does not follow the one before");
    }
    let has_key = body.skip_nullable("its key is cut off")?;
    body.skip_nullable("its value is cut off")?;
    let headers = body.varint("its count of headers is cut off")?;
    let headers = usize::try_from(headers).map_err(|_| "its count of headers is negative")?;
    for _ in 0..headers {
        if !body.skip_nullable("a header's key is null or cut off")? {
            return Err("a header's key is null or cut off");
        }
        body.skip_nullable("a header's value is cut off")?;
    }
    if body.left > 0 {
        return Err("bytes follow its headers");
    }
    Ok(Scanned { timestamp_delta, has_key, size })
}

/// The body of one record: no field may reach over its end.
struct Body<'a, S> {
    source: &'a mut S,
    left: usize,
}

impl<S: Source> Body<'_, S> {
    /// Counts every byte, for an encoder may have written more of them than needed.
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        self.source.byte()
    }

    fn varint(&mut self, reason: Reason) -> Result<i32, Reason> {
        read_varint(|| self.byte()).ok_or(reason)
    }

    fn varlong(&mut self, reason: Reason) -> Result<i64, Reason> {
        read_varlong(|| self.byte()).ok_or(reason)
    }

    fn skip(&mut self, count: usize, reason: Reason) -> Result<(), Reason> {
        self.left = self.left.checked_sub(count).ok_or(reason)?;
        self.source.skip(count).ok_or(reason)
    }

    /// Skips a length and as many bytes. `false` if it was null.
    fn skip_nullable(&mut self, reason: Reason) -> Result<bool, Reason> {
        let length = self.varint(reason)?;
        match usize::try_from(length) {
            Ok(length) => self.skip(length, reason).map(|()| true),
            Err(_) if length == -1 => Ok(false),
            Err(_) => Err(reason),
        }
    }
}
