//! What must hold, one file for each. The world tells [`Invariants`] what happens; whatever cannot
//! have happened ends the run with the name of the invariant.
//!
//! Z1 to Z15 are ZooKeeper's promises: linearizable writes (Z1) and reads after a `sync` (Z2), the
//! order of a session's requests (Z3), zxids that never go back for a client (Z4), events before
//! what they tell of (Z5), no lost watch (Z6), sessions that end for all at one zxid (Z7) but not
//! before their time (Z8) and for good (Z9), sequential names (Z10), multis (Z11), raft (Z12),
//! snapshots (Z13), ever rising zxids (Z14), access lists (Z15).

pub mod access;
pub mod commit_quorum;
pub mod commit_stays;
pub mod election_safety;
pub mod leader_completeness;
pub mod lease;
pub mod linearizability;
pub mod log_matching;
pub mod multi_atomicity;
pub mod sequential_names;
pub mod session_life;
pub mod session_order;
pub mod state_machine_safety;
pub mod tree_digest;
pub mod watch_order;
pub mod zxid_order;

use ottla_coordinator::storage::wal_record::{Entry, EntryKind};

/// A member's number.
pub type Id = u64;

/// What cannot have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The file in this folder that tells what must hold.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
}

/// The outcome of a check.
pub type Check = Result<(), Violation>;

/// A violation.
pub fn violation(invariant: &'static str, what: impl Into<String>) -> Violation {
    Violation { invariant, what: what.into() }
}

/// An entry in short: enough to tell it from any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    /// The term.
    pub term: u64,
    /// A checksum over what else it holds.
    pub content: u32,
}

impl Print {
    /// Of an entry.
    pub fn of(entry: &Entry) -> Self {
        let kind = match entry.kind {
            EntryKind::Command => 0,
            EntryKind::Membership => 1,
            EntryKind::Blank => 2,
        };
        let mut content = fnv(0x811c_9dc5, &[kind]);
        content = fnv(content, &entry.time_ms.to_le_bytes());
        content = fnv(content, &entry.payload);
        Self { term: entry.term, content }
    }
}

/// The hash of Fowler, Noll and Vo, 32 bits, variant 1a.
fn fnv(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
