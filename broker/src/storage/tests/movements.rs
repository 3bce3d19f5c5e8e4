//! A log moves to another directory: copied, cut as it is cut, and put in its place, whatever is
//! interrupted.

use ottla_common::types::{BrokerId, TopicId};

use super::*;
use crate::storage::log_manager::{LogManager, LogManagerConfig};

struct Moved {
    dirs: [tempfile::TempDir; 2],
    manager: Arc<LogManager>,
    name: TopicPartition,
    id: TopicId,
}

fn open(dirs: &[tempfile::TempDir; 2]) -> Arc<LogManager> {
    let paths = dirs.iter().map(|dir| dir.path().to_owned()).collect();
    LogManager::open(LogManagerConfig::new(paths, BrokerId(1)), NOW_MS).unwrap()
}

impl Moved {
    /// A log with five batches of three records in the first of two directories.
    fn begin() -> Self {
        let dirs = [folder(), folder()];
        let manager = open(&dirs);
        let (name, id) = (TopicPartition::new("t", 0), TopicId::random().unwrap());
        let log = manager.get_or_create(&name, id, Arc::default(), NOW_MS).unwrap();
        assert_eq!(log.dir().path(), dirs[0].path());
        for _ in 0..5 {
            append(&log, plain(3, NOW_MS)).unwrap();
        }
        log.set_high_watermark(12);
        let moved = Self { dirs, manager, name, id };
        assert!(moved.to(1));
        moved
    }

    fn to(&self, dir: usize) -> bool {
        let dir = self.manager.dir(self.dirs[dir].path()).unwrap();
        self.manager.begin_move(&self.name, dir, NOW_MS).unwrap()
    }

    fn log(&self) -> Arc<Log> {
        self.manager.log(&self.name).unwrap()
    }

    fn future(&self) -> Arc<Log> {
        self.manager.future(&self.name).unwrap()
    }

    /// Copies one batch; returns how far the copy is.
    fn copy(&self) -> i64 {
        self.future().catch_up_with(&self.log(), 1, NOW_MS).unwrap();
        self.future().log_end_offset()
    }

    fn copy_all(&self) {
        while self.future().catch_up_with(&self.log(), 1 << 20, NOW_MS).unwrap() > 0 {}
    }

    fn crash(self) -> Self {
        let Self { dirs, manager, name, id } = self;
        drop(manager);
        Self { manager: open(&dirs), dirs, name, id }
    }

    fn names(&self, dir: usize) -> Vec<String> {
        let entries = std::fs::read_dir(self.dirs[dir].path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("t-0")).collect();
        names.sort();
        names
    }
}

#[test]
fn a_copy_takes_the_place_of_its_log() {
    let moved = Moved::begin();
    let before = moved.log();
    assert_eq!([moved.copy(), moved.copy()], [3, 6]);
    append(&before, plain(3, NOW_MS)).unwrap();
    moved.copy_all();
    let log = moved.manager.replace_with_future(&moved.name, NOW_MS).unwrap();
    assert_eq!((log.log_end_offset(), log.high_watermark()), (18, 12));
    assert_eq!((log.topic_id(), log.flushed_offset()), (Some(moved.id), 18));
    assert_eq!(moved.names(1), ["t-0"]);
    assert!(moved.names(0)[0].ends_with("-delete") && moved.names(0).len() == 1);
    assert!(before.is_closed() && moved.manager.future(&moved.name).is_none());
    append(&log, plain(3, NOW_MS)).unwrap();
    drop((before, log));
    let moved = moved.crash();
    assert_eq!(moved.log().log_end_offset(), 21);
    assert_eq!(moved.log().dir().path(), moved.dirs[1].path());
    assert!(moved.to(0), "and back");
    moved.copy_all();
    let log = moved.manager.replace_with_future(&moved.name, NOW_MS).unwrap();
    assert_eq!(log.folder(), moved.dirs[0].path().join("t-0"));
}

#[test]
fn a_copy_goes_on_after_a_crash_where_it_was() {
    let moved = Moved::begin();
    moved.copy();
    moved.copy();
    let moved = moved.crash();
    assert_eq!((moved.log().log_end_offset(), moved.future().log_end_offset()), (15, 6));
    assert_eq!(moved.log().dir().path(), moved.dirs[0].path());
    moved.copy_all();
    assert_eq!(moved.future().log_end_offset(), 15);
    assert!(moved.manager.delete(&moved.name).unwrap());
    assert!(moved.manager.future(&moved.name).is_none(), "it went with its log");
    assert!([0, 1].iter().all(|dir| moved.names(*dir)[0].ends_with("-delete")));
}

#[test]
fn a_copy_is_cut_as_its_log_is() {
    let moved = Moved::begin();
    moved.copy_all();
    let log = moved.log();
    log.truncate_to(12).unwrap();
    log.assign_leader_epoch(7).unwrap();
    let newer = LeaderAppend { leader_epoch: 7, origin: AppendOrigin::Client, now_ms: NOW_MS };
    log.append_as_leader(plain(9, NOW_MS), newer).unwrap();
    moved.copy_all();
    let future = moved.future();
    assert_eq!(future.log_end_offset(), 21);
    assert_eq!(future.leader_epoch_for_offset(12), Some(7));
    log.set_high_watermark(21);
    append(&log, plain(3, NOW_MS)).unwrap();
    log.set_high_watermark(24);
    log.advance_log_start_offset(21).unwrap();
    moved.copy_all();
    assert_eq!((moved.future().log_start_offset(), moved.future().log_end_offset()), (21, 24));
    log.truncate_fully_and_start_at(100).unwrap();
    moved.copy_all();
    assert_eq!((moved.future().log_start_offset(), moved.future().log_end_offset()), (100, 100));
}

#[test]
fn a_move_is_called_off_by_another_one() {
    let moved = Moved::begin();
    assert_eq!(moved.copy(), 3);
    assert!(moved.to(1), "the same again goes on");
    assert_eq!(moved.copy(), 6);
    assert!(!moved.to(0), "where it is already");
    assert!(moved.manager.future(&moved.name).is_none());
    assert_eq!(moved.names(0), ["t-0"]);
    assert!(moved.manager.replace_with_future(&moved.name, NOW_MS).is_err());
    assert_eq!(moved.log().log_end_offset(), 15, "and nothing has happened to it");
}

#[test]
fn what_was_interrupted_after_the_copy_became_what_counts_is_finished() {
    for step in 0..3 {
        let moved = Moved::begin();
        moved.copy_all();
        moved.future().flush().unwrap();
        let folder = moved.future().folder().to_owned();
        let Moved { dirs, manager, name, id } = moved;
        drop(manager);
        std::fs::write(folder.join("replaces-the-log"), b"").unwrap();
        if step > 0 {
            let old = dirs[0].path().join("t-0");
            std::fs::rename(&old, dirs[0].path().join(format!("t-0.{:032}-delete", 1))).unwrap();
        }
        if step > 1 {
            std::fs::rename(&folder, dirs[1].path().join("t-0")).unwrap();
        }
        let moved = Moved { manager: open(&dirs), dirs, name, id };
        assert_eq!(moved.log().dir().path(), moved.dirs[1].path(), "step {step}");
        assert_eq!(moved.log().log_end_offset(), 15);
        assert_eq!(moved.names(1), ["t-0"]);
        assert!(!moved.log().folder().join("replaces-the-log").exists());
        assert!(moved.names(0)[0].ends_with("-delete"));
    }
}
