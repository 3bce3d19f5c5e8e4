//! Checks and prepares records before they are appended. Pure, and done before the log's lock is
//! taken: CRCs, decompression and recompression happen here.

use bytes::Bytes;
use ottla_common::kafka::compression::{Compression, CompressionError};
use ottla_common::kafka::record_batch::{
    BATCH_HEADER_SIZE, BatchError, BatchHeader, PatchedHeader, RecordBatch, TimestampType, checksum,
};
use ottla_common::kafka::records::{
    BatchBuilder, BatchOptions, EndTransactionMarker, RecordLimits, RecordsSummary,
    validate_records,
};

use super::error::{AppendError, RecordError};
use super::log::AppendOrigin;
use super::log_config::{LogConfig, TargetCompression};
use super::producer_state::Marker;

/// Records named in one answer; a batch with more bad ones is refused all the same.
const RECORD_ERRORS_MAX: usize = 1000;

/// A batch that may be appended.
#[derive(Clone, Debug)]
pub struct ValidBatch {
    /// The header, to be given its offset and leader epoch.
    pub head: PatchedHeader,
    /// The whole batch, of which the header is replaced by `head`.
    pub bytes: Bytes,
    /// The transaction marker in it.
    pub marker: Option<Marker>,
}

impl ValidBatch {
    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(BATCH_HEADER_SIZE..).unwrap_or_default()
    }
}

fn invalid(message: impl Into<String>) -> AppendError {
    AppendError::InvalidRecord { message: message.into(), record_errors: Vec::new() }
}

fn batch_error(error: BatchError) -> AppendError {
    match error {
        BatchError::Compression(
            error @ (CompressionError::UnknownCodec(_) | CompressionError::UnknownName(_)),
        ) => AppendError::UnsupportedCompression(error.to_string()),
        BatchError::CrcMismatch { .. }
        | BatchError::Truncated { .. }
        | BatchError::InvalidLength(_)
        | BatchError::Compression(_) => AppendError::CorruptMessage(error.to_string()),
        _ => invalid(error.to_string()),
    }
}

/// Checks what a leader is to append, and brings it into the form that the topic wants.
///
/// # Errors
/// What is wrong with the records; nothing has happened then.
pub fn validate_for_leader(
    mut records: Bytes,
    config: &LogConfig,
    origin: AppendOrigin,
    now_ms: i64,
) -> Result<Vec<ValidBatch>, AppendError> {
    let mut batches = Vec::with_capacity(1);
    while !records.is_empty() {
        if origin == AppendOrigin::Client && !batches.is_empty() {
            return Err(invalid(
                "a produce request has more than one record batch for a partition",
            ));
        }
        let available = records.len();
        let batch = RecordBatch::split_from(&mut records).map_err(batch_error)?;
        let batch = batch.ok_or_else(|| {
            AppendError::CorruptMessage(format!(
                "a record batch is cut off after {available} bytes"
            ))
        })?;
        check_size(batch.bytes.len(), config)?;
        batch.validate().map_err(batch_error)?;
        batches.push(match origin {
            AppendOrigin::Client => prepare_client_batch(batch, config, now_ms)?,
            AppendOrigin::Coordinator => prepare(batch, config, now_ms)?,
        });
    }
    if batches.is_empty() {
        return Err(invalid("there is no record batch"));
    }
    Ok(batches)
}

fn check_size(size_bytes: usize, config: &LogConfig) -> Result<(), AppendError> {
    let max_bytes = config.max_message_bytes as usize;
    if size_bytes > max_bytes {
        return Err(AppendError::MessageTooLarge { size_bytes, max_bytes });
    }
    Ok(())
}

fn prepare_client_batch(
    batch: RecordBatch,
    config: &LogConfig,
    now_ms: i64,
) -> Result<ValidBatch, AppendError> {
    let header = &batch.header;
    if header.is_control() {
        return Err(invalid("clients are not allowed to write control records"));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(invalid(format!(
            "invalid sequence number {} in a batch of producer {}",
            header.base_sequence, header.producer_id
        )));
    }
    if header.has_producer_id() && header.producer_epoch < 0 {
        return Err(invalid(format!("producer {} has a negative epoch", header.producer_id)));
    }
    if header.is_transactional() && !header.has_producer_id() {
        return Err(invalid("a transactional batch has no producer id"));
    }
    let summary = validate_records(&batch, RecordLimits::default()).map_err(batch_error)?;
    check_keys(&batch, &summary, config)?;
    check_timestamps(&batch, &summary, config, now_ms)?;
    let batch = recompress(batch, config)?;
    let batch = correct_max_timestamp(batch, &summary, config)?;
    prepare(batch, config, now_ms)
}

fn prepare(batch: RecordBatch, config: &LogConfig, now_ms: i64) -> Result<ValidBatch, AppendError> {
    let marker = find_marker(&batch)?;
    let mut head = batch.patched_header();
    if config.message_timestamp_type == TimestampType::LogAppendTime && !batch.header.is_control() {
        head.set_log_append_time(now_ms);
    }
    Ok(ValidBatch { head, bytes: batch.bytes, marker })
}

/// The marker in a control batch.
///
/// # Errors
/// If the batch's record cannot be read.
pub fn find_marker(batch: &RecordBatch) -> Result<Option<Marker>, AppendError> {
    if !batch.header.is_control() {
        return Ok(None);
    }
    let Some(record) =
        batch.records(RecordLimits::default()).next().transpose().map_err(batch_error)?
    else {
        return Ok(None);
    };
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    let marker = EndTransactionMarker::parse(&key, &value);
    Ok(marker.map(|marker| Marker {
        aborted: !marker.commit,
        coordinator_epoch: marker.coordinator_epoch,
    }))
}

fn check_keys(
    batch: &RecordBatch,
    summary: &RecordsSummary,
    config: &LogConfig,
) -> Result<(), AppendError> {
    if !config.cleanup_compact || summary.first_without_key.is_none() {
        return Ok(());
    }
    let message = "Compacted topic cannot accept message without key";
    let buffer = batch.record_buffer(RecordLimits::default()).map_err(batch_error)?;
    let mut record_errors = Vec::new();
    for (batch_index, record) in (0..).zip(buffer.views()) {
        if record.map_err(batch_error)?.key.is_none() && record_errors.len() < RECORD_ERRORS_MAX {
            record_errors.push(RecordError { batch_index, message: message.to_owned() });
        }
    }
    let message = "One or more records have been rejected".to_owned();
    Err(AppendError::InvalidRecord { message, record_errors })
}

fn check_timestamps(
    batch: &RecordBatch,
    summary: &RecordsSummary,
    config: &LogConfig,
    now_ms: i64,
) -> Result<(), AppendError> {
    if batch.header.timestamp_type() == TimestampType::LogAppendTime {
        let message = "producers must not set the timestamp type to LogAppendTime".to_owned();
        return Err(AppendError::InvalidTimestamp { message, record_errors: Vec::new() });
    }
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let oldest = now_ms.saturating_sub(config.message_timestamp_before_max_ms);
    let newest = now_ms.saturating_add(config.message_timestamp_after_max_ms);
    // -1 means that the record has no timestamp, which is always taken.
    let is_bad = |timestamp| timestamp != -1 && !(oldest..=newest).contains(&timestamp);
    let (smallest, largest) = (summary.min_timestamp.0, summary.max_timestamp.0);
    if smallest >= oldest.max(0) && largest <= newest {
        return Ok(());
    }
    let buffer = batch.record_buffer(RecordLimits::default()).map_err(batch_error)?;
    let mut record_errors = Vec::new();
    for (batch_index, record) in (0..).zip(buffer.views()) {
        let timestamp = record.map_err(batch_error)?.timestamp;
        if is_bad(timestamp) && record_errors.len() < RECORD_ERRORS_MAX {
            let message = format!(
                "Timestamp {timestamp} is out of range. The timestamp should be within \
                 [{oldest}, {newest}]"
            );
            record_errors.push(RecordError { batch_index, message });
        }
    }
    if record_errors.is_empty() {
        return Ok(());
    }
    let message = "One or more records have been rejected due to invalid timestamp".to_owned();
    Err(AppendError::InvalidTimestamp { message, record_errors })
}

/// Rewrites the batch if the topic wants another codec than the producer used.
fn recompress(batch: RecordBatch, config: &LogConfig) -> Result<RecordBatch, AppendError> {
    let header = batch.header;
    let TargetCompression::Fixed(compression) = config.compression_type else { return Ok(batch) };
    if header.compression().map_err(batch_error)? == compression {
        return Ok(batch);
    }
    let compression_level = match compression {
        Compression::Gzip if config.compression_gzip_level < 0 => None,
        Compression::Gzip => Some(config.compression_gzip_level),
        Compression::Lz4 => Some(config.compression_lz4_level),
        Compression::Zstd => Some(config.compression_zstd_level),
        Compression::None | Compression::Snappy => None,
    };
    let options = BatchOptions {
        compression,
        compression_level,
        timestamp_type: header.timestamp_type(),
        base_offset: header.base_offset,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.is_transactional(),
        control: false,
        partition_leader_epoch: header.partition_leader_epoch,
    };
    let buffer = batch.record_buffer(RecordLimits::default()).map_err(batch_error)?;
    let mut builder = BatchBuilder::new(options);
    for record in buffer.views() {
        builder.append_view(&record.map_err(batch_error)?).map_err(batch_error)?;
    }
    let bytes = builder.build().map_err(batch_error)?;
    check_size(bytes.len(), config)?;
    RecordBatch::parse_one(bytes).map_err(batch_error)
}

/// The largest timestamp in the header is what lookups go by, so it has to be true.
fn correct_max_timestamp(
    batch: RecordBatch,
    summary: &RecordsSummary,
    config: &LogConfig,
) -> Result<RecordBatch, AppendError> {
    let max_timestamp = summary.max_timestamp.0;
    if config.message_timestamp_type == TimestampType::LogAppendTime
        || batch.header.max_timestamp == max_timestamp
    {
        return Ok(batch);
    }
    let mut header = BatchHeader { max_timestamp, ..batch.header };
    let join = |header: &BatchHeader| {
        let body = batch.bytes.get(BATCH_HEADER_SIZE..).unwrap_or_default();
        [header.to_bytes().as_slice(), body].concat()
    };
    header.crc = checksum(&join(&header));
    RecordBatch::parse_one(Bytes::from(join(&header))).map_err(batch_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn batch_of(options: BatchOptions, records: &[(i64, Option<&[u8]>)]) -> Bytes {
        let mut builder = BatchBuilder::new(options);
        for &(timestamp, key) in records {
            builder.append(timestamp, key, Some(&[7; 50]), &[]).unwrap();
        }
        builder.build().unwrap()
    }

    fn validate(records: Bytes, config: &LogConfig) -> Result<Vec<ValidBatch>, AppendError> {
        validate_for_leader(records, config, AppendOrigin::Client, NOW_MS)
    }

    #[test]
    fn a_sound_batch_passes_untouched() {
        let bytes = batch_of(BatchOptions::default(), &[(NOW_MS, None), (NOW_MS + 1, None)]);
        let valid = validate(bytes.clone(), &LogConfig::default()).unwrap();
        assert_eq!(valid[0].bytes.as_ptr(), bytes.as_ptr(), "no copy was made");
        assert_eq!(valid[0].head.as_bytes()[..], bytes[..BATCH_HEADER_SIZE]);
    }

    #[test]
    fn a_compacted_topic_names_the_records_without_a_key() {
        let records: &[(i64, Option<&[u8]>)] =
            &[(1, Some(b"k")), (1, None), (1, Some(b"")), (1, None)];
        let config = LogConfig { cleanup_compact: true, ..LogConfig::default() };
        let error = validate(batch_of(BatchOptions::default(), records), &config).unwrap_err();
        let AppendError::InvalidRecord { record_errors, .. } = error else { panic!("{error}") };
        assert_eq!(record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn timestamps_must_be_near_enough_unless_the_broker_sets_them() {
        let records = &[(NOW_MS - 11, None), (NOW_MS, None), (-1, None), (NOW_MS + 21, None)];
        let bytes = batch_of(BatchOptions::default(), records);
        let config = LogConfig {
            message_timestamp_before_max_ms: 10,
            message_timestamp_after_max_ms: 20,
            ..LogConfig::default()
        };
        let error = validate(bytes.clone(), &config).unwrap_err();
        let AppendError::InvalidTimestamp { record_errors, .. } = error else { panic!("{error}") };
        assert_eq!(record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [0, 3]);

        let config = LogConfig {
            message_timestamp_type: TimestampType::LogAppendTime,
            ..LogConfig::default()
        };
        let valid = validate(bytes, &config).unwrap();
        let whole = [&valid[0].head.as_bytes()[..], valid[0].body()].concat();
        let batch = RecordBatch::parse_one(Bytes::from(whole)).unwrap();
        batch.validate().unwrap();
        let times: Vec<_> =
            batch.records(RecordLimits::default()).map(|r| r.unwrap().timestamp).collect();
        assert_eq!(times, [NOW_MS; 4]);
    }

    #[test]
    fn a_topic_with_a_codec_gets_all_batches_in_it() {
        let options = BatchOptions {
            compression: Compression::Gzip,
            producer_id: 5,
            producer_epoch: 1,
            base_sequence: 9,
            ..BatchOptions::default()
        };
        let bytes = batch_of(options, &[(NOW_MS, Some(b"a")), (NOW_MS - 1, None)]);
        let before = RecordBatch::parse_one(bytes.clone()).unwrap();
        for compression in Compression::ALL {
            let compression_type = TargetCompression::Fixed(compression);
            let config = LogConfig { compression_type, ..LogConfig::default() };
            let valid = validate(bytes.clone(), &config).unwrap().remove(0);
            let batch = RecordBatch::parse_one(valid.bytes).unwrap();
            batch.validate().unwrap();
            assert_eq!(batch.header.compression().unwrap(), compression);
            assert_eq!(batch.header.base_sequence, 9);
            let records = |batch: &RecordBatch| {
                batch.records(RecordLimits::default()).collect::<Result<Vec<_>, _>>().unwrap()
            };
            assert_eq!(records(&batch), records(&before));
        }
    }

    #[test]
    fn what_is_not_allowed_is_refused_by_its_own_error() {
        let good = batch_of(BatchOptions::default(), &[(NOW_MS, None)]);
        let config = LogConfig::default();
        let two = Bytes::from([&good[..], &good[..]].concat());
        assert!(matches!(validate(two, &config), Err(AppendError::InvalidRecord { .. })));
        assert!(matches!(validate(Bytes::new(), &config), Err(AppendError::InvalidRecord { .. })));
        let cut = good.slice(..good.len() - 1);
        assert!(matches!(validate(cut, &config), Err(AppendError::CorruptMessage(_))));
        let small = LogConfig { max_message_bytes: 20, ..LogConfig::default() };
        assert!(matches!(validate(good.clone(), &small), Err(AppendError::MessageTooLarge { .. })));
        let mut flipped = good.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(matches!(validate(flipped.into(), &config), Err(AppendError::CorruptMessage(_))));
        let mut old = good.to_vec();
        old[16] = 1;
        assert!(matches!(validate(old.into(), &config), Err(AppendError::InvalidRecord { .. })));
        let control = BatchOptions { control: true, ..BatchOptions::default() };
        let control = batch_of(control, &[(NOW_MS, Some(&[0, 0, 0, 1]))]);
        assert!(matches!(validate(control, &config), Err(AppendError::InvalidRecord { .. })));
        let no_sequence =
            BatchOptions { producer_id: 1, producer_epoch: 0, ..BatchOptions::default() };
        let no_sequence = batch_of(no_sequence, &[(NOW_MS, None)]);
        assert!(matches!(validate(no_sequence, &config), Err(AppendError::InvalidRecord { .. })));
    }

    #[test]
    fn a_header_that_lies_about_the_largest_timestamp_is_corrected() {
        let bytes = batch_of(BatchOptions::default(), &[(NOW_MS, None), (NOW_MS + 5, None)]);
        let mut header = BatchHeader::parse(&bytes).unwrap();
        header.max_timestamp = 3;
        let mut lying = [&header.to_bytes()[..], &bytes[BATCH_HEADER_SIZE..]].concat();
        header.crc = checksum(&lying);
        lying[..BATCH_HEADER_SIZE].copy_from_slice(&header.to_bytes());
        let valid = validate(lying.into(), &LogConfig::default()).unwrap();
        assert_eq!(valid[0].bytes, bytes);
    }
}
