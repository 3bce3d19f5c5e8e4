//! What a member does before it serves: takes its folder, and brings back the state that it had.

use ottla_common::clock::Clock;
use ottla_common::coordination::codec::decode_message;
use ottla_common::types::Zxid;

use super::{EnsembleOptions, StartError};
use crate::storage::StorageError;
use crate::storage::files::{Files, FolderLock};
use crate::storage::hard_state::{HardState, Standing};
use crate::storage::snapshot::Snapshots;
use crate::storage::wal::Wal;
use crate::storage::wal_record::{Entry, EntryKind};
use crate::tree::{Action, Command, Origin, SnapshotError, SnapshotRecord, StateMachine};
use crate::watches::LiveState;

/// A member's state, as its folder holds it.
#[derive(Debug)]
pub struct Loaded {
    /// The state after the last record of the log.
    pub live: LiveState,
    pub wal: Wal,
    pub snapshots: Snapshots,
    pub term: u64,
    /// The record that the snapshot stood behind that was loaded; 0 if there was none.
    pub snapshot_index: u64,
    pub lock: FolderLock,
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
enum SnapshotFault {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Content(#[from] SnapshotError),
    #[error("a record in it cannot be read by this build: {0}")]
    UnknownRecord(String),
    #[error("it holds the state behind the record {0}")]
    OtherIndex(u64),
}

/// Reads everything, begins a new term and writes its first record: a disk that takes nothing is
/// found out before anybody is served.
pub fn load(options: &EnsembleOptions) -> Result<Loaded, StartError> {
    let (folder, files) = (&options.folder, &options.files);
    files.create_folder(folder)?;
    let lock = files.lock(folder)?;
    let hard_state = HardState::load(folder, files)?;
    let mut snapshots = Snapshots::open(&folder.join("snapshots"), files)?;
    let log_folder = folder.join("log");
    snapshots.finish_install(&log_folder, options.wal)?;
    let snapshot_indexes = snapshots.indexes()?;
    let was_used = hard_state.is_some() || !snapshot_indexes.is_empty();
    if was_used && !Wal::exists(&log_folder, files)? {
        return Err(StorageError::inconsistent(folder, "the log is missing").into());
    }
    let wal = Wal::open(&log_folder, files, options.wal)?;
    if hard_state.is_none() && wal.last_index() > 0 {
        return Err(StorageError::inconsistent(folder, "the file `hard_state` is missing").into());
    }
    if let Some(newest) = snapshot_indexes.last().filter(|newest| **newest > wal.last_index()) {
        let last = wal.last_index();
        let reason = format!("there is a snapshot of record {newest}, but the log ends at {last}");
        return Err(StorageError::inconsistent(folder, reason).into());
    }
    let machine = newest_whole(&mut snapshots, &snapshot_indexes)?;
    let snapshot_index = index_of(&machine);
    if wal.first_index() > snapshot_index + 1 {
        let reason = format!(
            "the log begins at record {}, and no whole snapshot reaches back so far",
            wal.first_index()
        );
        return Err(StorageError::inconsistent(folder, reason).into());
    }
    let term = hard_state.unwrap_or_default().term + 1;
    let (vote, standing) = (Some(options.member_id), Standing::Voter);
    HardState { term, vote, standing, cluster_id: None }.store(folder, files)?;
    let live = LiveState::new(machine);
    let mut loaded = Loaded { live, wal, snapshots, term, snapshot_index, lock };
    loaded.replay(snapshot_index + 1, &options.clock)?;
    loaded.begin_term(&options.clock)?;
    Ok(loaded)
}

/// The newest state that a snapshot holds; the empty one if there is no snapshot that is whole.
fn newest_whole(snapshots: &mut Snapshots, indexes: &[u64]) -> Result<StateMachine, StartError> {
    for index in indexes.iter().rev().copied() {
        match read_snapshot(snapshots, index) {
            Ok(machine) => {
                snapshots.mark_whole(index);
                return Ok(machine);
            }
            // Not a matter of what the file holds: another try may succeed.
            Err(SnapshotFault::Storage(error @ StorageError::Io { .. })) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::error!(index, %error, "snapshot cannot be used, trying the one before it");
            }
        }
    }
    Ok(StateMachine::new())
}

fn read_snapshot(snapshots: &Snapshots, index: u64) -> Result<StateMachine, SnapshotFault> {
    let records = snapshots.read(index)?.map(|record| {
        let decoded = decode_message::<SnapshotRecord>(&record?);
        decoded.map_err(|error| SnapshotFault::UnknownRecord(error.to_string()))
    });
    let machine = StateMachine::from_snapshot(records)?;
    match index_of(&machine) {
        found if found == index => Ok(machine),
        found => Err(SnapshotFault::OtherIndex(found)),
    }
}

/// The index of the last record that a state holds: its zxid.
pub fn index_of(machine: &StateMachine) -> u64 {
    machine.zxid().0.unsigned_abs()
}

/// The zxid of a record of the log: its index.
pub fn zxid_of(index: u64) -> Zxid {
    Zxid(i64::try_from(index).unwrap_or(i64::MAX))
}

impl Loaded {
    fn replay(&mut self, from: u64, clock: &Clock) -> Result<(), StartError> {
        let started_ms = clock.monotonic_ms();
        for entry in self.wal.read_from(from) {
            let Entry { index, time_ms, payload, .. } = entry?;
            let (_, command) = Command::from_payload(&payload)
                .map_err(|error| StartError::UnknownRecord { index, reason: error.to_string() })?;
            // Who proposed it was told the same outcome when it was applied first.
            let _ = self.live.apply(zxid_of(index), time_ms, &command);
        }
        let count = self.wal.last_index() + 1 - from;
        let took_ms = clock.monotonic_ms() - started_ms;
        tracing::info!(snapshot_index = from - 1, count, took_ms, "log replayed");
        Ok(())
    }

    fn begin_term(&mut self, clock: &Clock) -> Result<(), StartError> {
        let command = Command::by_ensemble(Action::Nothing);
        let payload = command.to_payload(Origin::default());
        let index = self.wal.last_index() + 1;
        let time_ms = clock.wall_time_ms();
        let (term, kind) = (self.term, EntryKind::Command);
        let entry = Entry { index, term, time_ms, kind, payload };
        self.wal.append(&[entry])?;
        let _ = self.live.apply(zxid_of(index), time_ms, &command);
        Ok(())
    }
}

/// Removes segments that are not needed any more, oldest first.
pub fn remove_files(files: &Files, paths: &[std::path::PathBuf]) {
    for path in paths {
        if let Err(error) = files.remove(path) {
            // Those behind it must stay as well: the log has no gaps. The next start keeps them.
            tracing::warn!(%error, "cannot remove an old segment of the log");
            return;
        }
    }
}
