//! Raft without disk, network, clock or threads.

mod face;
pub mod message;
pub mod seeded_bugs;

pub use face::*;
pub use message::{Message, MessageKind};

pub use crate::storage::hard_state::{HardState, Standing};
pub use crate::storage::membership::{Member, MemberRole, Membership, SnapshotMeta};
pub use crate::storage::wal_record::{Entry, EntryKind};
