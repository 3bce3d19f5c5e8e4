//! Records: round trips, hostile input, and batches of Kafka's own Java code.

use proptest::prelude::*;

use super::*;
use crate::kafka::compression::{Compression, CompressionError};
use crate::kafka::record_batch::{checksum, set_crc};

type Input = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn options(compression: Compression) -> BatchOptions {
    BatchOptions {
        compression,
        base_offset: 1_000,
        producer_id: 5,
        producer_epoch: 2,
        base_sequence: 77,
        ..BatchOptions::default()
    }
}

fn headers(pairs: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<RecordHeader> {
    pairs
        .iter()
        .map(|(key, value)| RecordHeader {
            key: Bytes::copy_from_slice(key),
            value: value.as_deref().map(Bytes::copy_from_slice),
        })
        .collect()
}

fn build(records: &[Input], options: BatchOptions) -> RecordBatch {
    let mut builder = BatchBuilder::new(options);
    for (timestamp, key, value, pairs) in records {
        let before = builder.estimated_size();
        let headers = headers(pairs);
        builder.append(*timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
        let size_max = BatchBuilder::record_size_max(key.as_deref(), value.as_deref(), &headers);
        assert!(builder.estimated_size() - before <= size_max);
    }
    RecordBatch::parse_one(builder.build().unwrap()).unwrap()
}

fn simple(count: i32, compression: Compression) -> RecordBatch {
    let records: Vec<Input> = (0..count)
        .map(|n| (100 + i64::from(n), Some(vec![7; 10]), Some(vec![9; 100]), vec![]))
        .collect();
    build(&records, options(compression))
}

/// `batch` with other bytes for its records, and a checksum that fits them.
fn with_payload(batch: &RecordBatch, payload: &[u8]) -> RecordBatch {
    let mut bytes = batch.header.to_bytes().to_vec();
    bytes.extend_from_slice(payload);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = checksum(&bytes);
    set_crc(&mut bytes, crc).unwrap();
    RecordBatch::parse_one(Bytes::from(bytes)).unwrap()
}

fn all(batch: &RecordBatch) -> Result<Vec<Record>, BatchError> {
    batch.records(RecordLimits::default()).collect()
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let header = (prop::collection::vec(any::<u8>(), 0..20), bytes());
    let record = (any::<i64>(), bytes(), bytes(), prop::collection::vec(header, 0..4));
    prop::collection::vec(record, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn records_survive_a_batch(
        inputs in inputs(),
        codec in prop::sample::select(&Compression::ALL[..]),
    ) {
        let batch = build(&inputs, options(codec));
        batch.validate().unwrap();
        let records = all(&batch).unwrap();
        prop_assert_eq!(records.len(), inputs.len());
        let buffer = batch.record_buffer(RecordLimits::default()).unwrap();
        let views: Vec<RecordView<'_>> = buffer.views().collect::<Result<_, _>>().unwrap();
        for (index, (timestamp, key, value, pairs)) in inputs.iter().enumerate() {
            let record = &records[index];
            prop_assert_eq!(record.offset, 1_000 + i64::try_from(index).unwrap());
            prop_assert_eq!(record.timestamp, *timestamp);
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            prop_assert_eq!(&record.headers, &headers(pairs));
            prop_assert_eq!(views[index].value, value.as_deref());
            prop_assert_eq!(views[index].headers.len(), pairs.len());
        }
        let max = inputs.iter().map(|input| input.0).max().unwrap();
        let summary = validate_records(&batch, RecordLimits::default()).unwrap();
        prop_assert_eq!(summary.max_timestamp.0, max);
        prop_assert_eq!(batch.header.max_timestamp, max);
        prop_assert_eq!(summary.min_timestamp.0, inputs.iter().map(|input| input.0).min().unwrap());
        let keyless = inputs.iter().position(|input| input.1.is_none());
        prop_assert_eq!(summary.first_without_key, keyless.map(|n| i32::try_from(n).unwrap()));
        let payload = buffer.bytes.len();
        prop_assert_eq!(summary.uncompressed_bytes, payload);
    }

    /// A cleaner's copy of a batch without some records keeps the others as they were.
    #[test]
    fn a_batch_without_some_of_its_records_keeps_the_offsets(
        inputs in inputs(),
        keep in prop::collection::vec(any::<bool>(), 40),
    ) {
        let batch = build(&inputs, options(Compression::None));
        let buffer = batch.record_buffer(RecordLimits::default()).unwrap();
        let mut builder = BatchBuilder::new(options(Compression::Lz4));
        for (record, _) in buffer.views().zip(&keep).filter(|(_, keep)| **keep) {
            builder.append_view(&record.unwrap()).unwrap();
        }
        builder.set_last_offset(batch.header.last_offset()).unwrap();
        let cleaned = RecordBatch::parse_one(builder.build().unwrap()).unwrap();
        cleaned.validate().unwrap();
        prop_assert_eq!(cleaned.header.last_offset(), batch.header.last_offset());
        let mut expected = all(&batch).unwrap();
        let mut keep = keep.iter();
        expected.retain(|_| *keep.next().unwrap());
        prop_assert_eq!(all(&cleaned).unwrap(), expected);
    }

    /// Hostile bytes with a right checksum: never a panic, and both readers agree.
    #[test]
    fn mutated_records_are_refused_or_read_the_same_by_all(
        inputs in inputs(),
        codec in prop::sample::select(&Compression::ALL[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let batch = build(&inputs, options(codec));
        let mut payload = batch.payload().to_vec();
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        let mutated = with_payload(&batch, &payload);
        let limits = RecordLimits { decompressed_bytes_max: 1 << 20 };
        let read: Result<Vec<Record>, BatchError> = mutated.records(limits).collect();
        let checked = validate_records(&mutated, limits);
        if let Ok(summary) = checked {
            let read = read.unwrap();
            prop_assert_eq!(usize::try_from(summary.records_count).unwrap(), read.len());
        } else if let Ok(read) = read {
            // Readers take offsets with gaps, which a producer must not send.
            let mut pairs = (1_000i64..).zip(&read);
            let consecutive = pairs.all(|(offset, record)| record.offset == offset);
            prop_assert!(!consecutive, "{:?}", checked);
        }
    }

    #[test]
    fn any_bytes_at_all_are_harmless(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        count in 1i32..5,
    ) {
        let batch = simple(count, Compression::None);
        let hostile = with_payload(&batch, &bytes);
        let _ = all(&hostile);
        let _ = validate_records(&hostile, RecordLimits::default());
    }
}

#[test]
fn one_record_has_kafkas_bytes() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let headers = [RecordHeader::new("h", "x")];
    assert_eq!(builder.append(1_000, Some(b"k"), Some(b"v"), &headers).unwrap(), 0);
    assert_eq!(builder.append(999, None, None, &[]).unwrap(), 1);
    let batch = RecordBatch::parse_one(builder.build().unwrap()).unwrap();
    let expected =
        [&[24, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 2, b'x'][..], &[12, 0, 1, 2, 1, 1, 0]];
    assert_eq!(batch.payload()[..], expected.concat());
    assert_eq!((batch.header.base_timestamp, batch.header.max_timestamp), (1_000, 1_000));
    assert_eq!((batch.header.last_offset_delta, batch.header.records_count), (1, 2));
}

#[test]
fn a_log_append_time_is_the_time_of_all_records() {
    let batch = simple(3, Compression::Zstd);
    let mut header = batch.patched_header();
    header.set_log_append_time(5_000);
    let bytes = [&header.as_bytes()[..], &batch.payload()].concat();
    let batch = RecordBatch::parse_one(Bytes::from(bytes)).unwrap();
    batch.validate().unwrap();
    assert!(all(&batch).unwrap().iter().all(|record| record.timestamp == 5_000));
    let summary = validate_records(&batch, RecordLimits::default()).unwrap();
    assert_eq!(summary.max_timestamp, (102, 2), "the producer's own");
}

#[test]
fn counts_that_lie_are_found_out() {
    for codec in Compression::ALL {
        let batch = simple(3, codec);
        for count in [1, 2, 4, i32::MAX] {
            let mut header = batch.header;
            header.records_count = count;
            header.last_offset_delta = count - 1;
            let lying = RecordBatch { header, bytes: batch.bytes.clone() };
            assert!(all(&lying).is_err(), "{codec} {count}");
            assert!(validate_records(&lying, RecordLimits::default()).is_err());
        }
        let header = BatchHeader { last_offset_delta: 5, ..batch.header };
        let gap = RecordBatch { header, bytes: batch.bytes.clone() };
        assert_eq!(all(&gap).unwrap().len(), 3, "compacted, perhaps");
        assert!(validate_records(&gap, RecordLimits::default()).is_err(), "but not produced");
    }
}

#[test]
fn a_header_count_from_the_wire_allocates_nothing() {
    // A record of 11 bytes that says it has 2^31 - 1 headers.
    let payload = [22, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0];
    let hostile = with_payload(&simple(1, Compression::None), &payload);
    let reason = "a header's value is cut off";
    for error in [
        all(&hostile).unwrap_err(),
        validate_records(&hostile, RecordLimits::default()).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), format!("record 0 of the batch is invalid: {reason}"));
    }
}

#[test]
fn more_bytes_than_minimal_in_a_varint_are_counted() {
    // The key length -1 as two bytes, 0x81 0x00.
    let payload = [14, 0, 0, 0, 0x81, 0, 1, 0];
    let batch = with_payload(&simple(1, Compression::None), &payload);
    assert_eq!(all(&batch).unwrap()[0].key, None);
    assert!(validate_records(&batch, RecordLimits::default()).is_ok());
}

/// Few bytes that decompress to very many: refused when the limit is reached, by each codec.
#[test]
fn a_decompression_bomb_is_refused() {
    let limits = RecordLimits { decompressed_bytes_max: 8 << 20 };
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut payload = Vec::new();
        codec.compress(&vec![0; 32 << 20], None, &mut payload).unwrap();
        let mut header = simple(1, codec).header;
        header.base_offset = 0;
        let bomb = with_payload(&RecordBatch { header, bytes: Bytes::new() }, &payload);
        let too_large = |error: BatchError| {
            matches!(error, BatchError::Compression(CompressionError::TooLarge { .. }))
        };
        assert!(too_large(all_within(&bomb, limits).unwrap_err()), "{codec}");
        // Streaming sees that the first record, of no length, is wrong, before it sees how many
        // more there would be.
        assert!(validate_records(&bomb, limits).is_err(), "{codec}");
    }
}

fn all_within(batch: &RecordBatch, limits: RecordLimits) -> Result<Vec<Record>, BatchError> {
    batch.records(limits).collect()
}

#[test]
fn a_huge_record_is_refused_by_the_stream_too() {
    let limits = RecordLimits { decompressed_bytes_max: 1 << 20 };
    for codec in Compression::ALL {
        let value = vec![0; 16 << 20];
        let batch = build(&[(0, None, Some(value), vec![])], options(codec));
        let error = validate_records(&batch, limits).unwrap_err();
        let too_large = matches!(error, BatchError::Compression(CompressionError::TooLarge { .. }));
        assert!(too_large, "{codec}: {error}");
        assert!(validate_records(&batch, RecordLimits::default()).is_ok());
    }
}

#[test]
fn transaction_markers_survive() {
    for commit in [true, false] {
        let marker = EndTransactionMarker { commit, coordinator_epoch: 9 };
        let bytes = marker.batch(options(Compression::None), 5).unwrap();
        let batch = RecordBatch::parse_one(bytes).unwrap();
        assert!(batch.header.is_control() && batch.header.is_transactional());
        let record = all(&batch).unwrap().remove(0);
        let parsed = EndTransactionMarker::parse(&record.key.unwrap(), &record.value.unwrap());
        assert_eq!(parsed, Some(marker));
    }
    assert_eq!(EndTransactionMarker::parse(&[0, 0, 0, 2], &[0; 6]), None);
    assert_eq!(EndTransactionMarker::parse(&[0, 0, 0], &[0; 6]), None);
}

/// Batches that Apache Kafka's own Java code built, one for each codec.
#[test]
fn batches_of_the_java_client_are_read() {
    for line in include_str!("java_batches.txt").lines() {
        let (codec, hex) = line.split_once(' ').unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let batch = RecordBatch::parse_one(Bytes::from(bytes)).unwrap();
        batch.validate().unwrap();
        let header = batch.header;
        assert_eq!(header.compression().unwrap().name(), codec);
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, 3));
        assert_eq!((header.partition_leader_epoch, header.max_timestamp), (5, 1_500));
        assert!(header.is_transactional() && !header.is_control());

        let records = all(&batch).unwrap();
        let parts: Vec<_> = records
            .iter()
            .map(|r| (r.offset, r.timestamp, r.key.as_deref(), r.value.as_deref()))
            .collect();
        let value: &[u8] = b"valuevaluevaluevaluevalue";
        assert_eq!(
            parts,
            [
                (40, 1_000, Some(&b"key"[..]), Some(value)),
                (41, 1_500, None, Some(&b"second"[..])),
                (42, 1_400, Some(&b"k"[..]), None),
            ]
        );
        let headers = [
            RecordHeader::new("h", "x"),
            RecordHeader { key: Bytes::from_static(b"n"), value: None },
        ];
        assert_eq!(records[0].headers, headers);
        let summary = validate_records(&batch, RecordLimits::default()).unwrap();
        assert_eq!(summary.max_timestamp, (1_500, 1));
        assert_eq!(summary.first_without_key, Some(1));
    }
}
