//! What is found after a crash, with all kinds of damage.

use ottla_common::types::TopicId;

use super::*;
use crate::storage::checkpoints::{LEADER_EPOCH_FILE, PARTITION_METADATA_FILE, write_topic_id};

/// Twenty batches of two records of a producer in segments of three batches.
fn filled(fixture: &Fixture) -> usize {
    let log = fixture.open();
    for number in 0..20 {
        append_in(&log, idempotent(0, 2 * number, 2), number / 7).unwrap();
    }
    log.flush().unwrap();
    log.prepare_checkpoint().unwrap();
    idempotent(0, 0, 2).len()
}

fn fixture() -> Fixture {
    let size = idempotent(0, 0, 2).len() as u32;
    let segment_bytes = 3 * size;
    Fixture::new(LogConfig { segment_bytes, index_interval_bytes: 1, ..LogConfig::default() })
}

/// The active segment begins with batch 18.
const ACTIVE: &str = "00000000000000000036.log";

/// A crash, then recovery, then another one: both find the same.
fn recovered_twice(fixture: &Fixture, recovery_point: i64) -> Vec<i64> {
    let log = fixture.try_open(crashed(recovery_point)).unwrap();
    let offsets = offsets_of(&log);
    assert_eq!(log.log_end_offset(), offsets.last().map_or(0, |last| last + 1));
    let producers = log.active_producers();
    let epochs = log.epochs.read().clone();
    let before = files(log.folder());
    drop(log);
    let log = fixture.try_open(crashed(recovery_point)).unwrap();
    assert_eq!(offsets_of(&log), offsets);
    assert_eq!(log.active_producers(), producers);
    assert_eq!(*log.epochs.read(), epochs);
    assert_eq!(files(log.folder()), before);
    let next = log.log_end_offset();
    let sequence = producers.first().map_or(0, |producer| producer.last_sequence + 1);
    assert_eq!(append_in(&log, idempotent(0, sequence, 1), 9).unwrap().first_offset, next);
    offsets
}

#[test]
fn a_whole_log_is_found_again_from_any_recovery_point() {
    for recovery_point in [0, 1, 7, 36, 38, 40] {
        let fixture = fixture();
        filled(&fixture);
        assert_eq!(recovered_twice(&fixture, recovery_point), (0..40).collect::<Vec<_>>());
    }
}

#[test]
fn a_torn_tail_is_cut() {
    let size = {
        let fixture = fixture();
        filled(&fixture)
    };
    for length in [0, 1, 60, 61, size - 1, size, size + 1, size + 61, 2 * size - 1] {
        let fixture = fixture();
        filled(&fixture);
        let file = std::fs::OpenOptions::new().write(true).open(fixture.path(ACTIVE)).unwrap();
        file.set_len(length as u64).unwrap();
        let end = 36 + 2 * (length / size) as i64;
        assert_eq!(recovered_twice(&fixture, 36), (0..end).collect::<Vec<_>>(), "{length} bytes");
    }
}

#[test]
fn garbage_zeros_and_flipped_bits_behind_the_recovery_point_are_cut() {
    for damage in ["garbage", "zeros", "flip", "zeroed batch"] {
        let fixture = fixture();
        let size = filled(&fixture);
        let path = fixture.path(ACTIVE);
        let mut bytes = std::fs::read(&path).unwrap();
        let mut end = 40;
        match damage {
            "garbage" => bytes.extend((0..5000).map(|number| (number * 7) as u8)),
            "zeros" => bytes.extend([0; 5000]),
            "flip" => {
                *bytes.last_mut().unwrap() ^= 1;
                end = 38;
            }
            _ => {
                bytes[size..].fill(0);
                end = 38;
            }
        }
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(recovered_twice(&fixture, 36), (0..end).collect::<Vec<_>>(), "{damage}");
    }
}

#[test]
fn damage_in_an_unflushed_closed_segment_cuts_all_that_follows() {
    let fixture = fixture();
    let size = filled(&fixture);
    let path = fixture.path("00000000000000000012.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[size + 100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(recovered_twice(&fixture, 5), (0..14).collect::<Vec<_>>());
    assert!(!fixture.path(ACTIVE).exists());
}

#[test]
fn a_segment_that_lost_its_end_without_a_trace_ends_the_log() {
    let fixture = fixture();
    let size = filled(&fixture);
    let path = fixture.path("00000000000000000012.log");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(2 * size as u64).unwrap();
    assert_eq!(recovered_twice(&fixture, 14), (0..16).collect::<Vec<_>>());
    assert!(!fixture.path("00000000000000000018.log").exists());
}

#[test]
fn damage_of_what_was_safely_on_disk_is_refused_and_nothing_is_deleted() {
    let fixture = fixture();
    let size = filled(&fixture);
    let path = fixture.path(ACTIVE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[size + 16] = 77;
    std::fs::write(&path, &bytes).unwrap();
    let error = fixture.try_open(crashed(40)).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("restore the file"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn side_files_are_made_anew_when_they_are_missing_or_damaged() {
    let side_files = [
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "00000000000000000006.index",
        "00000000000000000012.timeindex",
        "00000000000000000036.index",
        "00000000000000000036.snapshot",
        "00000000000000000040.snapshot",
        LEADER_EPOCH_FILE,
    ];
    for name in side_files {
        for damage in ["missing", "empty", "garbage", "zeros", "cut"] {
            let fixture = fixture();
            filled(&fixture);
            let log = fixture.open();
            log.close().unwrap();
            let good = files(log.folder());
            drop(log);
            let path = fixture.path(name);
            let bytes = std::fs::read(&path).unwrap();
            match damage {
                "missing" => std::fs::remove_file(&path).unwrap(),
                "empty" => std::fs::write(&path, []).unwrap(),
                "garbage" => std::fs::write(&path, [0xa5; 100]).unwrap(),
                "zeros" => std::fs::write(&path, vec![0; bytes.len()]).unwrap(),
                _ => std::fs::write(&path, &bytes[..bytes.len() - 2]).unwrap(),
            }
            let log = fixture.open_clean();
            assert_eq!(offsets_of(&log), (0..40).collect::<Vec<_>>(), "{name} {damage}");
            assert_eq!(log.active_producers()[0].last_sequence, 39, "{name} {damage}");
            assert_eq!(log.end_offset_for_leader_epoch(1), (1, 28), "{name} {damage}");
            log.close().unwrap();
            drop(log);
            if name != "00000000000000000036.snapshot" {
                assert_eq!(files(&fixture.path("")), good, "{name} {damage}");
            }
        }
    }
}

#[test]
fn the_topics_id_is_never_guessed() {
    let fixture = fixture();
    filled(&fixture);
    let id = TopicId::random().unwrap();
    write_topic_id(&FileSystem::real(), &fixture.path(""), id).unwrap();
    assert_eq!(fixture.open().topic_id(), Some(id));
    std::fs::write(fixture.path(PARTITION_METADATA_FILE), "nonsense").unwrap();
    assert!(matches!(fixture.try_open(crashed(0)), Err(StorageError::Corrupt { .. })));
}

#[test]
fn leftovers_of_unfinished_work_are_finished_or_undone() {
    let fixture = fixture();
    filled(&fixture);
    for name in ["5.tmp", "00000000000000000000.log.deleted", "00000000000000000006.log.cleaned"] {
        std::fs::write(fixture.path(name), b"x").unwrap();
    }
    std::fs::write(fixture.path("00000000000000000777.index"), b"x").unwrap();
    // A compaction had joined the first two segments, leaving only the fifth batch.
    let second = std::fs::read(fixture.path("00000000000000000006.log")).unwrap();
    let batch_bytes = second.len() / 3;
    let fifth = &second[batch_bytes..2 * batch_bytes];
    std::fs::write(fixture.path("00000000000000000000.log.swap"), fifth).unwrap();
    std::fs::remove_file(fixture.path("00000000000000000000.index")).unwrap();
    let options = OpenOptions { recovery_point_is_lost: true, ..crashed(0) };
    let log = fixture.try_open(options).unwrap();
    let expected: Vec<_> = [8, 9].into_iter().chain(12..40).collect();
    assert_eq!(offsets_of(&log), expected);
    let names: Vec<_> = files(log.folder()).into_iter().map(|(name, _)| name).collect();
    let allowed = |name: &&String| {
        [".log", ".index", ".timeindex", ".snapshot"].iter().any(|end| name.ends_with(end))
    };
    assert_eq!(names.iter().filter(|name| !allowed(name)).collect::<Vec<_>>(), [LEADER_EPOCH_FILE]);
    assert!(!names.iter().any(|name| name.starts_with("00000000000000000777")));
}

#[test]
fn indexes_that_kafka_left_preallocated_are_read() {
    let fixture = fixture();
    filled(&fixture);
    for (name, bytes) in [
        ("00000000000000000036.index", 10 << 20),
        ("00000000000000000036.timeindex", (10 << 20) / 12 * 12),
    ] {
        let file = std::fs::OpenOptions::new().write(true).open(fixture.path(name)).unwrap();
        file.set_len(bytes).unwrap();
    }
    assert_eq!(recovered_twice(&fixture, 40), (0..40).collect::<Vec<_>>());
}

#[test]
fn a_log_whose_records_are_gone_goes_on_at_its_start_offset() {
    let fixture = fixture();
    filled(&fixture);
    let options = OpenOptions { log_start_offset: 100, high_watermark: 120, ..crashed(0) };
    let log = fixture.try_open(options).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (100, 100));
    assert_eq!(append(&log, idempotent(0, 500, 1)).unwrap().first_offset, 100);
}
