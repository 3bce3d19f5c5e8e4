//! Records as the batches that go into the log.

use bytes::{Bytes, BytesMut};
use ottla_common::kafka::record_batch::BatchError;
use ottla_common::kafka::records::{BatchBuilder, BatchOptions};

use super::machine::Record;

/// Encodes records as batches of at most `size_max` bytes, in one piece. A record that is larger
/// by itself gets a batch of its own, which the log refuses.
pub fn encode(
    records: &[Record],
    options: BatchOptions,
    (timestamp_ms, size_max): (i64, usize),
) -> Result<Bytes, BatchError> {
    let mut batches = Vec::with_capacity(1);
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let (key, value) = (Some(&*record.key), record.value.as_deref());
        let added_size = BatchBuilder::record_size_max(key, value, &[]);
        if !builder.is_empty() && builder.estimated_size() + added_size > size_max {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(options));
            batches.push(full.build()?);
        }
        builder.append(timestamp_ms, key, value, &[])?;
    }
    let last = builder.build()?;
    if batches.is_empty() {
        return Ok(last);
    }
    batches.push(last);
    let mut all = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    batches.iter().for_each(|batch| all.extend_from_slice(batch));
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use ottla_common::kafka::record_batch::batches;

    use super::*;

    #[test]
    fn records_that_do_not_fit_into_one_batch_go_into_several_in_order() {
        let record = |number: u8| Record { key: vec![number; 40].into(), value: None };
        let records: Vec<Record> = (0..10).map(record).collect();
        let bytes = encode(&records, BatchOptions::default(), (5, 200)).unwrap();
        let split: Vec<_> = batches(bytes).map(Result::unwrap).collect();
        assert!(split.len() > 1 && split.iter().all(|batch| batch.bytes.len() <= 200));
        let keys = split.iter().flat_map(|batch| batch.records(Default::default()));
        let keys: Vec<u8> = keys.map(|record| record.unwrap().key.unwrap()[0]).collect();
        assert_eq!(keys, (0..10).collect::<Vec<u8>>());
    }
}
