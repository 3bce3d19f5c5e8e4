//! Where reads begin and end, and finding records by time.

use super::*;
use crate::storage::log_reader::{LogRead, LogReadError};
use crate::storage::timestamps::TimestampedOffset;

fn read(log: &Log, offset: i64, max_bytes: usize, upper_bound: i64) -> LogRead {
    log.read(LogReadRequest { offset, max_bytes, min_one_batch: false, upper_bound }).unwrap()
}

/// Ten batches of three records, two in each segment.
fn thirty_records(index_interval_bytes: u32) -> (Fixture, Log, usize) {
    let size = plain(3, 0).len();
    let config =
        LogConfig { segment_bytes: 2 * size as u32, index_interval_bytes, ..LogConfig::default() };
    let fixture = Fixture::new(config);
    let log = fixture.open();
    for number in 0..10 {
        append(&log, plain(3, NOW_MS + 10 * number)).unwrap();
    }
    (fixture, log, size)
}

#[test]
fn whole_batches_are_returned_from_within_a_batch_on() {
    for index_interval_bytes in [0, 400, 100_000] {
        let (_fixture, log, size) = thirty_records(index_interval_bytes);
        for offset in 0..30 {
            let found = read(&log, offset, 10 * size, 30);
            assert_eq!(found.first_offset, offset / 3 * 3);
            assert_eq!(found.next_offset, offset / 6 * 6 + 6, "a read ends with its segment");
            let region = found.region.unwrap();
            assert_eq!(region.position, if offset / 3 % 2 == 0 { 0 } else { size as u64 });
            let batches = (found.next_offset - found.first_offset) as usize / 3;
            assert_eq!(region.length, batches * size);
        }
        assert_eq!(offsets_of(&log), (0..30).collect::<Vec<_>>());
    }
}

#[test]
fn nothing_is_cut_and_nothing_above_the_bound_is_shown() {
    for index_interval_bytes in [0, 100_000] {
        let config = LogConfig { index_interval_bytes, ..LogConfig::default() };
        let fixture = Fixture::new(config);
        let log = fixture.open();
        for number in 0..50 {
            append(&log, plain(3, NOW_MS + number)).unwrap();
        }
        let size = plain(3, 0).len();
        for max_bytes in [0, 1, size - 1] {
            assert!(read(&log, 4, max_bytes, 150).region.is_none());
            let min_one_batch = true;
            let request = LogReadRequest { offset: 4, max_bytes, min_one_batch, upper_bound: 150 };
            assert_eq!(log.read(request).unwrap().region.unwrap().length, size);
        }
        for batches in 1..40 {
            for extra in [0, size / 2, size - 1] {
                let found = read(&log, 0, batches * size + extra, 150);
                assert_eq!(found.region.unwrap().length, batches * size);
                assert_eq!(found.next_offset, 3 * batches as i64);
            }
        }
        for upper_bound in 0..=150 {
            let found = read(&log, 0, usize::MAX, upper_bound);
            assert_eq!(found.next_offset, upper_bound / 3 * 3);
        }
        assert!(read(&log, 150, 1000, 150).region.is_none());
        assert_eq!(log.bytes_between(0, 150), 50 * size as u64);
        assert_eq!(log.bytes_between(150, 150), 0);
        for offset in [-1, 151] {
            let request =
                LogReadRequest { offset, max_bytes: 1, min_one_batch: true, upper_bound: 150 };
            assert!(matches!(
                log.read(request),
                Err(LogReadError::OffsetOutOfRange {
                    log_start_offset: 0,
                    log_end_offset: 150,
                    ..
                })
            ));
        }
    }
}

#[test]
fn bytes_between_are_about_right_across_segments() {
    let (_fixture, log, size) = thirty_records(0);
    assert_eq!(log.bytes_between(0, 30), 10 * size as u64);
    for (from, to) in [(0, 30), (3, 27), (12, 18), (29, 30)] {
        let exact = (to - from) / 3 * size as i64;
        let found = log.bytes_between(from, to) as i64;
        assert!((found - exact).abs() <= 2 * size as i64, "{from}..{to}: {found}, not {exact}");
    }
}

#[test]
fn records_are_found_by_their_timestamps() {
    for index_interval_bytes in [0, 100_000] {
        let (fixture, log, _size) = thirty_records(index_interval_bytes);
        // Batch n has the timestamps 10n, 10n + 1, 10n + 2.
        let check = |log: &Log| {
            let find = |after_ms: i64| {
                let found = log.offset_for_timestamp(NOW_MS + after_ms).unwrap();
                found.map(|found| (found.offset, found.timestamp - NOW_MS))
            };
            assert_eq!(find(-5), Some((0, 0)));
            assert_eq!(find(1), Some((1, 1)));
            assert_eq!(find(3), Some((3, 10)));
            assert_eq!(find(52), Some((17, 52)));
            assert_eq!(find(92), Some((29, 92)));
            assert_eq!(find(93), None);
        };
        check(&log);
        // An old record after a new one does not hide it, nor is it the newest.
        append(&log, plain(1, NOW_MS - 1000)).unwrap();
        check(&log);
        let newest = TimestampedOffset { offset: 29, timestamp: NOW_MS + 92, leader_epoch: 0 };
        assert_eq!(log.offset_of_max_timestamp().unwrap(), Some(newest));
        log.set_high_watermark(31);
        log.advance_log_start_offset(2).unwrap();
        let found = log.offset_for_timestamp(NOW_MS).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (2, NOW_MS + 2));
        log.close().unwrap();
        drop(log);
        check(&fixture.open_clean());
    }
}

#[test]
fn an_empty_log_has_no_newest_record() {
    let fixture = Fixture::new(LogConfig::default());
    let log = fixture.open();
    assert_eq!(log.offset_of_max_timestamp().unwrap(), None);
    assert_eq!(log.offset_for_timestamp(0).unwrap(), None);
    assert!(read(&log, 0, 100, 0).region.is_none());
}

#[test]
fn a_reader_goes_on_reading_what_is_deleted_meanwhile() {
    let (_fixture, log, size) = thirty_records(0);
    let region = read(&log, 0, 10 * size, 30).region.unwrap();
    log.set_high_watermark(30);
    log.advance_log_start_offset(20).unwrap();
    assert_eq!(log.delete_old_segments(NOW_MS).unwrap(), 3);
    log.remove_deleted_files(i64::MAX);
    assert_eq!(read_region(&region).unwrap().len(), 2 * size);
}
