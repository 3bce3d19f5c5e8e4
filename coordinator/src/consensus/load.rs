//! What a member does before it serves: takes its folder, and brings back the state that it had.

use std::collections::VecDeque;

use ottla_common::coordination::codec::decode_message;
use ottla_common::types::{MemberId, Zxid};

use super::apply::membership_of;
use super::config_node::config_text;
use super::raft::{Entry, EntryKind, Membership, Restored, SnapshotMeta};
use super::{EnsembleOptions, StartError};
use crate::storage::StorageError;
use crate::storage::commit_mark::CommitMark;
use crate::storage::files::{Files, FolderLock};
use crate::storage::hard_state::HardState;
use crate::storage::snapshot::{SnapshotReader, Snapshots};
use crate::storage::wal::Wal;
use crate::tree::{Action, Command, PayloadError, SnapshotError, SnapshotRecord, StateMachine};
use crate::watches::LiveState;

/// A member's state, as its folder holds it.
#[derive(Debug)]
pub struct Loaded {
    /// The state after the last entry that is known to be committed.
    pub live: LiveState,
    /// That entry, and the membership behind it.
    pub applied: SnapshotMeta,
    /// What the raft core goes on from.
    pub restored: Restored,
    /// The log.
    pub wal: Wal,
    /// The snapshots.
    pub snapshots: Snapshots,
    /// The entry that the newest snapshot stands behind; 0 if there is none.
    pub snapshot_index: u64,
    /// Keeps other processes out of the folder.
    pub lock: FolderLock,
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// Its file.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What it holds.
    #[error(transparent)]
    Content(#[from] SnapshotError),
    /// A record of it.
    #[error("a record in it cannot be read by this build: {0}")]
    UnknownRecord(String),
    /// It is of another entry.
    #[error("it holds the state behind the record {0}")]
    OtherIndex(u64),
}

/// Reads everything. Where the member is the only voter, all that its log holds is committed, and
/// is applied; otherwise what it noted as committed is. What is behind that waits for a leader to
/// tell.
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
    let newest = newest_whole(&mut snapshots, &snapshot_indexes)?;
    let snapshot_index = newest.as_ref().map_or(0, |(meta, _)| meta.index);
    if wal.first_index() > snapshot_index + 1 {
        let reason = format!(
            "the log begins at record {}, and no whole snapshot reaches back so far",
            wal.first_index()
        );
        return Err(StorageError::inconsistent(folder, reason).into());
    }
    let (snapshot, machine) =
        newest.map_or((None, StateMachine::new()), |(meta, machine)| (Some(meta), machine));
    let configured = options.membership.clone();
    let membership = snapshot.as_ref().map_or(configured, |meta| meta.membership.clone());
    let applied = snapshot.clone().unwrap_or_default();
    let applied = SnapshotMeta { membership: membership.clone(), ..applied };
    let hard_state = hard_state.unwrap_or_default();
    let restored = Restored { hard_state, snapshot, membership, entries: Vec::new() };
    let live = LiveState::new(machine);
    let mut loaded = Loaded { live, applied, restored, wal, snapshots, snapshot_index, lock };
    loaded.read_log(options)?;
    Ok(loaded)
}

/// The newest state that a snapshot holds; none if there is no snapshot that is whole.
fn newest_whole(
    snapshots: &mut Snapshots,
    indexes: &[u64],
) -> Result<Option<(SnapshotMeta, StateMachine)>, StartError> {
    for index in indexes.iter().rev().copied() {
        match read_snapshot(snapshots, index) {
            Ok(whole) => {
                snapshots.mark_whole(index);
                return Ok(Some(whole));
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
    Ok(None)
}

fn read_snapshot(
    snapshots: &Snapshots,
    index: u64,
) -> Result<(SnapshotMeta, StateMachine), SnapshotFault> {
    let reader = snapshots.read(index)?;
    let meta = reader.meta().clone();
    Ok((meta, machine_of(reader, index)?))
}

/// The state that a snapshot holds, which must be that behind an entry.
pub fn machine_of(reader: SnapshotReader, index: u64) -> Result<StateMachine, SnapshotFault> {
    let records = reader.map(|record| {
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

/// The command that an entry stands for, whatever its kind; with a membership, who the members are
/// from there on.
pub fn command_of(entry: &Entry) -> Result<(Command, Option<Membership>), PayloadError> {
    Ok(match entry.kind {
        EntryKind::Command => (Command::from_payload(&entry.payload)?.1, None),
        EntryKind::Blank => (Command::by_ensemble(Action::Nothing), None),
        EntryKind::Membership => {
            let membership = membership_of(entry)?;
            let mut members = membership.members.values();
            let action = match (members.next(), members.next()) {
                // Of a server that no other could reach, ZooKeeper says nothing either.
                (Some(alone), None) if alone.peer_address.is_empty() => Action::Nothing,
                _ => Action::SetConfig(config_text(&membership, zxid_of(entry.index))),
            };
            (Command::by_ensemble(action), Some(membership))
        }
    })
}

/// Whether nobody but this member belongs to an ensemble.
pub fn is_alone(membership: &Membership, member_id: MemberId) -> bool {
    membership.members.keys().all(|id| *id == member_id)
}

impl Loaded {
    /// Reads the log behind the snapshot: twice, so that it need not lie in memory as a whole.
    fn read_log(&mut self, options: &EnsembleOptions) -> Result<(), StartError> {
        let from = self.snapshot_index + 1;
        let mark = CommitMark::load(&options.folder, &options.files)?;
        let (mut in_force, mut committed) = (self.restored.membership.clone(), 0);
        for entry in self.wal.read_from(from) {
            let entry = entry?;
            if entry.kind == EntryKind::Membership {
                in_force = membership_of(&entry).map_err(|error| unknown(&entry, &error))?;
            }
            if mark == Some(CommitMark { index: entry.index, term: entry.term }) {
                committed = entry.index;
            }
        }
        if is_alone(&in_force, options.member_id) && in_force.is_voter(options.member_id) {
            return self.replay(u64::MAX, 0, options);
        }
        self.replay(committed, options.kept_entries_size_max, options)
    }

    /// Applies what is committed of the log behind the snapshot, but for so many bytes of its end,
    /// which others may lack. The core then goes on as from a snapshot, with the rest as its log.
    fn replay(
        &mut self,
        committed: u64,
        kept_size_max: usize,
        options: &EnsembleOptions,
    ) -> Result<(), StartError> {
        let started_ms = options.clock.monotonic_ms();
        let from = self.snapshot_index + 1;
        let (mut rest, mut rest_size, mut count) = (VecDeque::<Entry>::new(), 0, 0_u64);
        for entry in self.wal.read_from(from) {
            let entry = entry?;
            rest_size += entry.size();
            rest.push_back(entry);
            while rest_size > kept_size_max
                && rest.front().is_some_and(|oldest| oldest.index <= committed)
                && let Some(oldest) = rest.pop_front()
            {
                rest_size -= oldest.size();
                count += 1;
                self.apply(&oldest)?;
            }
        }
        self.restored.entries = rest.into();
        if count > 0 {
            let took_ms = options.clock.monotonic_ms() - started_ms;
            tracing::info!(snapshot_index = from - 1, count, took_ms, "log replayed");
            self.restored.membership = self.applied.membership.clone();
            self.restored.snapshot = Some(self.applied.clone());
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), StartError> {
        let (command, membership) = command_of(entry).map_err(|error| unknown(entry, &error))?;
        // Who proposed it was told the same outcome when it was applied first.
        let _ = self.live.apply(zxid_of(entry.index), entry.time_ms, &command);
        (self.applied.index, self.applied.term) = (entry.index, entry.term);
        if let Some(membership) = membership {
            self.applied.membership = membership;
        }
        Ok(())
    }
}

fn unknown(entry: &Entry, error: &PayloadError) -> StartError {
    StartError::UnknownRecord { index: entry.index, reason: error.to_string() }
}

/// Removes segments that are not needed any more, oldest first; `pause` is called after each.
pub fn remove_files(files: &Files, paths: &[std::path::PathBuf], pause: fn()) {
    for path in paths {
        if let Err(error) = files.remove(path) {
            // Those behind it must stay as well: the log has no gaps. The next start keeps them.
            tracing::warn!(%error, "cannot remove an old segment of the log");
            return;
        }
        pause();
    }
}
