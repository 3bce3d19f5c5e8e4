//! A log against the simplest thing that could be one: a list of batches in memory.

use super::*;

/// What the log must be.
#[derive(Clone, Default)]
struct Model {
    /// Base offset, count and leader epoch of each batch.
    batches: Vec<(i64, i64, i32)>,
    start: i64,
    end: i64,
    sequence: i32,
    /// Sequence after each batch, so that truncation can go back.
    sequences: Vec<i32>,
}

impl Model {
    fn offsets(&self) -> Vec<i64> {
        let first = self.batches.iter().position(|b| b.0 + b.1 > self.start);
        let readable = &self.batches[first.unwrap_or(self.batches.len())..];
        readable.iter().flat_map(|&(base, count, _)| base..base + count).collect()
    }

    fn truncate(&mut self, offset: i64) {
        let kept = self.batches.iter().take_while(|b| b.0 + b.1 <= offset).count();
        // A batch goes as a whole, but the log does not end before it starts.
        self.end = self.batches.get(kept).map_or(offset, |b| b.0.max(self.start));
        self.batches.truncate(kept);
        self.sequences.truncate(kept);
        self.sequence = self.sequences.last().copied().unwrap_or(0);
    }
}

pub(super) fn seed() -> u64 {
    let given = std::env::var("OTTLA_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| fastrand::u64(..))
}

fn check(log: &Log, model: &Model, random: &mut fastrand::Rng) {
    let expected = model.offsets();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (model.start, model.end));
    let found = read_all(log, model.start);
    let offsets: Vec<_> =
        found.iter().flat_map(|b| b.header.base_offset..b.header.next_offset()).collect();
    assert_eq!(offsets, expected);
    let epochs = found.iter().map(|b| b.header.partition_leader_epoch);
    let expected_epochs = model.batches.iter().filter(|b| b.0 + b.1 > model.start).map(|b| b.2);
    assert!(epochs.eq(expected_epochs));
    for _ in 0..5 {
        let offset = random.i64(model.start..=model.end);
        let upper_bound = random.i64(model.start..=model.end);
        let max_bytes = random.usize(0..3000);
        let request = LogReadRequest { offset, max_bytes, min_one_batch: true, upper_bound };
        let read = log.read(request).unwrap();
        let next = model.batches.iter().find(|b| b.0 + b.1 > offset && b.0 + b.1 <= upper_bound);
        assert_eq!(read.region.is_some(), next.is_some(), "{request:?}");
        if let Some(batch) = next {
            assert_eq!(read.first_offset, batch.0, "{request:?}");
            assert!(read.next_offset <= upper_bound);
        }
        // Timestamps are the offsets here.
        let found = log.offset_for_timestamp(offset).unwrap().map(|found| found.offset);
        assert_eq!(found, expected.iter().copied().find(|&o| o >= offset));
    }
    let last = model.sequences.last().map(|&sequence| sequence - 1);
    if let (Some(last), Some(producer)) = (last, log.active_producers().first()) {
        assert_eq!(producer.last_sequence, last);
    }
}

fn append_step(log: &Log, model: &mut Model, epoch: i32, random: &mut fastrand::Rng) {
    let count = random.i64(1..6);
    let options = BatchOptions {
        producer_id: 9,
        producer_epoch: 0,
        base_sequence: model.sequence,
        ..BatchOptions::default()
    };
    let bytes = records(options, count, model.end, random.usize(0..300));
    let info = append_in(log, bytes.clone(), epoch).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (model.end, model.end + count - 1));
    model.batches.push((model.end, count, epoch));
    model.end += count;
    model.sequence += count as i32;
    model.sequences.push(model.sequence);
    if random.u8(..) < 30 {
        let again = append_in(log, bytes, epoch).unwrap();
        assert!(again.duplicate && again.first_offset == info.first_offset);
    }
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let config = LogConfig {
        segment_bytes: random.u32(2000..6000),
        index_interval_bytes: random.u32(0..1500),
        message_timestamp_before_max_ms: i64::MAX,
        retention_ms: -1,
        ..LogConfig::default()
    };
    let fixture = Fixture::new(config);
    let mut log = fixture.open();
    let mut model = Model::default();
    let (mut epoch, mut recovery_point) = (0, 0);
    for step in 0..150 {
        match random.u32(0..100) {
            0..60 => append_step(&log, &mut model, epoch, &mut random),
            60..65 => epoch += 1,
            65..72 => {
                log.flush().unwrap();
                recovery_point = log.prepare_checkpoint().unwrap().recovery_point;
            }
            72..80 => {
                let from = log.high_watermark().max(model.start);
                let offset = random.i64(from..=model.end);
                log.truncate_to(offset).unwrap();
                if offset < model.end {
                    model.truncate(offset);
                }
                recovery_point = recovery_point.min(offset);
            }
            80..84 => {
                log.set_high_watermark(random.i64(model.start..=model.end));
                let offset = random.i64(model.start..=log.high_watermark());
                assert_eq!(log.advance_log_start_offset(offset).unwrap(), Some(offset));
                model.start = model.start.max(offset);
                log.delete_old_segments(NOW_MS).unwrap();
                model.start = log.log_start_offset();
            }
            clean => {
                let was_clean = clean % 2 == 0;
                let options = OpenOptions {
                    was_clean,
                    recovery_point,
                    recovery_point_is_lost: false,
                    log_start_offset: model.start,
                    high_watermark: log.high_watermark(),
                    now_ms: NOW_MS,
                };
                if was_clean {
                    recovery_point = log.close().unwrap().recovery_point;
                }
                drop(log);
                log = fixture.try_open(options).unwrap();
            }
        }
        check(&log, &model, &mut random);
        assert!(log.log_start_offset() == model.start, "step {step}");
    }
}

#[test]
fn a_log_is_what_was_appended_to_it() {
    let first = seed();
    let rounds = if std::env::var("OTTLA_SEED").is_ok() { 1 } else { 30 };
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        println!("OTTLA_SEED={seed}");
        run(seed);
    }
}
