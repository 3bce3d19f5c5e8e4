//! All logs together: start, stop, creation, deletion, flushing, failing directories.

use ottla_common::types::{BrokerId, TopicId, Uuid};

use super::*;
use crate::storage::log_manager::{LogManager, LogManagerConfig};

fn config(dirs: &[&Path]) -> LogManagerConfig {
    let dirs = dirs.iter().map(|dir| dir.to_path_buf()).collect();
    LogManagerConfig::new(dirs, BrokerId(1))
}

fn create(manager: &LogManager, partition: i32, topic_id: TopicId) -> Arc<Log> {
    let key = TopicPartition::new("t", partition);
    manager.get_or_create(&key, topic_id, Arc::default(), NOW_MS).unwrap()
}

/// Flushes through the flusher and waits for it.
fn flush(manager: &LogManager, log: &Arc<Log>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    log.on_flush(Arc::new(move |offset| {
        let _ = sender.lock().send(offset);
    }));
    manager.flusher().request(log);
    while log.flushed_offset() < log.log_end_offset() {
        receiver.recv().unwrap();
    }
}

#[test]
fn logs_survive_clean_stops_and_crashes() {
    let dir = folder();
    let id = TopicId::random().unwrap();
    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    assert!(!manager.was_clean_start());
    for partition in 0..20 {
        let log = create(&manager, partition, id);
        append(&log, plain(1 + i64::from(partition), NOW_MS)).unwrap();
        flush(&manager, &log);
        log.set_high_watermark(1);
    }
    manager.checkpoint();
    drop(manager);

    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    assert!(!manager.was_clean_start());
    assert_eq!(manager.logs().len(), 20);
    for log in manager.logs() {
        assert_eq!(log.log_end_offset(), 1 + i64::from(log.topic_partition().partition));
        assert_eq!((log.topic_id(), log.high_watermark()), (Some(id), 1));
    }
    manager.close(77);
    drop(manager);
    let marker = std::fs::read_to_string(dir.path().join(".kafka_cleanshutdown")).unwrap();
    assert_eq!(marker, r#"{"version":0,"brokerEpoch":77}"#);

    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    assert!(manager.was_clean_start());
    assert!(!dir.path().join(".kafka_cleanshutdown").exists(), "from here on it may crash");
    assert_eq!(manager.logs().len(), 20);
}

#[test]
fn a_directory_is_used_by_one_broker_at_a_time_and_only_by_its_own() {
    let dir = folder();
    let cluster = Uuid::random().unwrap();
    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    manager.set_cluster_id(cluster).unwrap();
    let id = manager.dirs()[0].id();
    assert!(!id.is_zero());
    let second = LogManager::open(config(&[dir.path()]), NOW_MS);
    assert!(matches!(second, Err(StorageError::Locked { .. })));
    manager.close(1);
    drop(manager);
    let other = LogManagerConfig { broker_id: BrokerId(2), ..config(&[dir.path()]) };
    assert!(matches!(LogManager::open(other, 0), Err(StorageError::WrongDirectory { .. })));
    let other = LogManagerConfig { cluster_id: Uuid::random().ok(), ..config(&[dir.path()]) };
    assert!(matches!(LogManager::open(other, 0), Err(StorageError::WrongDirectory { .. })));
    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    assert_eq!(manager.dirs()[0].id(), id);
}

#[test]
fn a_deleted_log_is_gone_and_its_name_begins_anew() {
    let dir = folder();
    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    let log = create(&manager, 0, TopicId::random().unwrap());
    append(&log, plain(5, NOW_MS)).unwrap();
    manager.checkpoint();
    assert!(manager.delete(log.topic_partition()).unwrap());
    assert!(!manager.delete(log.topic_partition()).unwrap());
    assert!(matches!(append(&log, plain(1, 0)), Err(AppendError::Storage(_))));
    let deleted = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with("-delete")).count()
    };
    assert_eq!(deleted(), 1);
    let log = create(&manager, 0, TopicId::random().unwrap());
    assert_eq!((log.log_end_offset(), log.high_watermark()), (0, 0));
    manager.housekeeping(NOW_MS);
    assert_eq!(deleted(), 1, "readers have a minute");
    manager.housekeeping(NOW_MS + 60_000);
    assert_eq!(deleted(), 0);
}

#[test]
fn what_no_topic_owns_is_kept_and_not_served() {
    let dir = folder();
    let id = TopicId::random().unwrap();
    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    let log = create(&manager, 0, id);
    append(&log, plain(5, NOW_MS)).unwrap();
    let key = log.topic_partition().clone();
    assert!(manager.set_stray(&key).unwrap());
    assert!(manager.log(&key).is_none());
    assert_eq!(manager.stray(), [dir.path().join("t-0")]);

    let log = create(&manager, 0, id);
    assert_eq!(log.log_end_offset(), 5, "its topic was known after all");
    assert!(manager.stray().is_empty());

    drop(log);
    let log = create(&manager, 0, TopicId::random().unwrap());
    assert_eq!(log.log_end_offset(), 0, "another topic of the name");
    let stray = manager.stray();
    assert_eq!(stray.len(), 1);
    assert!(stray[0].to_str().unwrap().ends_with("-stray"));
    assert!(stray[0].join("00000000000000000000.log").exists());
    manager.close(1);
    drop(manager);
    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    assert_eq!((manager.stray(), manager.logs().len()), (stray, 1));
}

#[test]
fn a_failed_directory_is_reported_and_the_other_goes_on() {
    let (first, second) = (folder(), folder());
    let faults = Arc::new(Faults::default());
    let file_system = FileSystem::with_hook(faults.clone());
    let both = config(&[first.path(), second.path()]);
    let manager = LogManager::open(LogManagerConfig { file_system, ..both }, NOW_MS).unwrap();
    let id = TopicId::random().unwrap();
    let logs: Vec<_> = (0..4).map(|partition| create(&manager, partition, id)).collect();
    let in_first = logs.iter().filter(|log| log.dir().path() == first.path()).count();
    assert_eq!(in_first, 2, "logs are spread");

    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    manager.on_failure(Arc::new(move |dir, gone| {
        sender.lock().send((dir.path().to_owned(), gone.len())).unwrap();
    }));
    append(&logs[0], plain(1, NOW_MS)).unwrap();
    faults.fail(Operation::SyncData, ".log", io::ErrorKind::Other);
    manager.flusher().request(&logs[0]);
    let failed = logs[0].dir().path().to_owned();
    assert_eq!(receiver.recv().unwrap(), (failed.clone(), 2));
    assert!(manager.log(logs[0].topic_partition()).is_none());
    for log in &logs {
        assert_eq!(append(log, plain(1, NOW_MS)).is_ok(), log.dir().path() != failed);
    }
    let new = create(&manager, 9, id);
    assert_ne!(new.dir().path(), failed);
    manager.checkpoint();
    manager.close(1);
    assert_ne!(
        first.path().join(".kafka_cleanshutdown").exists(),
        second.path().join(".kafka_cleanshutdown").exists()
    );
}

#[test]
fn a_log_that_may_be_in_a_lost_directory_is_not_made_anew() {
    let (first, second) = (folder(), folder());
    let id = TopicId::random().unwrap();
    let manager = LogManager::open(config(&[first.path(), second.path()]), NOW_MS).unwrap();
    let logs: Vec<_> = (0..2).map(|partition| create(&manager, partition, id)).collect();
    let lost = logs.iter().find(|log| log.dir().path() == second.path()).unwrap();
    let lost = lost.topic_partition().clone();
    manager.close(1);
    drop((manager, logs));
    std::fs::remove_dir_all(second.path()).unwrap();
    std::fs::write(second.path(), "not a folder").unwrap();
    let manager = LogManager::open(config(&[first.path(), second.path()]), NOW_MS).unwrap();
    assert_eq!(manager.logs().len(), 1);
    let refused = manager.get_or_create(&lost, id, Arc::default(), NOW_MS);
    assert!(matches!(refused, Err(StorageError::NoDirectory { .. })));
    std::fs::remove_file(second.path()).unwrap();
    std::fs::create_dir(second.path()).unwrap();
}

#[test]
fn many_appends_share_a_flush() {
    let dir = folder();
    let faults = Arc::new(Faults::default());
    let file_system = FileSystem::with_hook(faults.clone());
    let config = LogManagerConfig { file_system, ..config(&[dir.path()]) };
    let manager = LogManager::open(config, NOW_MS).unwrap();
    let log = create(&manager, 0, TopicId::random().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    append(&log, plain(1, NOW_MS)).unwrap();
                    manager.flusher().request(&log);
                }
            });
        }
    });
    flush(&manager, &log);
    assert_eq!(log.flushed_offset(), 400);
    assert!(faults.count(Operation::SyncData, ".log") <= 401);
    assert_eq!(offsets_of(&log), (0..400).collect::<Vec<_>>());
}

#[test]
fn a_damaged_log_does_not_stop_the_others() {
    let dir = folder();
    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    let id = TopicId::random().unwrap();
    for partition in 0..2 {
        let log = create(&manager, partition, id);
        append(&log, plain(3, NOW_MS)).unwrap();
        log.flush().unwrap();
    }
    manager.checkpoint();
    drop(manager);
    let path = dir.path().join("t-0/00000000000000000000.log");
    std::fs::write(&path, [9; 400]).unwrap();
    let manager = LogManager::open(config(&[dir.path()]), NOW_MS).unwrap();
    let key = TopicPartition::new("t", 0);
    assert!(manager.damaged().contains_key(&key));
    manager.checkpoint();
    let recovery_point = manager.dirs()[0].checkpoints().recovery_points[&key];
    assert_eq!(recovery_point, 3, "or the next start would take the damage for a torn write");
    assert!(manager.get_or_create(&key, id, Arc::default(), NOW_MS).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), [9; 400]);
    assert!(manager.log(&TopicPartition::new("t", 1)).is_some());
    manager.close(1);
    let marker = dir.path().join(".kafka_cleanshutdown");
    assert!(!marker.exists(), "or the next start would not look whether the log is whole");
}
