//! Sessions end by a committed command, all their ephemeral nodes with them (Z7); not while their
//! client holds a lease (Z8); and for good (Z9).

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::types::SessionId;
use ottla_coordinator::tree::StateMachine;

use super::{Check, violation};

const NAME: &str = "session_life";

/// What is known of sessions.
#[derive(Debug, Default)]
pub struct SessionLife {
    /// Until when a session was promised to live, in microseconds of the world.
    leases: BTreeMap<i64, u64>,
    /// Sessions that ended, and at which zxid.
    ended: BTreeMap<i64, i64>,
    /// Sessions that their client wants to end.
    given_up: BTreeSet<i64>,
}

impl SessionLife {
    /// A client was told that its session lives until a time.
    pub fn promised(&mut self, session: SessionId, until_us: u64) {
        let lease = self.leases.entry(session.0).or_default();
        *lease = (*lease).max(until_us);
    }

    /// The client relies on its session only until then.
    pub fn shorten(&mut self, session: SessionId, until_us: u64) {
        if let Some(lease) = self.leases.get_mut(&session.0) {
            *lease = (*lease).min(until_us);
        }
    }

    /// The client closes the session, or leaves it.
    pub fn given_up(&mut self, session: SessionId) {
        self.given_up.insert(session.0);
    }

    /// A client was told that its session lives (at `now_us`), by whatever reply.
    pub fn lives(&self, session: SessionId, zxid: i64) -> Check {
        match self.ended.get(&session.0) {
            Some(ended) if zxid >= *ended => {
                let what = format!("session {session} ended at zxid {ended} and goes on at {zxid}");
                Err(violation(NAME, what))
            }
            _ => Ok(()),
        }
    }

    /// Sessions ended for want of a word, at a time, or because they were closed.
    pub fn ended(
        &mut self,
        sessions: &[SessionId],
        machine: &StateMachine,
        (now_us, expired): (u64, bool),
    ) -> Check {
        for session in sessions {
            if let Some(path) = machine.tree().ephemerals_of(*session).next() {
                let what = format!("session {session} ended and left {path} behind");
                return Err(violation(NAME, what));
            }
            self.ended.insert(session.0, machine.zxid().0);
            let lease = self.leases.get(&session.0).copied().unwrap_or_default();
            if expired && now_us < lease && !self.given_up.contains(&session.0) {
                let left_ms = (lease - now_us) / 1000;
                let what =
                    format!("session {session} expired {left_ms} ms before what it was promised");
                return Err(violation(NAME, what));
            }
        }
        Ok(())
    }

    /// A node that goes with a session was made.
    pub fn made(&self, path: &str, owner: SessionId, machine: &StateMachine) -> Check {
        if machine.sessions().get(owner).is_some() {
            return Ok(());
        }
        Err(violation(NAME, format!("{path} was made for session {owner}, which does not live")))
    }

    /// Whether a session ended.
    pub fn has_ended(&self, session: SessionId) -> bool {
        self.ended.contains_key(&session.0)
    }
}

/// The shortest time, in microseconds, in which a session can be over that begins anew with a new
/// leader: less than the grace of a client that left, and than all timeouts.
const SHORTEST_US: u64 = 400_000;

/// Entry `index` ends sessions whose time is over. Its leader has led for so long, in microseconds;
/// what an earlier one thought does not count.
pub fn decided_in_term(index: u64, led_us: u64) -> Check {
    if led_us >= SHORTEST_US {
        return Ok(());
    }
    let what = format!(
        "entry {index} ends sessions {} ms after its leader was elected, which gave them their \
         whole time",
        led_us / 1_000
    );
    Err(violation(NAME, what))
}

/// No member holds an ephemeral node of a session that it does not hold.
pub fn no_orphans(member: u64, machine: &StateMachine) -> Check {
    for (path, node) in machine.tree().walk("/") {
        let owner = node.stat().ephemeral_owner;
        if owner.0 > 0 && machine.sessions().get(owner).is_none() {
            let what = format!("member {member} holds {path} of session {owner}, which ended");
            return Err(violation(NAME, what));
        }
    }
    Ok(())
}
