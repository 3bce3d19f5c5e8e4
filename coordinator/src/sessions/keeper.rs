//! The sessions' deadlines as a member keeps them while it leads. Shared by who hears from sessions
//! (the consensus, for all members), who applies commands, and who expires.
//!
//! Deadlines are in force in one term: from when this member has applied the first entry of the
//! term that it leads (then it knows all sessions that there are, and all begin with their whole
//! timeout) until it leads no more. What it decides is proposed for that term alone, so that a
//! decision never outlives the deadlines that it came from.

use ottla_common::types::SessionId;
use parking_lot::Mutex;

use super::expiry::Deadlines;
use crate::tree::{Action, Effect, Expiry, StateMachine};

/// A session's connection, by its number in the session.
pub type SessionConnection = (SessionId, u64);

/// The deadlines of all sessions, while this member leads. Times are milliseconds of its monotonic
/// clock.
#[derive(Debug)]
pub struct Keeper {
    state: Mutex<State>,
    disconnect_grace_ms: u64,
}

#[derive(Debug)]
struct State {
    deadlines: Deadlines,
    /// The term in which the deadlines are in force.
    term: Option<u64>,
    /// In this term and those before it they never will be (again).
    ended_term: u64,
}

impl Keeper {
    /// Nothing is in force yet. Deadlines are exact to a tick.
    pub fn new(tick_ms: u64, disconnect_grace_ms: u32) -> Self {
        let deadlines = Deadlines::new(tick_ms);
        let state = Mutex::new(State { deadlines, term: None, ended_term: 0 });
        Self { state, disconnect_grace_ms: u64::from(disconnect_grace_ms) }
    }

    /// How long a native session has to come back after its connection broke, in milliseconds.
    pub fn disconnect_grace_ms(&self) -> u64 {
        self.disconnect_grace_ms
    }

    /// This member leads in a term, and `machine` holds all that was committed before. All sessions
    /// begin anew. Nothing if it leads in that term no more.
    pub fn lead(&self, term: u64, machine: &StateMachine, now_ms: u64) {
        let mut state = self.state.lock();
        if term <= state.ended_term {
            return;
        }
        state.term = Some(term);
        state.begin_all(machine, now_ms);
    }

    /// This member leads no more, at the latest since the end of `term`.
    pub fn step_down(&self, term: u64) {
        let mut state = self.state.lock();
        state.ended_term = state.ended_term.max(term);
        if state.term.is_some_and(|leading| leading <= term) {
            state.term = None;
            state.deadlines.clear();
        }
    }

    /// The member stood still, so that nobody could be heard: all sessions begin anew.
    pub fn forgive(&self, machine: &StateMachine, now_ms: u64) {
        let mut state = self.state.lock();
        if state.term.is_some() {
            state.begin_all(machine, now_ms);
        }
    }

    /// A command was applied. To be told of each, in order, right after it was.
    pub fn applied(&self, action: &Action, effect: &Effect, now_ms: u64) {
        match (action, effect) {
            (_, Effect::SessionGranted { session_id, session_timeout_ms, connection_epoch }) => {
                let mut state = self.state.lock();
                if state.term.is_some() {
                    let connection = (*session_id, *connection_epoch);
                    state.deadlines.begin(connection, *session_timeout_ms, now_ms);
                }
            }
            (Action::CloseSession, Effect::SessionsEnded(session_ids)) => {
                let mut state = self.state.lock();
                for session_id in session_ids {
                    state.deadlines.end(*session_id);
                }
            }
            _ => {}
        }
    }

    /// Sessions were heard from. Returns those whose time was over already: nobody may be told that
    /// they live. None if deadlines are not in force: then that holds for all.
    pub fn touch(&self, session_ids: &[SessionId], now_ms: u64) -> Option<Vec<SessionId>> {
        let mut state = self.state.lock();
        state.term?;
        let mut refused = session_ids.to_vec();
        refused.retain(|session_id| !state.deadlines.touch(*session_id, now_ms));
        Some(refused)
    }

    /// Clients left these connections: if they are still their sessions' newest, the sessions have
    /// only the grace to come back.
    pub fn disconnected(&self, connections: &[SessionConnection], now_ms: u64) {
        let mut state = self.state.lock();
        for connection in connections {
            state.deadlines.disconnected(*connection, self.disconnect_grace_ms, now_ms);
        }
    }

    /// Whether deadlines are in force here.
    pub fn is_in_force(&self) -> bool {
        self.state.lock().term.is_some()
    }

    /// Takes out at most `most` sessions whose time is over, with the term in which that was
    /// decided.
    pub fn take_due(&self, now_ms: u64, most: usize) -> Option<(u64, Vec<Expiry>)> {
        let mut state = self.state.lock();
        let term = state.term?;
        let due = state.deadlines.take_due(now_ms, most);
        (!due.is_empty()).then_some((term, due))
    }

    /// These were taken out, and what was decided could not be proposed: they are tried again after
    /// a while, unless they are heard from.
    pub fn put_back(&self, due: &[Expiry], machine: &StateMachine, (now_ms, in_ms): (u64, u64)) {
        let mut state = self.state.lock();
        if state.term.is_none() {
            return;
        }
        for expiry in due {
            let session = machine.sessions().get(expiry.session_id);
            let session = session.filter(|one| one.connection_epoch == expiry.connection_epoch);
            if let Some(session) = session {
                let connection = (expiry.session_id, expiry.connection_epoch);
                state.deadlines.begin(connection, session.session_timeout_ms, now_ms);
                state.deadlines.disconnected(connection, in_ms, now_ms);
            }
        }
    }
}

impl State {
    fn begin_all(&mut self, machine: &StateMachine, now_ms: u64) {
        self.deadlines.clear();
        for (session_id, session) in machine.sessions().iter() {
            let connection = (session_id, session.connection_epoch);
            self.deadlines.begin(connection, session.session_timeout_ms, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_common::types::Zxid;

    use super::*;
    use crate::tree::Command;

    fn open(machine: &mut StateMachine, keeper: &Keeper, now_ms: u64) -> SessionId {
        let action = Action::CreateSession { password: Vec::new(), session_timeout_ms: 1_000 };
        let zxid = Zxid(machine.zxid().0 + 1);
        let outcome = machine.apply(zxid, 0, &Command::by_ensemble(action.clone())).0;
        keeper.applied(&action, &outcome.unwrap(), now_ms);
        SessionId(zxid.0)
    }

    #[test]
    fn deadlines_are_in_force_in_one_term_only() {
        let (keeper, mut machine) = (Keeper::new(1, 500), StateMachine::new());
        let a = open(&mut machine, &keeper, 0);
        assert_eq!(keeper.touch(&[a], 0), None, "nobody leads");
        assert_eq!(keeper.take_due(10_000, 10), None);
        keeper.lead(3, &machine, 10_000);
        let b = open(&mut machine, &keeper, 10_500);
        assert_eq!(keeper.touch(&[a, b], 10_600), Some(vec![]));
        keeper.disconnected(&[(b, 0)], 10_600);
        let due = |id| vec![Expiry { session_id: id, connection_epoch: 0 }];
        assert_eq!(keeper.take_due(11_100, 10), Some((3, due(b))));
        assert_eq!(
            keeper.touch(&[a, b], 11_100),
            Some(vec![b]),
            "what is decided is not taken back"
        );
        keeper.step_down(3);
        assert_eq!(keeper.take_due(99_000, 10), None);
        keeper.lead(3, &machine, 99_000);
        assert!(!keeper.is_in_force(), "told late of a term that is over");
        keeper.lead(5, &machine, 99_000);
        assert_eq!(keeper.take_due(100_000, 10).unwrap().1.len(), 2);
        keeper.put_back(&due(a), &machine, (100_000, 50));
        assert_eq!(keeper.take_due(100_050, 10), Some((5, due(a))));
    }
}
