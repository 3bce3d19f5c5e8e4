//! The tree and the sessions as one deterministic machine.

use ottla_common::coordination::protocol::CoordinationError;
use ottla_common::types::Zxid;
use serde::{Deserialize, Serialize};

use super::{Change, Command, Outcome};

/// The replicated state. A clone costs a few reference counts whatever the state's size (all of it lies
/// in persistent structures): to write a snapshot, clone it on the apply task and write the clone's
/// [`StateMachine::snapshot_records`] elsewhere, while commands go on being applied to the original.
#[derive(Clone, Debug, Default)]
pub struct StateMachine {
    zxid: Zxid,
}

/// One piece of a snapshot: small enough to be framed and checked on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SnapshotRecord {
    /// The last record: what the whole must come to.
    End {
        /// The state's zxid.
        zxid: Zxid,
        /// Its digest.
        digest: u64,
    },
}

/// A snapshot's records do not make up a state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The last record is missing, or something comes after it.
    #[error("the snapshot is not complete")]
    Incomplete,
}

impl StateMachine {
    /// The state before the first command: the nodes that are always there, no session, zxid 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The zxid of the last applied command.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// The digest over tree and sessions: equal on all members at the same zxid.
    pub fn digest(&self) -> u64 {
        0
    }

    /// Applies the command that stands at `zxid` in the log. `time_ms` is the wall time that the log
    /// holds for it. Every command takes its zxid, also one that fails or changes nothing.
    pub fn apply(
        &mut self,
        zxid: Zxid,
        _time_ms: i64,
        _command: &Command,
    ) -> (Outcome, Vec<Change>) {
        assert!(zxid > self.zxid, "zxid {zxid} applied after {}", self.zxid);
        self.zxid = zxid;
        (Err(CoordinationError::Unimplemented), Vec::new())
    }

    /// The state in pieces, sessions first, then nodes, parents before children.
    pub fn snapshot_records(&self) -> impl Iterator<Item = SnapshotRecord> + use<'_> {
        std::iter::once(SnapshotRecord::End { zxid: self.zxid, digest: self.digest() })
    }

    /// The state that [`StateMachine::snapshot_records`] took apart. Ends at the first record that
    /// could not be read.
    pub fn from_snapshot<E: From<SnapshotError>>(
        records: impl IntoIterator<Item = Result<SnapshotRecord, E>>,
    ) -> Result<Self, E> {
        let mut records = records.into_iter();
        match (records.next().transpose()?, records.next()) {
            (Some(SnapshotRecord::End { zxid, .. }), None) => Ok(Self { zxid }),
            _ => Err(SnapshotError::Incomplete.into()),
        }
    }
}
