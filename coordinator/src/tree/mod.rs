//! The state machine: a tree of nodes and a table of sessions, changed only by applying commands.
//!
//! Everything here is pure: no clock, no I/O, no randomness; the same commands give the same state, the
//! same outcomes and the same changes on every member.

mod command;
mod state_machine;

pub use command::{AclList, Action, Change, Command, Effect, Identity, Outcome};
pub use state_machine::{SnapshotError, SnapshotRecord, StateMachine};
