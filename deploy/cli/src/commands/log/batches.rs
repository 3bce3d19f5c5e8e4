//! Log segments: a line for each batch, and one for each record if wanted.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context;
use bytes::BytesMut;
use ottla_common::kafka::record_batch::{
    BATCH_HEADER_SIZE, BatchHeader, RecordBatch, TimestampType, increment_sequence,
};
use ottla_common::kafka::records::{EndTransactionMarker, RecordLimits, RecordView};
use serde_json::json;

use super::{DumpOptions, Printer, offset_in_name};

/// Prints a segment.
pub(super) fn dump(
    printer: &mut Printer,
    file: &Path,
    options: DumpOptions,
) -> anyhow::Result<Option<String>> {
    printer.text(format_args!("Log starting offset: {}", offset_in_name(file)?))?;
    let opened = File::open(file)?;
    let size = opened.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, opened);
    let mut position = 0_u64;
    let mut damage = None;
    while position < size.min(options.max_bytes) {
        let batch = match next_batch(&mut reader, size - position)? {
            Next::Batch(batch) => batch,
            Next::Damaged(reason) => {
                let left = size - position;
                printer.text(format_args!(
                    "Found {left} invalid bytes at the end of {}",
                    file.display()
                ))?;
                return Ok(Some(format!("no batch at position {position}: {reason}")));
            }
        };
        let valid = batch.validate();
        print_batch(printer, &batch, position, valid.is_ok())?;
        if let Err(error) = valid {
            damage = Some(format!("batch at position {position}: {error}"));
        } else if options.records {
            let printed = print_records(printer, &batch, options);
            printed.with_context(|| format!("batch at position {position}"))?;
        }
        position += batch.header.size_bytes() as u64;
    }
    Ok(damage)
}

/// What comes next in a segment.
enum Next {
    Batch(RecordBatch),
    Damaged(String),
}

/// Reads a batch of at most `left` bytes.
fn next_batch(reader: &mut impl Read, left: u64) -> anyhow::Result<Next> {
    let mut head = [0; BATCH_HEADER_SIZE];
    if left < head.len() as u64 {
        return Ok(Next::Damaged(format!("{left} bytes are less than a batch's header")));
    }
    reader.read_exact(&mut head)?;
    let header = match BatchHeader::parse(&head) {
        Ok(header) => header,
        Err(error) => return Ok(Next::Damaged(error.to_string())),
    };
    let size = header.size_bytes();
    if size as u64 > left {
        return Ok(Next::Damaged(format!("it says {size} bytes, the file has {left}")));
    }
    let mut bytes = BytesMut::zeroed(size);
    let (start, rest) = bytes.split_at_mut(BATCH_HEADER_SIZE);
    start.copy_from_slice(&head);
    reader.read_exact(rest)?;
    Ok(Next::Batch(RecordBatch { header, bytes: bytes.freeze() }))
}

fn print_batch(
    printer: &mut Printer,
    batch: &RecordBatch,
    position: u64,
    valid: bool,
) -> anyhow::Result<()> {
    let header = &batch.header;
    let codec = header.compression().map_or("unknown", |codec| codec.name());
    let time = time_name(header);
    let last_sequence = header.last_sequence();
    let horizon = match header.delete_horizon_ms() {
        Some(ms) => format!("OptionalLong[{ms}]"),
        None => "OptionalLong.empty".to_owned(),
    };
    printer.text(format_args!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {last_sequence} \
         producerId: {} producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} \
         isControl: {} deleteHorizonMs: {horizon} position: {position} {time}: {} size: {} \
         magic: 2 compresscodec: {codec} crc: {} isvalid: {valid}",
        header.base_offset,
        header.last_offset(),
        header.records_count,
        header.base_sequence,
        header.producer_id,
        header.producer_epoch,
        header.partition_leader_epoch,
        header.is_transactional(),
        header.is_control(),
        header.max_timestamp,
        header.size_bytes(),
        header.crc,
    ))?;
    printer.entry(&json!({
        "kind": "batch",
        "base_offset": header.base_offset,
        "last_offset": header.last_offset(),
        "count": header.records_count,
        "base_sequence": header.base_sequence,
        "last_sequence": last_sequence,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "leader_epoch": header.partition_leader_epoch,
        "transactional": header.is_transactional(),
        "control": header.is_control(),
        "delete_horizon_ms": header.delete_horizon_ms(),
        "position": position,
        "timestamp_type": time,
        "max_timestamp_ms": header.max_timestamp,
        "size_bytes": header.size_bytes(),
        "compression": codec,
        "crc": header.crc,
        "valid": valid,
    }))
}

fn time_name(header: &BatchHeader) -> &'static str {
    match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn print_records(
    printer: &mut Printer,
    batch: &RecordBatch,
    options: DumpOptions,
) -> anyhow::Result<()> {
    let buffer = batch.record_buffer(RecordLimits::default())?;
    for record in buffer.views() {
        let record = record?;
        if printer.output.json {
            print_record_json(printer, &batch.header, &record, options)?;
        } else {
            let line = record_line(&batch.header, &record, options);
            printer.text(format_args!("{line}"))?;
        }
    }
    Ok(())
}

/// A record as Kafka's tool prints it.
fn record_line(header: &BatchHeader, record: &RecordView<'_>, options: DumpOptions) -> String {
    let size = |part: Option<&[u8]>| part.map_or(-1, |bytes| bytes.len() as i64);
    let mut line = String::from("|");
    if options.record_metadata {
        let keys: Vec<_> = record
            .headers
            .iter()
            .map(|(key, _)| String::from_utf8_lossy(key).into_owned())
            .collect();
        line += &format!(
            " offset: {} {}: {} keySize: {} valueSize: {}",
            record.offset,
            time_name(header),
            record.timestamp,
            size(record.key),
            size(record.value),
        );
        line +=
            &format!(" sequence: {} headerKeys: [{}]", sequence(header, record), keys.join(","));
    }
    if header.is_control() {
        line += &control_text(record);
    } else if options.contents {
        for (name, part) in [("key", record.key), ("payload", record.value)] {
            if let Some(bytes) = part {
                line += &format!(" {name}: {}", String::from_utf8_lossy(bytes));
            }
        }
    }
    line
}

fn sequence(header: &BatchHeader, record: &RecordView<'_>) -> i32 {
    if header.base_sequence < 0 {
        return -1;
    }
    let delta = i32::try_from(record.offset - header.base_offset).unwrap_or(0);
    increment_sequence(header.base_sequence, delta)
}

fn control_text(record: &RecordView<'_>) -> String {
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    match EndTransactionMarker::parse(key, value) {
        Some(marker) => {
            let kind = if marker.commit { "COMMIT" } else { "ABORT" };
            format!(" endTxnMarker: {kind} coordinatorEpoch: {}", marker.coordinator_epoch)
        }
        None => " controlType: UNKNOWN".to_owned(),
    }
}

fn print_record_json(
    printer: &mut Printer,
    header: &BatchHeader,
    record: &RecordView<'_>,
    options: DumpOptions,
) -> anyhow::Result<()> {
    let text = |part: Option<&[u8]>| {
        part.filter(|_| options.contents).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(key, value)| json!({ "key": String::from_utf8_lossy(key), "value": text(value) }))
        .collect();
    printer.entry(&json!({
        "kind": if header.is_control() { "control" } else { "record" },
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "sequence": sequence(header, record),
        "key_bytes": record.key.map(<[u8]>::len),
        "value_bytes": record.value.map(<[u8]>::len),
        "key": text(record.key),
        "value": text(record.value),
        "headers": headers,
    }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_common::kafka::records::{BatchBuilder, BatchOptions};

    use super::*;

    fn batch() -> Bytes {
        let options = BatchOptions {
            base_offset: 7,
            producer_id: 4,
            producer_epoch: 0,
            base_sequence: i32::MAX,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        builder.append(100, Some(b"k1"), Some(b"v1"), &[]).unwrap();
        builder.append(101, None, Some(b"v2"), &[]).unwrap();
        builder.build().unwrap()
    }

    #[test]
    fn a_record_is_printed_as_kafka_prints_it() {
        let batch = RecordBatch::parse_one(batch()).unwrap();
        let options =
            DumpOptions { records: true, contents: true, record_metadata: true, max_bytes: 0 };
        let buffer = batch.record_buffer(RecordLimits::default()).unwrap();
        let lines: Vec<String> = buffer
            .views()
            .map(|view| record_line(&batch.header, &view.unwrap(), options))
            .collect();
        assert_eq!(
            lines,
            [
                "| offset: 7 CreateTime: 100 keySize: 2 valueSize: 2 sequence: 2147483647 \
                 headerKeys: [] key: k1 payload: v1",
                "| offset: 8 CreateTime: 101 keySize: -1 valueSize: 2 sequence: 0 \
                 headerKeys: [] payload: v2",
            ]
        );
    }

    #[test]
    fn a_torn_tail_is_told_and_not_read() {
        let whole = batch();
        let torn = &whole[..whole.len() - 3];
        let next = next_batch(&mut &torn[..], torn.len() as u64).unwrap();
        assert!(matches!(next, Next::Damaged(reason) if reason.contains("the file has")));
        let next = next_batch(&mut &whole[..], whole.len() as u64).unwrap();
        assert!(matches!(next, Next::Batch(batch) if batch.validate().is_ok()));
    }
}
