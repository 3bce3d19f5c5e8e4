//! The state machine as the member's parts share it: the log's apply task changes it, requests read it.

use ottla_common::types::Zxid;
use parking_lot::RwLock;

use crate::tree::{Change, Command, Outcome, StateMachine};

/// The state that is applied on this member, with those who wait for its changes. One task applies (the
/// consensus' apply task); anyone reads.
#[derive(Debug, Default)]
pub struct LiveState {
    machine: RwLock<StateMachine>,
}

impl LiveState {
    /// Shares a state, as it was loaded from a snapshot or new.
    pub fn new(machine: StateMachine) -> Self {
        Self { machine: RwLock::new(machine) }
    }

    /// Applies a durable command and tells watches and subscriptions, before anyone can read the
    /// change. To be called in the order of the log, by one task, before the outcome goes to who
    /// proposed the command. Also for the part of the log that is replayed at start.
    pub fn apply(&self, zxid: Zxid, time_ms: i64, command: &Command) -> Outcome {
        let mut machine = self.machine.write();
        let (outcome, _changes): (Outcome, Vec<Change>) = machine.apply(zxid, time_ms, command);
        outcome
    }

    /// The state as it is now, to be written as a snapshot. Costs nothing to speak of.
    pub fn machine(&self) -> StateMachine {
        self.machine.read().clone()
    }

    /// The last applied zxid.
    pub fn zxid(&self) -> Zxid {
        self.machine.read().zxid()
    }

    /// Replaces the state by a newer one that came as a snapshot. Subscribers are cut off, so that
    /// they start again.
    pub fn install(&self, machine: StateMachine) {
        let mut current = self.machine.write();
        assert!(machine.zxid() >= current.zxid(), "a snapshot older than the state");
        *current = machine;
    }
}
