//! All that is known of a run, gathered as it happens: the state that the committed entries make,
//! and what clients asked and were told. Judges by the invariants.

use std::collections::BTreeMap;

use ottla_common::coordination::protocol::ChangeKind;
use ottla_coordinator::consensus::raft::{Entry, Membership};
use ottla_coordinator::tree::{Action, Change, Command, Effect, StateMachine};

use crate::history::{Entry as Record, What};
use crate::invariants::election_safety::ElectionSafety;
use crate::invariants::log_matching::LogMatching;
use crate::invariants::multi_atomicity::{self, PAIR};
use crate::invariants::sequential_names::SequentialNames;
use crate::invariants::session_life::{self, SessionLife};
use crate::invariants::session_order::SessionOrder;
use crate::invariants::state_machine_safety::Committed;
use crate::invariants::tree_digest::TreeDigest;
use crate::invariants::watch_order::Changes;
use crate::invariants::zxid_order::ZxidOrder;
use crate::invariants::{Check, Id};

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Who led when.
    pub elections: ElectionSafety,
    /// All entries ever.
    pub logs: LogMatching,
    /// The committed ones.
    pub committed: Committed,
    /// The state that they make, applied once, here.
    pub reference: StateMachine,
    /// The digests of all states.
    pub digests: TreeDigest,
    /// When nodes changed.
    pub changes: Changes,
    /// The sessions' lives.
    pub life: SessionLife,
    /// The numbers of sequential nodes.
    pub sequences: SequentialNames,
    /// What each client saw.
    pub zxids: ZxidOrder,
    /// And in which order.
    pub orders: SessionOrder,
    /// The newest write that a client was told of.
    pub acknowledged: i64,
    /// What clients asked and were told.
    pub history: Vec<Record>,
    /// The newest committed membership.
    pub membership: Membership,
    /// Sessions, and whether they are to be alive at the end.
    pub fates: BTreeMap<i64, bool>,
}

impl Oracle {
    /// A command was committed: what it does, done here first.
    pub fn apply(&mut self, entry: &Entry, command: &Command, now_us: u64) -> Check {
        let zxid = ottla_common::types::Zxid(i64::try_from(entry.index).unwrap_or(i64::MAX));
        if let Action::ExpireSessions(_) = command.action {
            let led_us = self.elections.led_us(entry.term, now_us);
            session_life::decided_in_term(entry.index, led_us)?;
        }
        let session = self.reference.sessions().get(command.session_id);
        let newest = session.map(|session| session.connection_epoch);
        let (outcome, changes) = self.reference.apply(zxid, entry.time_ms, command);
        let is_write = matches!(command.action, Action::Write(_) | Action::Multi(_));
        if let Some(newest) = newest.filter(|_| is_write && outcome.is_ok()) {
            SessionOrder::done(command.session_id, command.connection_epoch, newest)?;
        }
        for change in &changes {
            self.note(zxid.0, change)?;
        }
        if changes.iter().any(|change| PAIR.contains(&&*change.path)) {
            let node = |path| self.reference.tree().node(path);
            let data = PAIR.map(|path| node(path).map(|node| node.data().to_vec()));
            let both = [data[0].as_deref(), data[1].as_deref()];
            multi_atomicity::check("the state", zxid.0, both)?;
        }
        if let Ok(Effect::SessionsEnded(sessions)) = &outcome {
            let expired = matches!(command.action, Action::ExpireSessions(_));
            self.life.ended(sessions, &self.reference, (now_us, expired))?;
        }
        self.digests.state(0, zxid.0, self.reference.digest(), "the reference")
    }

    fn note(&mut self, zxid: i64, change: &Change) -> Check {
        let mzxid = match change.kind {
            ChangeKind::Created | ChangeKind::DataSet => Some(change.stat.mzxid.0),
            ChangeKind::Deleted => None,
            ChangeKind::AclSet => return Ok(()),
        };
        self.changes.changed(&change.path, zxid, mzxid);
        if change.kind == ChangeKind::Created {
            if change.path.contains("/n-") {
                self.sequences.made(&change.path)?;
            }
            if change.stat.ephemeral_owner.0 > 0 {
                self.life.made(&change.path, change.stat.ephemeral_owner, &self.reference)?;
            }
        }
        Ok(())
    }

    /// At the end: what each member shows, for the history.
    pub fn shown(&mut self, member: Id, machine: &StateMachine) {
        let mut paths = Vec::new();
        let mut numbers = Vec::new();
        for (path, node) in machine.tree().walk("/") {
            if path.starts_with("/e/") {
                paths.push(path);
            } else if path.starts_with("/s/")
                && let Some(number) = path.get(path.len().saturating_sub(10)..)
            {
                numbers.extend(number.parse::<u64>().ok());
            }
            let _ = node;
        }
        self.add(format!("member {member}"), What::Ephemerals { paths });
        self.add("/s".to_owned(), What::Numbers { numbers });
    }

    /// At the end: which sessions live, for the history.
    pub fn tell_fates(&mut self) {
        for (session, lives) in std::mem::take(&mut self.fates) {
            self.add(session.to_string(), What::Session { session, lives });
        }
    }

    fn add(&mut self, key: String, what: What) {
        let (process, start_ns, end_ns) = (0, u64::MAX, u64::MAX);
        let outcome = crate::history::Outcome::Ok;
        self.history.push(Record { process, key, what, start_ns, end_ns, outcome });
    }
}
