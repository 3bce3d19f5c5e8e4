//! Each story writes a log, does something to its files, and opens it again.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::storage::files::{FileOperation, Verdict};
use crate::storage::membership::SnapshotMeta;
use crate::storage::wal_record::EntryKind;

/// Small segments, so that a story has several.
const OPTIONS: WalOptions = WalOptions { segment_size: 1024, allocate_step: 256 };

fn random() -> fastrand::Rng {
    let seed = std::env::var("OTTLA_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("OTTLA_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn entry(index: u64) -> Entry {
    let payload = format!("payload {index} ").repeat(usize::try_from(index % 5).unwrap());
    let (term, payload) = (1 + index / 10, Bytes::from(payload));
    Entry { index, term, time_ms: 1_000, kind: EntryKind::Command, payload }
}

fn entries(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes.map(entry).collect()
}

fn open(folder: &TempDir) -> Result<Wal, StorageError> {
    Wal::open(folder.path(), &Files::default(), OPTIONS)
}

/// A log whose entries are durable, written in batches of `batch`.
fn written(last: u64, batch: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut wal = open(&folder).unwrap();
    for entries in entries(1..=last).chunks(batch) {
        wal.append(entries).unwrap();
    }
    folder
}

fn read(wal: &Wal) -> Vec<Entry> {
    wal.read_from(wal.first_index()).map(Result::unwrap).collect()
}

fn newest_segment(folder: &TempDir) -> PathBuf {
    let numbers = Files::default().numbered(folder.path(), SEGMENT_EXTENSION).unwrap();
    numbered_path(folder.path(), *numbers.last().unwrap(), SEGMENT_EXTENSION)
}

/// Where the records of the newest segment begin, and where the last of them ends.
fn positions(folder: &TempDir) -> Vec<u64> {
    let path = newest_segment(folder);
    let first = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut reader = SegmentReader::open(folder.path(), &Files::default(), first).unwrap();
    let mut positions = vec![reader.position()];
    while let Step::Record(_) = reader.step().unwrap() {
        positions.push(reader.position());
    }
    positions
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn copy(folder: &TempDir) -> TempDir {
    let target = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), target.path().join(file.file_name())).unwrap();
    }
    target
}

#[test]
fn what_was_appended_is_read_again_over_many_segments() {
    let folder = written(100, 7);
    let mut wal = open(&folder).unwrap();
    assert!(wal.segment_count() > 5, "{}", wal.segment_count());
    assert_eq!((wal.first_index(), wal.last_index()), (1, 100));
    assert_eq!(read(&wal), entries(1..=100));
    let from_57: Vec<_> = wal.read_from(57).map(Result::unwrap).collect();
    assert_eq!(from_57, entries(57..=100));
    assert_eq!(wal.read_from(101).count(), 0);
    wal.append(&entries(101..=102)).unwrap();
    assert_eq!(read(&wal), entries(1..=102));
}

#[test]
fn a_record_longer_than_a_segment_has_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut wal = open(&folder).unwrap();
    let long = Entry { payload: Bytes::from(vec![7; 5000]), ..entry(1) };
    let small = entry(2);
    let long_again = Entry { index: 3, ..long.clone() };
    wal.append(&[long.clone(), small.clone(), long_again.clone()]).unwrap();
    assert_eq!(wal.segment_count(), 3);
    drop(wal);
    assert_eq!(read(&open(&folder).unwrap()), [long, small, long_again]);
}

#[test]
fn old_segments_go_and_the_rest_stays() {
    let folder = written(100, 1);
    let mut wal = open(&folder).unwrap();
    assert!(wal.forget_before(1).is_empty());
    let forgotten = wal.forget_before(50);
    assert!(wal.first_index() <= 50 && wal.first_index() > 30, "{}", wal.first_index());
    assert_eq!(forgotten[0], numbered_path(folder.path(), 1, SEGMENT_EXTENSION));
    let forgotten = [forgotten, wal.forget_before(1000)].concat();
    forgotten.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(wal.segment_count(), 1);
    drop(wal);
    let wal = open(&folder).unwrap();
    assert_eq!(read(&wal), entries(wal.first_index()..=100));
}

#[test]
fn a_batch_that_was_cut_short_anywhere_is_cut_and_what_was_flushed_before_stays() {
    // The first three are flushed; the last three are a batch that never was.
    let folder = tempfile::tempdir().unwrap();
    let mut wal = open(&folder).unwrap();
    wal.append(&entries(1..=3)).unwrap();
    wal.close().unwrap();
    let extent = fs::read(Extent::path(folder.path())).unwrap();
    wal.append(&entries(4..=6)).unwrap();
    drop(wal);
    fs::write(Extent::path(folder.path()), extent).unwrap();
    let ends = positions(&folder);
    for length in ends[3]..=ends[6] {
        for zeros_behind in [false, true] {
            let folder = copy(&folder);
            change(&newest_segment(&folder), |bytes| {
                bytes.truncate(usize::try_from(length).unwrap());
                bytes.resize(bytes.len() + if zeros_behind { 512 } else { 0 }, 0);
            });
            let whole = 3 + ends[4..].iter().filter(|end| **end <= length).count() as u64;
            let mut wal = open(&folder).unwrap();
            let kept = wal.last_index();
            // Zeros may just be what was cut off.
            assert!(kept == whole || zeros_behind && kept == whole + 1, "cut at {length}");
            assert_eq!(read(&wal), entries(1..=kept), "cut at {length}");
            // And it goes on from there.
            wal.append(&entries(kept + 1..=kept + 2)).unwrap();
            drop(wal);
            assert_eq!(read(&open(&folder).unwrap()), entries(1..=kept + 2));
        }
    }
}

#[test]
fn pages_of_an_unflushed_batch_may_arrive_in_any_order() {
    let mut random = random();
    let folder = tempfile::tempdir().unwrap();
    let mut wal = open(&folder).unwrap();
    wal.append(&entries(1..=2)).unwrap();
    wal.close().unwrap();
    let extent = fs::read(Extent::path(folder.path())).unwrap();
    wal.append(&entries(3..=9)).unwrap();
    drop(wal);
    fs::write(Extent::path(folder.path()), extent).unwrap();
    let ends = positions(&folder);
    let (batch, end) = (usize::try_from(ends[2]).unwrap(), usize::try_from(ends[9]).unwrap());
    for _ in 0..200 {
        let folder = copy(&folder);
        change(&newest_segment(&folder), |bytes| {
            for piece in bytes[batch..end].chunks_mut(32) {
                if random.bool() {
                    piece.fill(if random.bool() { 0 } else { random.u8(..) });
                }
            }
        });
        let wal = open(&folder).unwrap();
        let read = read(&wal);
        assert!(read.len() >= 2);
        assert_eq!(read, entries(1..=read.len() as u64));
    }
}

#[test]
fn a_flipped_bit_before_the_last_batch_is_refused_with_its_place() {
    let folder = written(8, 2);
    let ends = positions(&folder);
    let path = newest_segment(&folder);
    for position in (ends[0]..ends[6]).step_by(5) {
        let folder = copy(&folder);
        let path = folder.path().join(path.file_name().unwrap());
        change(&path, |bytes| bytes[usize::try_from(position).unwrap()] ^= 0x10);
        let record = ends.iter().rposition(|end| *end <= position).unwrap();
        let error = match open(&folder) {
            Err(error) => error.to_string(),
            // Zeros behind a payload carry nothing.
            Ok(wal) => {
                assert_eq!(read(&wal), entries(1..=8), "byte {position}");
                continue;
            }
        };
        let place = format!("{} is corrupt at byte {}", path.display(), ends[record]);
        assert!(error.contains(&place), "byte {position}: {error}");
        assert!(error.contains("restore the folder from a backup"), "{error}");
        let before = fs::read(&path).unwrap();
        assert!(open(&folder).is_err());
        assert_eq!(fs::read(&path).unwrap(), before, "a refusal changes nothing");
    }
}

#[test]
fn damage_in_an_older_segment_is_refused_when_it_is_read() {
    let folder = written(100, 3);
    let first = numbered_path(folder.path(), 1, SEGMENT_EXTENSION);
    change(&first, |bytes| bytes[300] ^= 1);
    let wal = open(&folder).unwrap();
    let outcome: Result<Vec<_>, _> = wal.read_from(1).collect();
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("00000000000000000001.log is corrupt at byte"), "{error}");
    assert_eq!(wal.read_from(90).filter(Result::is_ok).count(), 11, "the rest is whole");

    change(&first, |bytes| bytes.truncate(200));
    let outcome: Result<Vec<_>, _> = wal.read_from(1).collect();
    assert!(outcome.is_err());
}

#[test]
fn a_log_that_lost_its_newest_segment_is_refused() {
    let folder = written(60, 1);
    let path = newest_segment(&folder);
    for damage in ["removed", "emptied", "cut behind its header"] {
        let folder = copy(&folder);
        let path = folder.path().join(path.file_name().unwrap());
        match damage {
            "removed" => fs::remove_file(&path).unwrap(),
            "emptied" => change(&path, Vec::clear),
            _ => {
                // After a clean stop the log knows how far it reaches.
                open(&folder).unwrap().close().unwrap();
                change(&path, |bytes| bytes.truncate(SEGMENT_HEADER_SIZE));
            }
        }
        assert!(open(&folder).is_err(), "{damage}");
    }
}

#[test]
fn a_log_that_lost_its_extent_or_all_segments_is_refused() {
    let folder = written(5, 1);
    let changed = copy(&folder);
    change(&Extent::path(changed.path()), |bytes| bytes[9] ^= 1);
    assert!(open(&changed).unwrap_err().to_string().contains("not as it was written"));
    fs::remove_file(Extent::path(changed.path())).unwrap();
    assert!(open(&changed).unwrap_err().to_string().contains("`extent` is missing"));
    fs::remove_file(newest_segment(&folder)).unwrap();
    assert!(open(&folder).unwrap_err().to_string().contains("segments are missing"));
}

#[test]
fn garbage_in_place_of_a_log_never_panics() {
    let mut random = random();
    let folder = written(12, 3);
    let path = newest_segment(&folder);
    for _ in 0..300 {
        let folder = copy(&folder);
        change(&folder.path().join(path.file_name().unwrap()), |bytes| {
            let start = random.usize(..bytes.len());
            for byte in bytes.iter_mut().skip(start).take(random.usize(..600)) {
                *byte = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len() * 2));
        });
        if let Ok(wal) = open(&folder) {
            for (entry, index) in wal.read_from(1).zip(1..) {
                assert!(entry.is_err() || entry.unwrap() == super::tests::entry(index));
            }
        }
    }
}

/// A file system that dies at its `fatal`-th operation, tearing a write in the middle.
fn dying(fatal: usize) -> Files {
    let done = Arc::new(AtomicUsize::new(0));
    Files::hooked(move |operation, _| {
        let dead = || io::Error::other("dead");
        match (done.fetch_add(1, Ordering::Relaxed), operation) {
            (number, FileOperation::Write(length)) if number == fatal => {
                Verdict::Tear(length / 2, dead())
            }
            (number, _) if number < fatal => Verdict::Go,
            _ => Verdict::Fail(dead()),
        }
    })
}

/// Runs a story on a file system that dies at its `fatal`-th operation. Returns how many entries
/// were acknowledged, and whether it died.
fn run_until_death(folder: &Path, fatal: usize) -> (u64, bool) {
    let files = dying(fatal);
    let mut acknowledged = 0;
    let Ok(mut wal) = Wal::open(folder, &files, OPTIONS) else { return (0, true) };
    for batch in entries(1..=40).chunks(4) {
        if wal.append(batch).is_err() {
            assert!(matches!(wal.append(&[]), Err(StorageError::FailedBefore)));
            return (acknowledged, true);
        }
        acknowledged += batch.len() as u64;
        for path in wal.forget_before(acknowledged / 2) {
            if files.remove(&path).is_err() {
                return (acknowledged, true);
            }
        }
    }
    (acknowledged, wal.close().is_err())
}

#[test]
fn a_death_at_any_operation_loses_nothing_that_was_acknowledged() {
    for fatal in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let (acknowledged, died) = run_until_death(folder.path(), fatal);
        let mut wal = open(&folder).unwrap_or_else(|error| panic!("death at {fatal}: {error}"));
        assert!(wal.last_index() >= acknowledged, "death at {fatal}");
        assert!(wal.last_index() <= acknowledged + 4, "death at {fatal}");
        let (first, last) = (wal.first_index(), wal.last_index());
        assert!(first <= (acknowledged / 2).max(1));
        assert_eq!(read(&wal), entries(first..=last), "death at {fatal}");
        wal.append(&entries(last + 1..=last + 3)).unwrap();
        if !died {
            assert_eq!(acknowledged, 40);
            return;
        }
    }
}

/// An entry as another leader wrote it.
fn entry_of_term(index: u64, term: u64) -> Entry {
    Entry { term, ..entry(index) }
}

#[test]
fn entries_are_cut_anywhere_and_others_take_their_place() {
    for index in 1..=61 {
        let folder = written(60, 3);
        let mut wal = open(&folder).unwrap();
        wal.truncate_from(index).unwrap();
        assert_eq!(wal.last_index(), index - 1);
        assert_eq!(read(&wal), entries(1..=index - 1));
        let later: Vec<_> = (index..=index + 5).map(|index| entry_of_term(index, 99)).collect();
        wal.append(&later).unwrap();
        drop(wal);
        let wal = open(&folder).unwrap();
        assert_eq!(read(&wal), [entries(1..=index - 1), later].concat(), "cut at {index}");
    }
}

#[test]
fn what_was_cut_does_not_tell_that_a_torn_end_was_flushed() {
    let folder = written(8, 1);
    let mut wal = open(&folder).unwrap();
    wal.truncate_from(3).unwrap();
    wal.close().unwrap();
    let extent = fs::read(Extent::path(folder.path())).unwrap();
    wal.append(&[entry_of_term(3, 99)]).unwrap();
    drop(wal);
    fs::write(Extent::path(folder.path()), extent).unwrap();
    let end = usize::try_from(positions(&folder)[3]).unwrap();
    change(&newest_segment(&folder), |bytes| bytes[end - 8..].fill(0));
    assert_eq!(read(&open(&folder).unwrap()), entries(1..=2));
}

#[test]
fn a_death_at_any_operation_of_a_cut_leaves_the_log_up_to_the_cut_or_more_of_it() {
    for index in [1, 2, 18, 19, 20, 41, 60] {
        for fatal in 0.. {
            let folder = written(60, 3);
            let files = dying(fatal);
            let wal = Wal::open(folder.path(), &files, OPTIONS);
            let cut = wal.and_then(|mut wal| {
                let cut = wal.truncate_from(index);
                let failed = matches!(wal.append(&[]), Err(StorageError::FailedBefore));
                assert_eq!(failed, cut.is_err());
                cut
            });
            let mut wal = open(&folder).unwrap_or_else(|error| panic!("death at {fatal}: {error}"));
            let last = wal.last_index();
            assert!((index - 1..=60).contains(&last), "death at {fatal}, cut at {index}");
            assert_eq!(read(&wal), entries(1..=last), "death at {fatal}, cut at {index}");
            wal.truncate_from(index).unwrap();
            wal.append(&[entry_of_term(index, 99)]).unwrap();
            drop(wal);
            let wal = open(&folder).unwrap();
            assert_eq!(read(&wal).last(), Some(&entry_of_term(index, 99)));
            if cut.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_log_begins_anew_behind_a_snapshot() {
    let folder = written(60, 3);
    let mut wal = open(&folder).unwrap();
    let after = SnapshotMeta { index: 500, ..SnapshotMeta::default() };
    wal.reset(&after).unwrap();
    assert_eq!((wal.first_index(), wal.last_index(), wal.segment_count()), (501, 500, 1));
    wal.append(&[entry(501)]).unwrap();
    drop(wal);
    assert_eq!(read(&open(&folder).unwrap()), [entry(501)]);
}
