//! Snapshots that travel in pieces, and what becomes of damaged ones.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ottla_common::types::MemberId;
use tempfile::TempDir;

use super::*;
use crate::storage::files::{FileOperation, Verdict};
use crate::storage::membership::Membership;
use crate::storage::wal_record::{Entry, EntryKind};

const OPTIONS: WalOptions = WalOptions { segment_size: 256, allocate_step: 128 };

fn records() -> Vec<Vec<u8>> {
    (0..200_u32).map(|number| number.to_le_bytes().repeat(number as usize % 7)).collect()
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta { index, term: 3, membership: Membership::of_voters([MemberId(4)]) }
}

fn entry(index: u64) -> Entry {
    let (kind, payload) = (EntryKind::Command, Bytes::from_static(b"some payload"));
    Entry { index, term: 1, time_ms: 5, kind, payload }
}

/// The bytes of a whole snapshot behind the record 100.
fn snapshot_bytes() -> Bytes {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(folder.path(), &Files::default()).unwrap();
    let go_on = AtomicBool::new(false);
    snapshots.writer().write(&meta(100), records().into_iter(), &go_on).unwrap().unwrap();
    let chunks = snapshots.chunks(100).unwrap();
    let whole = chunks.read(0, usize::MAX).unwrap();
    assert_eq!(whole.len() as u64, chunks.size());
    let pieces: Vec<Bytes> =
        (0..chunks.size()).step_by(7).map(|offset| chunks.read(offset, 7).unwrap()).collect();
    assert_eq!(pieces.concat(), whole);
    whole
}

/// A member with a log of twenty records and snapshots of the records 5 and 10.
fn member() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (log, files) = (folder.path().join("log"), Files::default());
    let mut wal = Wal::open(&log, &files, OPTIONS).unwrap();
    (1..=20).for_each(|index| wal.append(&[entry(index)]).unwrap());
    let snapshots = Snapshots::open(&folder.path().join("snapshots"), &files).unwrap();
    let go_on = AtomicBool::new(false);
    for index in [5, 10] {
        snapshots.writer().write(&meta(index), records().into_iter(), &go_on).unwrap().unwrap();
    }
    folder
}

fn install(folder: &Path, files: &Files, bytes: &[u8]) -> Result<(), StorageError> {
    let mut wal = Wal::open(&folder.join("log"), files, OPTIONS)?;
    let mut snapshots = Snapshots::open(&folder.join("snapshots"), files)?;
    let mut receiver = snapshots.receive(100)?;
    for piece in bytes.chunks(500) {
        receiver.put(piece)?;
    }
    let (meta, ()) = receiver.finish(|reader| {
        assert_eq!(reader.map(Result::unwrap).collect::<Vec<_>>(), records());
        Ok::<_, StorageError>(())
    })?;
    snapshots.install(&meta, &mut wal)?;
    wal.append(&[entry(101)])
}

/// Starts as a member does. Returns the newest snapshot, and from where to where the log reaches.
fn start(folder: &Path) -> (u64, (u64, u64)) {
    let (log, files) = (folder.join("log"), Files::default());
    let mut snapshots = Snapshots::open(&folder.join("snapshots"), &files).unwrap();
    snapshots.finish_install(&log, OPTIONS).unwrap();
    let newest = *snapshots.indexes().unwrap().last().unwrap();
    let read: Vec<_> = snapshots.read(newest).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, records());
    let wal = Wal::open(&log, &files, OPTIONS).unwrap();
    let entries: Vec<_> = wal.read_from(wal.first_index()).map(Result::unwrap).collect();
    assert_eq!(entries, (wal.first_index()..=wal.last_index()).map(entry).collect::<Vec<_>>());
    (newest, (wal.first_index(), wal.last_index()))
}

#[test]
fn a_snapshot_that_holds_nothing_known_leaves_everything_as_it_was() {
    let folder = member();
    let snapshots = Snapshots::open(&folder.path().join("snapshots"), &Files::default()).unwrap();
    let mut receiver = snapshots.receive(100).unwrap();
    receiver.put(&snapshot_bytes()).unwrap();
    let unknown = StorageError::inconsistent(folder.path(), "it is of a build to come");
    let refused = receiver.finish(|_| Err::<(), _>(unknown));
    assert!(refused.unwrap_err().to_string().contains("a build to come"));
    assert_eq!(start(folder.path()), (10, (1, 20)));
}

#[test]
fn a_snapshot_from_elsewhere_takes_the_place_of_the_log() {
    let folder = member();
    install(folder.path(), &Files::default(), &snapshot_bytes()).unwrap();
    assert_eq!(start(folder.path()), (100, (101, 101)));
    let snapshots = folder.path().join("snapshots");
    let snapshots = Snapshots::open(&snapshots, &Files::default()).unwrap();
    assert_eq!(snapshots.indexes().unwrap(), [100]);
}

#[test]
fn a_death_at_any_operation_leaves_the_old_state_or_the_new_one() {
    let bytes = snapshot_bytes();
    let mut seen_new = false;
    for fatal in 0.. {
        let folder = member();
        let done = Arc::new(AtomicUsize::new(0));
        let files = Files::hooked(move |operation, _| {
            let dead = || io::Error::other("dead");
            match (done.fetch_add(1, Ordering::Relaxed), operation) {
                (number, FileOperation::Write(length)) if number == fatal => {
                    Verdict::Tear(length / 2, dead())
                }
                (number, _) if number < fatal => Verdict::Go,
                _ => Verdict::Fail(dead()),
            }
        });
        let installed = install(folder.path(), &files, &bytes).is_ok();
        // Once it is there it does not go away again.
        let (newest, log) = start(folder.path());
        match newest {
            10 => assert!(log == (1, 20) && !seen_new, "death at {fatal}: {log:?}"),
            100 => assert!(log == (101, 101) || log == (101, 100), "death at {fatal}: {log:?}"),
            other => panic!("the snapshot {other}"),
        }
        seen_new |= newest == 100;
        assert_eq!(start(folder.path()), (newest, log));
        if installed {
            return;
        }
    }
}

#[test]
fn what_is_not_a_whole_snapshot_changes_nothing() {
    let bytes = snapshot_bytes();
    for position in (0..bytes.len()).step_by(307) {
        let folder = member();
        let mut damaged = bytes.to_vec();
        damaged[position] ^= 1;
        let outcome = install(folder.path(), &Files::default(), &damaged);
        assert!(matches!(outcome, Err(StorageError::Corrupt { .. })), "byte {position}");
        let outcome = install(folder.path(), &Files::default(), &bytes[..position]);
        assert!(matches!(outcome, Err(StorageError::Corrupt { .. })), "{position} bytes");
        assert_eq!(start(folder.path()), (10, (1, 20)));
        assert_eq!(fs::read_dir(folder.path().join("snapshots")).unwrap().count(), 2);
    }
    let folder = member();
    let snapshots = folder.path().join("snapshots");
    let snapshots = Snapshots::open(&snapshots, &Files::default()).unwrap();
    let mut receiver = snapshots.receive(101).unwrap();
    receiver.put(&bytes).unwrap();
    assert!(
        receiver.finish(|_| Ok::<_, StorageError>(())).is_err(),
        "the snapshot of another record"
    );
}
