//! What is flushed stays, what is not may go; and the log of a member stands all of that.

use bytes::Bytes;
use ottla_coordinator::storage::StorageError;
use ottla_coordinator::storage::files::Files;
use ottla_coordinator::storage::wal::{Wal, WalOptions};
use ottla_coordinator::storage::wal_record::{Entry, EntryKind};

use super::*;

const OPTIONS: WalOptions = WalOptions { segment_size: 1024, allocate_step: 256 };

fn entry(index: u64, term: u64) -> Entry {
    let payload = format!("payload {index} ").repeat(usize::try_from(index % 7).unwrap());
    Entry { index, term, time_ms: 1, kind: EntryKind::Command, payload: Bytes::from(payload) }
}

#[test]
fn what_was_not_flushed_may_be_lost() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..50 {
        let disk = Disk::new(seed);
        let files = Files::new(disk.mount());
        let file = files.create(Path::new("/a")).unwrap();
        files.sync_folder(Path::new("/")).unwrap();
        file.write_all_at(b"first", 0).unwrap();
        file.sync().unwrap();
        file.write_all_at(b"other", 0).unwrap();
        disk.crash();
        assert!(file.length().is_err(), "the process is dead");
        match &*disk.content(Path::new("/a")).unwrap() {
            b"first" => lost += 1,
            b"other" => kept += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(kept > 5 && lost > 5, "{kept} {lost}");
}

#[test]
fn a_failed_flush_loses_what_it_was_to_flush() {
    let disk = Disk::new(1);
    let files = Files::new(disk.mount());
    let file = files.create(Path::new("/a")).unwrap();
    files.sync_folder(Path::new("/")).unwrap();
    file.write_all_at(b"data", 0).unwrap();
    disk.fail_next_sync();
    assert!(file.sync().is_err() && file.sync().is_ok());
    assert_eq!(disk.content(Path::new("/a")).unwrap(), b"data");
    disk.crash();
    assert_eq!(disk.content(Path::new("/a")).unwrap(), b"");
}

/// What a log must hold: what was acknowledged, and no more than was written behind it.
#[derive(Default)]
struct Expected {
    acknowledged: Vec<u64>,
    /// The terms of the entries as they were written last, for what may be there beyond.
    written: Vec<u64>,
    /// Entries that were acknowledged and are to be cut; the cut may or may not be done.
    cut_to: Option<usize>,
}

fn work(wal: &mut Wal, expected: &mut Expected, random: &mut Rng) -> Result<(), StorageError> {
    for _ in 0..random.u32(1..20) {
        if random.u8(..5) == 0 && !expected.acknowledged.is_empty() {
            let from = random.usize(..expected.acknowledged.len());
            expected.cut_to = Some(from);
            wal.truncate_from(from as u64 + 1)?;
            expected.cut_to = None;
            expected.acknowledged.truncate(from);
            expected.written.truncate(from);
        }
        let term = random.u64(..1000);
        let next = expected.acknowledged.len() as u64 + 1;
        let batch: Vec<_> = (next..next + random.u64(1..6)).map(|at| entry(at, term)).collect();
        expected.written.extend(batch.iter().map(|entry| entry.term));
        wal.append(&batch)?;
        expected.acknowledged.clone_from(&expected.written);
    }
    Ok(())
}

#[test]
fn a_log_keeps_what_it_acknowledged_through_any_number_of_crashes() {
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let disk = Disk::new(seed);
        let mut expected = Expected::default();
        for life in 0..6 {
            let files = Files::new(disk.mount());
            let mut wal = Wal::open(Path::new("/data/log"), &files, OPTIONS)
                .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            let read: Vec<u64> = wal.read_from(1).map(|entry| entry.unwrap().term).collect();
            let certain = expected.cut_to.unwrap_or(expected.acknowledged.len());
            assert!(read.len() >= certain, "seed {seed}, life {life}");
            assert!(expected.written.starts_with(&read), "seed {seed}, life {life}");
            expected = Expected { acknowledged: read.clone(), written: read, cut_to: None };
            if random.bool() {
                disk.die_in(random.u32(..40));
            }
            if random.u8(..4) == 0 {
                disk.fail_next_sync();
            }
            let _ = work(&mut wal, &mut expected, &mut random);
            if random.bool() { disk.crash() } else { disk.kill() }
        }
    }
}
