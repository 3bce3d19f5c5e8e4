//! What a benchmark sends: batches that are built before it starts, so that what is measured is the
//! broker. Only what must differ from batch to batch is patched in: nothing is built per record.

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use ottla_common::clock;
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::record_batch::{BATCH_HEADER_SIZE, BatchHeader, checksum, set_crc};
use ottla_common::kafka::records::{BatchBuilder, BatchOptions};

/// How many batches differ from each other, so that compression does not see one text only.
const DISTINCT_BATCHES: usize = 8;

/// How the records look.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Records of a batch.
    pub batch_records: usize,
    /// How batches are compressed.
    pub compression: Compression,
    /// The seed of the values.
    pub seed: u64,
}

/// Batches, ready to send.
#[derive(Clone, Debug)]
pub struct Load {
    batches: Vec<Bytes>,
    options: LoadOptions,
}

/// Who sends, for brokers that recognize what is sent twice.
#[derive(Clone, Copy, Debug)]
pub struct ProducerIdentity {
    /// The producer's id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

impl Load {
    /// Builds the batches.
    pub fn build(options: LoadOptions) -> anyhow::Result<Self> {
        let mut random = fastrand::Rng::with_seed(options.seed);
        let build = |_| build_batch(options, options.batch_records, &mut random);
        let batches = (0..DISTINCT_BATCHES).map(build).collect::<anyhow::Result<_>>()?;
        Ok(Self { batches, options })
    }

    /// Records of a full batch.
    pub fn batch_records(&self) -> usize {
        self.options.batch_records
    }

    /// The batch for turn number `turn`. It shares the bytes, unless it is not full or `identity`
    /// must be written in.
    pub fn batch(
        &self,
        turn: usize,
        records: usize,
        identity: Option<(ProducerIdentity, i32)>,
    ) -> anyhow::Result<Bytes> {
        let batch = if records == self.options.batch_records {
            self.batches.get(turn % self.batches.len()).cloned().unwrap_or_default()
        } else {
            build_batch(self.options, records, &mut fastrand::Rng::with_seed(self.options.seed))?
        };
        let Some((producer, sequence)) = identity else { return Ok(batch) };
        let mut header = BatchHeader::parse(&batch)?;
        (header.producer_id, header.producer_epoch) = (producer.id, producer.epoch);
        header.base_sequence = sequence;
        let mut patched = BytesMut::from(batch.as_ref());
        let start = patched.get_mut(..BATCH_HEADER_SIZE).context("a batch has a header")?;
        start.copy_from_slice(&header.to_bytes());
        let crc = checksum(&patched);
        set_crc(&mut patched, crc)?;
        Ok(patched.freeze())
    }
}

fn build_batch(
    options: LoadOptions,
    records: usize,
    random: &mut fastrand::Rng,
) -> anyhow::Result<Bytes> {
    let mut value = vec![0; options.record_bytes];
    let batch = BatchOptions { compression: options.compression, ..BatchOptions::default() };
    let mut builder = BatchBuilder::with_capacity(batch, records * (options.record_bytes + 16));
    let now = clock::wall_time_ms();
    for _ in 0..records {
        // Capital letters, as Kafka's own tool sends: they compress to about 60 %.
        value.fill_with(|| random.u8(b'A'..=b'Z'));
        builder.append(now, None, Some(&value), &[]).context("build a batch")?;
    }
    builder.build().context("build a batch")
}

#[cfg(test)]
mod tests {
    use ottla_common::kafka::record_batch::RecordBatch;

    use super::*;

    #[test]
    fn batches_are_whole_and_carry_who_sends_them() {
        let options = LoadOptions {
            record_bytes: 100,
            batch_records: 7,
            compression: Compression::Lz4,
            seed: 1,
        };
        let load = Load::build(options).unwrap();
        let plain = RecordBatch::parse_one(load.batch(3, 7, None).unwrap()).unwrap();
        plain.validate().unwrap();
        assert_eq!((plain.header.records_count, plain.header.producer_id), (7, -1));
        let identity = ProducerIdentity { id: 5, epoch: 2 };
        let batch = load.batch(11, 5, Some((identity, 77))).unwrap();
        let batch = RecordBatch::parse_one(batch).unwrap();
        batch.validate().unwrap();
        let header = batch.header;
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (5, 2, 77));
    }
}
