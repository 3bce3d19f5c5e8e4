//! The tree and the sessions as one deterministic machine.

use ottla_common::coordination::protocol::{CoordinationError, Op};
use ottla_common::types::{SessionId, Zxid};

use super::{Action, Change, Command, Effect, Expiry, Outcome, Session, SessionTable, Tree, Turn};
use crate::seeded_bugs::{self, MemberBug};

/// The replicated state. A clone costs a few reference counts whatever the state's size (all of it
/// lies in persistent structures): to write a snapshot, clone it on the apply task and write the
/// clone's [`StateMachine::snapshot_records`] elsewhere, while commands go on being applied to the
/// original.
#[derive(Clone, Debug, Default)]
pub struct StateMachine {
    pub(super) zxid: Zxid,
    pub(super) tree: Tree,
    pub(super) sessions: SessionTable,
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

    /// The nodes.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The sessions.
    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    /// The digest over tree and sessions: equal on all members at the same zxid.
    pub fn digest(&self) -> u64 {
        self.tree.digest().wrapping_add(self.sessions.digest())
    }

    /// Applies the command that stands at `zxid` in the log. `time_ms` is the wall time that the
    /// log holds for it. Every command takes its zxid, also one that fails or changes nothing.
    pub fn apply(&mut self, zxid: Zxid, time_ms: i64, command: &Command) -> (Outcome, Vec<Change>) {
        assert!(zxid > self.zxid, "zxid {zxid} applied after {}", self.zxid);
        self.zxid = zxid;
        let mut turn = Turn {
            zxid,
            time_ms,
            session_id: command.session_id,
            identities: &command.identities,
            enforces_quota: command.enforces_quota,
            changes: Vec::new(),
        };
        let outcome = self.decide(&mut turn, command);
        (outcome, turn.changes)
    }

    fn decide(&mut self, turn: &mut Turn<'_>, command: &Command) -> Outcome {
        match &command.action {
            Action::Nothing => Ok(Effect::Nothing),
            Action::CreateSession { password, session_timeout_ms } => {
                let session = Session {
                    password: password.as_slice().into(),
                    session_timeout_ms: *session_timeout_ms,
                    connection_epoch: 0,
                    created_ms: turn.time_ms,
                };
                let session_id = SessionId(turn.zxid.0);
                let granted = granted(session_id, &session);
                self.sessions.insert(session_id, session);
                Ok(granted)
            }
            Action::ResumeSession { password } => {
                let session = self.sessions.resume(command.session_id, password)?;
                Ok(granted(command.session_id, session))
            }
            Action::ExpireSessions(due) => {
                let still_due = due.iter().filter(|expiry| self.is_due(**expiry));
                let session_ids: Vec<_> = still_due.map(|expiry| expiry.session_id).collect();
                Ok(self.end_sessions(turn, &session_ids))
            }
            Action::SetConfig(config) => {
                self.tree.set_config(turn, config);
                Ok(Effect::Nothing)
            }
            Action::RemoveIdle(paths) => {
                let removed = paths.iter().filter(|path| self.tree.remove_if_idle(turn, path));
                Ok(Effect::IdleRemoved(removed.count()))
            }
            Action::CloseSession => {
                self.check_connection(command)?;
                Ok(self.end_sessions(turn, &[command.session_id]))
            }
            Action::Write(op) => {
                self.check_connection(command)?;
                check_owner(command.session_id, op)?;
                self.tree.apply(turn, op).map(Effect::Written)
            }
            Action::Multi(ops) => {
                self.check_connection(command)?;
                ops.iter().try_for_each(|op| check_owner(command.session_id, op))?;
                self.tree.apply_multi(turn, ops).map(Effect::Multi)
            }
        }
    }

    /// Whether the session is alive, and the command comes from its newest connection.
    fn check_connection(&self, command: &Command) -> Result<(), CoordinationError> {
        if command.session_id == Command::ENSEMBLE {
            return Ok(());
        }
        match self.sessions.get(command.session_id) {
            None => Err(CoordinationError::SessionExpired),
            Some(session)
                if session.connection_epoch != command.connection_epoch
                    && !seeded_bugs::has(MemberBug::ResumeWithoutFence) =>
            {
                Err(CoordinationError::SessionMoved)
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether a session that was not heard from was not resumed meanwhile either.
    fn is_due(&self, expiry: Expiry) -> bool {
        let session = self.sessions.get(expiry.session_id);
        session.is_some_and(|session| session.connection_epoch == expiry.connection_epoch)
    }

    fn end_sessions(&mut self, turn: &mut Turn<'_>, session_ids: &[SessionId]) -> Effect {
        let mut ended = Vec::new();
        for session_id in session_ids {
            if self.sessions.remove(*session_id) {
                if !seeded_bugs::has(MemberBug::EphemeralsOutliveSession) {
                    self.tree.remove_ephemerals(turn, *session_id);
                }
                ended.push(*session_id);
            }
        }
        Effect::SessionsEnded(ended)
    }
}

fn granted(session_id: SessionId, session: &Session) -> Effect {
    Effect::SessionGranted {
        session_id,
        session_timeout_ms: session.session_timeout_ms,
        connection_epoch: session.connection_epoch,
    }
}

/// Ephemeral nodes need a session to go with.
fn check_owner(session_id: SessionId, op: &Op) -> Result<(), CoordinationError> {
    use ottla_common::coordination::protocol::CreateMode::{Ephemeral, EphemeralSequential};
    match op {
        Op::Create { mode: Ephemeral | EphemeralSequential, .. }
        | Op::CreateWithoutData { mode: Ephemeral | EphemeralSequential, .. }
            if session_id == Command::ENSEMBLE =>
        {
            let reason = "an ephemeral node needs a session".to_owned();
            Err(CoordinationError::BadArguments { reason })
        }
        _ => Ok(()),
    }
}
