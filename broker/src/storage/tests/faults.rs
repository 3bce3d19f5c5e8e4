//! Disks that are full, fail or lie.

use super::*;
use crate::storage::log_dirs::DirCheckpoints;

#[test]
fn a_full_disk_refuses_and_later_goes_on() {
    let (fixture, faults) = Fixture::with_faults(LogConfig::default());
    let log = fixture.open();
    append(&log, plain(2, NOW_MS)).unwrap();
    let before = files(log.folder());
    faults.cut_short(".log", 30, io::ErrorKind::StorageFull);
    let error = append(&log, plain(2, NOW_MS)).unwrap_err();
    let AppendError::Storage(error) = error else { panic!("{error}") };
    assert!(error.is_shortage());
    assert_eq!(files(log.folder()), before, "what was written of it was taken back");
    assert_eq!(offsets_of(&log), [0, 1], "reads go on");
    assert_eq!(log.dir().offline_reason(), None);
    assert_eq!(append(&log, plain(1, NOW_MS)).unwrap().first_offset, 2);
    drop(log);
    assert_eq!(offsets_of(&fixture.open()), [0, 1, 2]);
}

#[test]
fn a_disk_that_is_full_while_rolling_refuses_and_later_goes_on() {
    let size = plain(1, 0).len() as u32;
    let config =
        LogConfig { segment_bytes: 2 * size, index_interval_bytes: 1, ..LogConfig::default() };
    let (fixture, faults) = Fixture::with_faults(config);
    let log = fixture.open();
    for timestamp in [NOW_MS - 2, NOW_MS - 1] {
        append(&log, plain(1, timestamp)).unwrap();
    }
    let steps = [
        (Operation::Write, ".index"),
        (Operation::Write, ".timeindex"),
        (Operation::Open, ".snapshot"),
        (Operation::Write, ".snapshot"),
        (Operation::Open, "2.log"),
        (Operation::Open, "2.timeindex"),
    ];
    for (operation, suffix) in steps {
        faults.fail(operation, suffix, io::ErrorKind::StorageFull);
        let refused = append(&log, plain(1, NOW_MS));
        assert!(
            matches!(refused, Err(AppendError::Storage(_))),
            "{operation:?} {suffix}: {refused:?}"
        );
        assert!(faults.rules.lock().is_empty(), "{operation:?} {suffix} was not reached");
        // Rolling may have got half way, and yet a smaller limit is no reason to stop.
        let roomy = LogConfig { segment_bytes: 100 * size, ..LogConfig::default() };
        let config = log.config();
        log.set_config(Arc::new(roomy));
        append(&log, plain(1, NOW_MS)).unwrap();
        log.truncate_to(2).unwrap();
        log.set_config(config);
    }
    append(&log, plain(1, NOW_MS)).unwrap();
    assert!(fixture.path("00000000000000000002.log").exists());
    assert_eq!(offsets_of(&log), [0, 1, 2]);
    drop(log);
    assert_eq!(offsets_of(&fixture.open()), [0, 1, 2]);
}

#[test]
fn a_failed_flush_takes_the_directory_offline_for_good() {
    let (fixture, faults) = Fixture::with_faults(LogConfig::default());
    let log = fixture.open();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = seen.clone();
    log.on_flush(Arc::new(move |offset| listener.lock().push(offset)));
    append(&log, plain(2, NOW_MS)).unwrap();
    log.flush().unwrap();
    append(&log, plain(2, NOW_MS)).unwrap();
    faults.fail(Operation::SyncData, ".log", io::ErrorKind::Other);
    log.flush().unwrap_err();
    let flushes = faults.count(Operation::SyncData, ".log");
    assert!(log.dir().offline_reason().unwrap().contains("flush"));
    // The next call of the operating system would succeed, and prove nothing.
    assert!(matches!(log.flush(), Err(StorageError::DirectoryOffline { .. })));
    assert_eq!(faults.count(Operation::SyncData, ".log"), flushes);
    assert!(matches!(
        append(&log, plain(1, 0)),
        Err(AppendError::Storage(StorageError::DirectoryOffline { .. }))
    ));
    assert_eq!((log.flushed_offset(), seen.lock().as_slice()), (2, &[2][..]));
}

#[test]
fn a_failed_write_takes_the_directory_offline() {
    let (fixture, faults) = Fixture::with_faults(LogConfig::default());
    let log = fixture.open();
    faults.fail(Operation::Write, ".log", io::ErrorKind::Other);
    append(&log, plain(2, NOW_MS)).unwrap_err();
    assert!(log.dir().offline_reason().is_some());
}

#[test]
fn names_are_on_disk_before_a_flush_says_so() {
    let size = plain(1, 0).len() as u32;
    let config = LogConfig { segment_bytes: size, ..LogConfig::default() };
    let (fixture, faults) = Fixture::with_faults(config);
    let log = fixture.open();
    append(&log, plain(1, NOW_MS)).unwrap();
    log.flush().unwrap();
    assert_eq!(faults.count(Operation::SyncFolder, "t-0"), 1, "the log's folder is new");
    let root = fixture.folder.path().to_str().unwrap();
    assert_eq!(faults.count(Operation::SyncFolder, root), 1);
    append(&log, plain(1, NOW_MS)).unwrap();
    log.flush().unwrap();
    assert_eq!(faults.count(Operation::SyncFolder, "t-0"), 2, "a segment is new");
    log.flush().unwrap();
    assert_eq!(faults.count(Operation::SyncFolder, "t-0"), 2);
    assert_eq!(faults.count(Operation::SyncFolder, root), 1);
}

#[test]
fn a_truncation_is_on_disk_before_the_recovery_point_is_passed() {
    let (fixture, _faults) = Fixture::with_faults(LogConfig::default());
    let log = fixture.open();
    for _ in 0..4 {
        append(&log, plain(2, NOW_MS)).unwrap();
    }
    log.flush().unwrap();
    let checkpoint = log.prepare_checkpoint().unwrap();
    assert_eq!(checkpoint.recovery_point, 8);
    let key = fixture.topic_partition();
    let change = |on_disk: &mut DirCheckpoints| on_disk.recovery_points.extend([(key, 8)]);
    log.dir().update_checkpoints(change).unwrap();
    log.truncate_to(4).unwrap();
    let path = fixture.folder.path().join("recovery-point-offset-checkpoint");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "0\n1\nt 0 4\n");
    assert_eq!(log.prepare_checkpoint().unwrap().recovery_point, 4);
}
