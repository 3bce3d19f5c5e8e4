//! Stories of one member: it is started in a folder, takes commands, stops or dies, and starts
//! again.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ottla_common::coordination::protocol::{Acl, CreateMode, Op};
use ottla_common::shutdown::Shutdown;
use tempfile::TempDir;

use super::*;
use crate::limits::PROPOSAL_BYTES_MAX;
use crate::storage::commit_mark::CommitMark;
use crate::storage::files::{FileOperation, Verdict};
use crate::storage::wal::Wal;
use crate::storage::wal_record::{Entry, EntryKind};
use crate::tree::Action;

mod ensemble;

struct Member {
    ensemble: Ensemble,
    live: Arc<LiveState>,
    shutdown: Shutdown,
}

fn options(folder: &Path) -> EnsembleOptions {
    let wal = WalOptions { segment_size: 4096, allocate_step: 1024 };
    EnsembleOptions { wal, ..EnsembleOptions::new(MemberId(1), folder) }
}

fn start_with(options: EnsembleOptions) -> Result<Member, StartError> {
    let shutdown = Shutdown::new();
    let (ensemble, live) = Ensemble::start(options, &shutdown)?;
    Ok(Member { ensemble, live, shutdown })
}

fn start(folder: &TempDir) -> Member {
    start_with(options(folder.path())).unwrap()
}

fn refusal(folder: &Path) -> String {
    match start_with(options(folder)) {
        Ok(_) => panic!("the member started"),
        Err(error) => error.to_string(),
    }
}

impl Member {
    async fn stop(self) -> u64 {
        assert!(self.shutdown.finish(Duration::from_secs(60)).await);
        self.live.machine().digest()
    }
}

fn create(number: u64) -> Command {
    let path = format!("/node-{number}");
    let data = format!("data of {number}").into_bytes();
    let (mode, acl) = (CreateMode::Persistent, Acl::open());
    Command::by_ensemble(Action::Write(Op::Create { path, data, mode, acl }))
}

fn names(member: &Member) -> usize {
    let machine = member.live.machine();
    machine.tree().walk("/").filter(|(path, _)| path.starts_with("/node-")).count()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn commands_are_applied_in_the_order_in_which_they_were_proposed() {
    let folder = tempfile::tempdir().unwrap();
    let member = start(&folder);
    let first = member.live.zxid();
    let proposals: Vec<_> = (0..100).map(|n| member.ensemble.propose(create(n))).collect();
    for (proposal, index) in proposals.into_iter().zip(1..) {
        let applied = proposal.await.unwrap();
        assert_eq!(applied.zxid, Zxid(first.0 + index));
        assert!(applied.outcome.is_ok());
    }
    member.ensemble.read_barrier().await.unwrap();
    let status = member.ensemble.status();
    assert_eq!(status.applied_index, status.committed_index);
    assert!(status.flushes < 100, "{} flushes: proposals share them", status.flushes);
    // What fails is applied all the same: everywhere, with the same outcome.
    let failed = member.ensemble.propose(create(5)).await.unwrap();
    assert!(failed.outcome.is_err());
    assert_eq!(member.live.zxid(), failed.zxid);
    member.stop().await;
}

#[tokio::test]
async fn a_member_that_starts_again_has_the_state_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let member = start(&folder);
        assert_eq!(names(&member), round * 50);
        assert_eq!(member.ensemble.status().term, 2 * round as u64 + 1, "one for each start");
        let numbers = round as u64 * 50..(round as u64 + 1) * 50;
        let proposals: Vec<_> = numbers.map(|n| member.ensemble.propose(create(n))).collect();
        for proposal in proposals {
            proposal.await.unwrap();
        }
        let zxid = member.live.zxid();
        let digest = member.stop().await;
        let again = start(&folder);
        assert!(again.live.zxid() > zxid, "no zxid is used twice");
        assert_eq!(again.stop().await, digest);
    }
}

#[tokio::test]
async fn what_is_noted_as_committed_is_applied_while_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let member = start(&folder);
    for number in 0..10 {
        member.ensemble.propose(create(number)).await.unwrap();
    }
    let last = member.live.zxid().0.unsigned_abs();
    member.stop().await;
    // As another one's log: one with others cannot know by itself what of its log is committed.
    let member_id = MemberId(2);
    let loaded = |kept_entries_size_max| {
        let options =
            EnsembleOptions { member_id, kept_entries_size_max, ..options(folder.path()) };
        let loaded = load::load(&options).unwrap();
        assert_eq!(loaded.live.zxid().0.unsigned_abs(), loaded.applied.index);
        (loaded.applied.index, loaded.restored.entries.len() as u64)
    };
    assert_eq!(loaded(0), (last, 0));
    let (applied, kept) = loaded(1_000);
    assert!(applied > 0 && kept > 0 && applied + kept == last, "{applied} and {kept} of {last}");
    let files = Files::default();
    let mark = CommitMark::load(folder.path(), &files).unwrap().unwrap();
    let store = |mark: CommitMark| mark.store(folder.path(), &files).unwrap();
    store(CommitMark { index: mark.index - 3, ..mark });
    assert_eq!(loaded(0), (last - 3, 3), "an old note");
    store(CommitMark { index: mark.index + 1, ..mark });
    assert_eq!(loaded(0), (0, last), "a record that the log does not have");
    store(CommitMark { term: mark.term + 1, ..mark });
    assert_eq!(loaded(0), (0, last), "of another term");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_death_without_any_goodbye() {
    let folder = tempfile::tempdir().unwrap();
    let member = start(&folder);
    for number in 0..20 {
        member.ensemble.propose(create(number)).await.unwrap();
        // The folder as a death at this moment leaves it.
        let left = tempfile::tempdir().unwrap();
        copy(folder.path(), left.path());
        let again = start(&left);
        assert_eq!(names(&again) as u64, number + 1);
        again.stop().await;
    }
    member.stop().await;
}

#[tokio::test]
async fn a_folder_belongs_to_one_member_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let member = start(&folder);
    assert!(refusal(folder.path()).contains("in use by another process"));
    member.stop().await;
    start(&folder).stop().await;
}

/// A member that took many snapshots, and its digest.
async fn with_snapshots(folder: &TempDir) -> u64 {
    let with = EnsembleOptions { snapshot_after_records: 40, ..options(folder.path()) };
    let member = start_with(with).unwrap();
    let mut number = 0;
    let snapshots = || {
        let names = fs::read_dir(folder.path().join("snapshots")).unwrap();
        let names = names.map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|e| e == "snapshot")).count()
    };
    // Until old ones have been removed, and with them the beginning of the log.
    while member.ensemble.status().first_index == 1 || snapshots() < 3 {
        member.ensemble.propose(create(number)).await.unwrap();
        number += 1;
        assert!(number < 1_000_000, "no snapshots are taken");
    }
    member.stop().await
}

fn newest_snapshots(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("snapshots")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "snapshot"));
    paths.sort();
    paths.reverse();
    paths
}

#[tokio::test]
async fn damaged_snapshots_are_passed_over_and_too_many_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let digest = with_snapshots(&folder).await;
    let paths = newest_snapshots(folder.path());
    assert!(paths.len() >= 3);
    let again = start(&folder);
    assert!(again.ensemble.status().snapshot_index > 0);
    assert_eq!(again.stop().await, digest);
    let (last, others) = paths.split_last().unwrap();
    for path in others {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
        assert_eq!(start(&folder).stop().await, digest, "without {}", path.display());
    }
    fs::write(last, b"").unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("no whole snapshot reaches back so far"), "{error}");
}

#[tokio::test]
async fn a_member_whose_files_are_missing_never_starts_empty() {
    let folder = tempfile::tempdir().unwrap();
    with_snapshots(&folder).await;
    let damaged = |damage: fn(&Path)| {
        let left = tempfile::tempdir().unwrap();
        copy(folder.path(), left.path());
        damage(left.path());
        refusal(left.path())
    };
    let error = damaged(|folder| fs::remove_dir_all(folder.join("log")).unwrap());
    assert!(error.contains("the log is missing"), "{error}");
    let error = damaged(|folder| {
        fs::remove_dir_all(folder.join("log")).unwrap();
        fs::remove_file(folder.join("hard_state")).unwrap();
    });
    assert!(error.contains("the log is missing"), "{error}");
    let error = damaged(|folder| fs::remove_file(folder.join("hard_state")).unwrap());
    assert!(error.contains("`hard_state` is missing"), "{error}");
    let error = damaged(|folder| fs::remove_dir_all(folder.join("snapshots")).unwrap());
    assert!(error.contains("no whole snapshot reaches back so far"), "{error}");
    let error = damaged(|folder| {
        let newest = newest_snapshots(folder).remove(0);
        fs::rename(newest, folder.join("snapshots/09999999999999999999.snapshot")).unwrap();
    });
    assert!(error.contains("but the log ends at"), "{error}");
}

#[tokio::test]
async fn a_flush_that_fails_is_final_and_nothing_of_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let files = Files::hooked(move |operation, path| {
        let log = path.extension().is_some_and(|extension| extension == "log");
        if operation == FileOperation::Sync && log && failing.swap(false, Ordering::SeqCst) {
            // Only once: a second flush would succeed, and prove nothing.
            return Verdict::Fail(io::Error::other("input/output error"));
        }
        Verdict::Go
    });
    let member = start_with(EnsembleOptions { files, ..options(folder.path()) }).unwrap();
    member.ensemble.propose(create(1)).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    assert_eq!(member.ensemble.propose(create(2)).await, Err(ProposeError::Stopped));
    assert_eq!(member.ensemble.propose(create(3)).await, Err(ProposeError::Stopped));
    assert!(!member.ensemble.is_leader());
    assert_eq!(member.ensemble.read_barrier().await, Err(ProposeError::Stopped));
    assert_eq!(names(&member), 1, "what is not durable is not shown");
    member.shutdown.stopped().await;
    let failure = member.ensemble.status().failure.unwrap();
    assert!(failure.contains("input/output error"), "{failure}");
    member.stop().await;
    // The disk is read again: what was unknown is decided now, and everything acknowledged is
    // there.
    let again = start(&folder);
    assert!((1..=2).contains(&names(&again)));
    again.stop().await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_found_out_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    start(&folder).stop().await;
    let files = Files::hooked(|operation, _| match operation {
        FileOperation::Write(_) => Verdict::Fail(io::Error::other("read-only")),
        _ => Verdict::Go,
    });
    let error = start_with(EnsembleOptions { files, ..options(folder.path()) });
    assert!(error.err().unwrap().to_string().contains("read-only"));
}

#[tokio::test]
async fn proposals_that_would_fill_the_memory_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let member = start(&folder);
    let data = vec![7; PROPOSAL_BYTES_MAX / 8];
    let large = |data: &Vec<u8>| {
        let op = Op::SetData { path: "/none".to_owned(), data: data.clone(), version: None };
        Command::by_ensemble(Action::Write(op))
    };
    // More than all the memory that there is, faster than any disk can take it.
    let proposals: Vec<_> = (0..32).map(|_| member.ensemble.propose(large(&data))).collect();
    let mut busy = 0;
    for proposal in proposals {
        match proposal.await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, ProposeError::Busy);
                busy += 1;
            }
        }
    }
    assert!(busy > 0);
    member.ensemble.propose(create(1)).await.unwrap();
    member.stop().await;
}

#[tokio::test]
async fn a_record_of_a_newer_build_is_not_skipped() {
    let folder = tempfile::tempdir().unwrap();
    start(&folder).stop().await;
    let log = folder.path().join("log");
    let mut wal = Wal::open(&log, &Files::default(), options(folder.path()).wal).unwrap();
    let (index, payload) = (wal.last_index() + 1, Bytes::from_static(b"\xa3new"));
    let kind = EntryKind::Command;
    let entry = Entry { index, term: 9, time_ms: 0, kind, payload };
    wal.append(&[entry]).unwrap();
    wal.close().unwrap();
    drop(wal);
    let error = refusal(folder.path());
    assert!(error.contains("cannot be read by this build"), "{error}");
}
