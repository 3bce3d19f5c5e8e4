//! The state machine as the member's parts share it: the log's apply task changes it, requests read
//! it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ottla_common::coordination::protocol::admin::StateDigest;
use ottla_common::coordination::protocol::{ChangeKind, CoordinationError, WatchEvent, permission};
use ottla_common::types::{SessionId, Zxid};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::digest_trail::DigestTrail;
use super::history::{Committed, History};
use super::outbox::{Closed, Outbox, Outgoing};
use super::table::{ConnectionId, WatchKind, WatchTable};
use crate::limits::{HISTORY_COMMANDS_MAX, HISTORY_SIZE_MAX, WATCHES_PER_CONNECTION_MAX};
use crate::tree::{
    Action, Change, Command, Effect, Excess, Identity, Outcome, StateMachine, Tree, acl,
};

/// How often exceeded quotas are logged.
const QUOTA_TOLD_EVERY_MS: i64 = 10_000;

/// The state that is applied on this member, with those who wait for its changes. One task applies
/// (the consensus' apply task); anyone reads.
#[derive(Debug)]
pub struct LiveState {
    /// Locked before `audience` where both are.
    state: RwLock<State>,
    audience: Mutex<Audience>,
    applied: watch::Sender<Zxid>,
}

#[derive(Debug)]
struct State {
    machine: StateMachine,
    history: History,
    /// When a quota was last told to be exceeded, by the log's time.
    quota_told_ms: i64,
    digests: DigestTrail,
}

/// The connections of this member.
#[derive(Debug, Default)]
struct Audience {
    watches: WatchTable,
    connections: HashMap<ConnectionId, Connection>,
    by_session: HashMap<SessionId, BTreeSet<ConnectionId>>,
    connections_ever: u64,
}

#[derive(Debug)]
struct Connection {
    session_id: SessionId,
    connection_epoch: u64,
    kind: ConnectionKind,
    identities: Arc<[Identity]>,
    outbox: Outbox,
}

/// What a connection's client relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// It knows by the answers to its pings whether its session lives.
    Native,
    /// It takes its session for alive while this member serves it.
    ZooKeeper,
    /// As long as there is no leader it only reads; it may have no session.
    ReadOnly,
}

/// How many watches there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Connections that have a watch.
    pub connections: usize,
    /// Nodes that are watched.
    pub paths: usize,
    /// All watches.
    pub watches: usize,
}

/// A connection that wants to hear of changes.
#[derive(Debug)]
pub struct Newcomer {
    /// The session that it speaks for.
    pub session_id: SessionId,
    /// Which of the session's connections it is.
    pub connection_epoch: u64,
    /// What its client relies on.
    pub kind: ConnectionKind,
    /// The identities that it has proved.
    pub identities: Arc<[Identity]>,
    /// Where events go.
    pub outbox: Outbox,
}

/// The state while nothing is applied: what is put into an outbox while this is held comes before
/// the events of all later changes. Not to be held for long.
#[derive(Debug)]
pub struct View<'a> {
    state: RwLockReadGuard<'a, State>,
    audience: &'a Mutex<Audience>,
}

impl Default for LiveState {
    fn default() -> Self {
        Self::new(StateMachine::new())
    }
}

impl LiveState {
    /// Shares a state, as it was loaded from a snapshot or new.
    pub fn new(machine: StateMachine) -> Self {
        let zxid = machine.zxid();
        Self {
            state: RwLock::new(State::new(machine)),
            audience: Mutex::default(),
            applied: watch::Sender::new(zxid),
        }
    }

    /// Applies a durable command and tells watches and subscriptions, before anyone can read the
    /// change. To be called in the order of the log, by one task, before the outcome goes to who
    /// proposed the command. Also for the part of the log that is replayed at start.
    pub fn apply(&self, zxid: Zxid, time_ms: i64, command: &Command) -> Outcome {
        let mut state = self.state.write();
        let (outcome, changes) = state.machine.apply(zxid, time_ms, command);
        if state.machine.tree().has_quotas() {
            state.tell_of_quotas(&changes, time_ms);
        }
        let mut audience = self.audience.lock();
        for change in &changes {
            audience.tell(zxid, change);
        }
        if let Ok(effect) = &outcome {
            audience.dismiss(&command.action, effect);
        }
        state.history.push(zxid, changes);
        let digest = state.machine.digest();
        state.digests.push(zxid, digest);
        drop(audience);
        drop(state);
        self.applied.send_replace(zxid);
        outcome
    }

    /// The state as it is now, to be written as a snapshot. Costs nothing to speak of.
    pub fn machine(&self) -> StateMachine {
        self.state.read().machine.clone()
    }

    /// The digests of states that were passed not long ago, the oldest first.
    pub fn digests(&self) -> Vec<StateDigest> {
        self.state.read().digests.get()
    }

    /// The last applied zxid.
    pub fn zxid(&self) -> Zxid {
        *self.applied.borrow()
    }

    /// Tells of each new zxid (not of all: of the newest).
    pub fn progress(&self) -> watch::Receiver<Zxid> {
        self.applied.subscribe()
    }

    /// Replaces the state by a newer one that came as a snapshot. Subscribers are cut off, so that
    /// they start again, and so is everyone with a watch, since what fired it may lie in between.
    pub fn install(&self, machine: StateMachine) {
        let mut state = self.state.write();
        assert!(machine.zxid() >= state.machine.zxid(), "a snapshot older than the state");
        let zxid = machine.zxid();
        *state = State::new(machine);
        for connection in self.audience.lock().connections.values() {
            connection.outbox.close(Closed::Because(CoordinationError::MemberBehind));
        }
        drop(state);
        self.applied.send_replace(zxid);
    }

    /// The state as it is now; nothing is applied while this is held.
    pub fn view(&self) -> View<'_> {
        View { state: self.state.read(), audience: &self.audience }
    }

    /// The changes of at most `most` commands after a zxid; none if some of them were forgotten.
    pub fn changes_after(&self, zxid: Zxid, most: usize) -> Option<Vec<Arc<Committed>>> {
        self.state.read().history.after(zxid, most)
    }

    /// Takes a connection in, if it is still the newest of a session that is alive.
    pub fn connect(&self, newcomer: Newcomer) -> Result<ConnectionId, CoordinationError> {
        let state = self.state.read();
        match state.machine.sessions().get(newcomer.session_id) {
            _ if newcomer.kind == ConnectionKind::ReadOnly => {}
            None => return Err(CoordinationError::SessionExpired),
            Some(session) if session.connection_epoch != newcomer.connection_epoch => {
                return Err(CoordinationError::SessionMoved);
            }
            Some(_) => {}
        }
        let mut audience = self.audience.lock();
        audience.connections_ever += 1;
        let id = ConnectionId(audience.connections_ever);
        let Newcomer { session_id, connection_epoch, kind, identities, outbox } = newcomer;
        audience.by_session.entry(session_id).or_default().insert(id);
        let connection = Connection { session_id, connection_epoch, kind, identities, outbox };
        audience.connections.insert(id, connection);
        Ok(id)
    }

    /// Forgets a connection and its watches. Returns its number in its session if it was the newest
    /// of a session that is still alive.
    pub fn disconnect(&self, id: ConnectionId) -> Option<u64> {
        let state = self.state.read();
        let mut audience = self.audience.lock();
        audience.watches.remove_watcher(id);
        let connection = audience.connections.remove(&id)?;
        let session_id = connection.session_id;
        if let Some(ids) = audience.by_session.get_mut(&session_id) {
            ids.remove(&id);
            if ids.is_empty() {
                audience.by_session.remove(&session_id);
            }
        }
        let session = state.machine.sessions().get(session_id)?;
        let epoch = connection.connection_epoch;
        (session.connection_epoch == epoch).then_some(epoch)
    }

    /// Ends all connections of a kind: their clients are to look for another member.
    pub fn send_away(&self, kind: ConnectionKind) {
        for connection in self.audience.lock().connections.values() {
            if connection.kind == kind {
                connection.outbox.close(Closed::Because(CoordinationError::Unavailable));
            }
        }
    }

    /// Replaces what a connection has proved.
    pub fn set_identities(&self, id: ConnectionId, identities: Arc<[Identity]>) {
        if let Some(connection) = self.audience.lock().connections.get_mut(&id) {
            connection.identities = identities;
        }
    }

    /// Removes a connection's watches on a node; returns how many there were.
    pub fn remove_watches(&self, id: ConnectionId, path: &str, kinds: &[WatchKind]) -> usize {
        self.audience.lock().watches.remove(id, path, kinds)
    }

    /// Whether a connection has a watch of one of these kinds on a node.
    pub fn has_watch(&self, id: ConnectionId, path: &str, kinds: &[WatchKind]) -> bool {
        self.audience.lock().watches.has(id, path, kinds)
    }

    /// The number of watches of all connections.
    pub fn watch_count(&self) -> usize {
        self.audience.lock().watches.len()
    }

    /// How many watches there are, and who has them.
    pub fn watch_counts(&self) -> WatchCounts {
        let audience = self.audience.lock();
        let (connections, paths) = audience.watches.watchers_and_paths();
        WatchCounts { connections, paths, watches: audience.watches.len() }
    }

    /// Which sessions watch which nodes: at most `most` watches.
    pub fn watched(&self, most: usize) -> Vec<(SessionId, Arc<str>)> {
        let audience = self.audience.lock();
        let watches = audience.watches.iter().take(most);
        let with_session = watches.filter_map(|(watcher, path)| {
            let connection = audience.connections.get(&watcher)?;
            Some((connection.session_id, Arc::clone(path)))
        });
        with_session.collect()
    }

    /// The number of connections.
    pub fn connection_count(&self) -> usize {
        self.audience.lock().connections.len()
    }
}

impl View<'_> {
    /// The state.
    pub fn machine(&self) -> &StateMachine {
        &self.state.machine
    }

    /// The nodes.
    pub fn tree(&self) -> &Tree {
        self.state.machine.tree()
    }

    /// The state's place in the order of all changes.
    pub fn zxid(&self) -> Zxid {
        self.state.machine.zxid()
    }

    /// Whether every change after a zxid is still kept.
    pub fn history_reaches(&self, zxid: Zxid) -> bool {
        self.state.history.reaches(zxid)
    }

    /// Leaves a watch, unless the connection has too many.
    pub fn watch(
        &self,
        id: ConnectionId,
        kind: WatchKind,
        path: &str,
    ) -> Result<(), CoordinationError> {
        let mut audience = self.audience.lock();
        if !audience.connections.contains_key(&id) {
            return Ok(()); // It ends: nobody is there to be told.
        }
        if audience.watches.count_of(id) >= WATCHES_PER_CONNECTION_MAX {
            let limit = format!("{WATCHES_PER_CONNECTION_MAX} watches of a connection");
            return Err(CoordinationError::LimitReached { limit });
        }
        audience.watches.add(id, kind, path);
        Ok(())
    }
}

impl State {
    /// Logs the quotas that changes have exceeded, but not at every one of them.
    fn tell_of_quotas(&mut self, changes: &[Change], time_ms: i64) {
        if time_ms < self.quota_told_ms.saturating_add(QUOTA_TOLD_EVERY_MS) {
            return;
        }
        let grown =
            |change: &&Change| matches!(change.kind, ChangeKind::Created | ChangeKind::DataSet);
        for change in changes.iter().filter(grown) {
            for excess in self.machine.tree().exceeded_quotas(&change.path, (0, 0)) {
                let Excess { path, what, actual, limit, .. } = excess;
                tracing::warn!(path, what, actual, limit, "quota exceeded");
                self.quota_told_ms = time_ms;
            }
        }
    }
}

impl Audience {
    /// Puts a change's events into the outboxes of those who watch and may read the node.
    fn tell(&mut self, zxid: Zxid, change: &Change) {
        for firing in self.watches.fire(change) {
            for id in &firing.watchers {
                let Some(connection) = self.connections.get(id) else { continue };
                if acl::allows(&firing.acl, permission::READ, &connection.identities) {
                    let (kind, path) = (firing.kind, firing.path.to_string());
                    connection.outbox.put(Outgoing::Watch(WatchEvent { kind, path, zxid }));
                }
            }
        }
    }

    /// Ends the connections of sessions that ended or moved.
    fn dismiss(&mut self, action: &Action, effect: &Effect) {
        match effect {
            // Who closes its session gets its reply before its connection ends.
            Effect::SessionsEnded(_) if *action == Action::CloseSession => {}
            Effect::SessionsEnded(session_ids) => {
                for session_id in session_ids {
                    self.close(*session_id, u64::MAX, &CoordinationError::SessionExpired);
                }
            }
            Effect::SessionGranted { session_id, connection_epoch, .. } => {
                self.close(*session_id, *connection_epoch, &CoordinationError::SessionMoved);
            }
            _ => {}
        }
    }

    /// Closes a session's connections with epochs below one.
    fn close(&self, session_id: SessionId, below: u64, error: &CoordinationError) {
        for id in self.by_session.get(&session_id).into_iter().flatten() {
            if let Some(connection) = self.connections.get(id)
                && connection.connection_epoch < below
            {
                connection.outbox.close(Closed::Because(error.clone()));
            }
        }
    }
}

impl State {
    fn new(machine: StateMachine) -> Self {
        let zxid = machine.zxid();
        let history = History::new(zxid, HISTORY_COMMANDS_MAX, HISTORY_SIZE_MAX);
        let mut digests = DigestTrail::default();
        digests.push(zxid, machine.digest());
        Self { machine, history, quota_told_ms: 0, digests }
    }
}
