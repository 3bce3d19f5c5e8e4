//! A member of the ensemble without clock, threads, disk or network: the raft core, with what waits
//! on it here. Proposals, read barriers and word of sessions go to whoever leads (`node/`), and
//! raft's demands become [`Effect`]s.
//!
//! Who runs it (the driver; the simulator has its own) has these duties:
//! 1. [`Node::handle`] whatever happens, with the time; [`Input::Tick`] every
//!    [`NodeConfig::tick_ms`]. After that, carry out all [`Node::effects`] in their order.
//! 2. [`Effect::Persist`]: append to the log and replace the hard state, both durably, in the order
//!    of the effects, on whatever thread; then [`Input::Persisted`]. If that fails, stop for good.
//! 3. [`Effect::Apply`], [`Effect::Lead`] and [`Effect::Install`]: in the order of the effects, on
//!    one thread; [`Input::Applied`] after entries. Who proposed them is answered.
//! 4. [`Effect::Send`]: to the member, authenticated; what comes is an [`Input::Peer`]. Loss,
//!    doubling and disorder are borne.
//! 5. Snapshots as the effects and inputs that name them say.

mod barriers;
mod outcome;
mod peer;
mod proposals;
mod snapshots;
mod touches;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_common::types::{MemberId, SessionId};

use self::barriers::Barriers;
pub use self::proposals::{Failure, Proposed};
use self::proposals::{ForwardedProposals, OwnProposals};
use self::touches::Touches;
use super::Leadership;
use super::messages::{Order, OrderRefused, PeerMessage};
use super::raft::{
    ChunkReceived, ChunkWanted, Entry, HardState, Membership, Raft, RaftConfig, RaftStatus,
    Restored, RoleChange, SnapshotMeta,
};
use crate::sessions::keeper::{Keeper, SessionConnection};

/// How a member behaves.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The core's.
    pub raft: RaftConfig,
    /// Tells this process from others of the member: random, below 2^62.
    pub run: u64,
    /// How often time is to be told, in milliseconds.
    pub tick_ms: u64,
    /// How long a proposal or a read waits for a leader, in milliseconds.
    pub patience_ms: u64,
    /// How often a follower tells which sessions it heard from, in milliseconds.
    pub touch_interval_ms: u64,
    /// After what time without an answer something is sent to the leader again, in milliseconds.
    pub retry_ms: u64,
}

impl NodeConfig {
    /// The defaults.
    pub fn new(raft: RaftConfig, run: u64) -> Self {
        Self { raft, run, tick_ms: 20, patience_ms: 5_000, touch_interval_ms: 50, retry_ms: 200 }
    }
}

/// The time by a member's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Of the monotonic clock.
    pub monotonic_ms: u64,
    /// Of the wall clock.
    pub wall_time_ms: i64,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Commands are proposed here, in the order of their numbers.
    Propose(Vec<Proposed>),
    /// Someone asks up to where this member must apply to have all that was acknowledged; for each
    /// id there will be an [`Effect::BarrierDone`].
    Barriers(Vec<u64>),
    /// Sessions were heard from here, and clients left.
    Touch {
        /// These sessions.
        sessions: Vec<SessionId>,
        /// These connections.
        disconnected: Vec<SessionConnection>,
    },
    /// Clients want to hear that their sessions live: for each id there will be an
    /// [`Effect::Confirmed`].
    Confirm(Vec<(u64, SessionId)>),
    /// Something that only a leader can do; there will be an [`Effect::OrderDone`].
    Order(u64, Order),
    /// A member said something.
    Peer(MemberId, PeerMessage),
    /// Members can be reached (again): what was sent before may be lost.
    PeerUp(MemberId),
    /// A member cannot be reached.
    PeerDown(MemberId),
    /// This [`Effect::Persist`] and all before it are durable.
    Persisted(u64),
    /// All up to this entry is applied.
    Applied(u64),
    /// A snapshot of this member's is durable.
    SnapshotTaken(SnapshotMeta),
    /// The answer to [`Effect::SnapshotWanted`]: this one, of so many bytes.
    SnapshotOffered(MemberId, SnapshotMeta, u64),
    /// Or: there is none, or it cannot be read.
    SnapshotUnavailable(MemberId),
    /// The answer to [`Effect::ReadChunk`].
    ChunkRead(ChunkWanted, Bytes),
    /// The answer to [`Effect::ReceiveChunk`] with the last piece: the state and the log are the
    /// snapshot's now.
    SnapshotInstalled(SnapshotMeta),
    /// Or: what was received cannot be used.
    SnapshotFailed(u64),
}

/// Something to be done.
#[derive(Debug)]
pub enum Effect {
    /// Make durable.
    Persist(Persist),
    /// Send.
    Send(MemberId, PeerMessage),
    /// Apply, in this order.
    Apply(Vec<Entry>),
    /// From here on (behind what was applied before) this member keeps the sessions' deadlines.
    Lead {
        /// In this term.
        term: u64,
    },
    /// A proposal of this member has failed.
    Failed(u64, Failure),
    /// Who waits goes on when this member has applied up to there; none if nobody could tell.
    BarrierDone(u64, Option<u64>),
    /// The session lives, by its leader's lease; or nobody can say so.
    Confirmed(u64, bool),
    /// What became of an order.
    OrderDone(u64, Result<u64, OrderRefused>),
    /// The member needs a snapshot of an entry not below an index. Find one or take one.
    SnapshotWanted {
        /// Who.
        to: MemberId,
        /// Not below.
        index_min: u64,
    },
    /// Read a piece of a snapshot.
    ReadChunk(ChunkWanted),
    /// Write a piece of a snapshot aside; if it is the last, check the whole, let the log begin
    /// anew behind it, and the state be its state.
    ReceiveChunk(ChunkReceived),
    /// The members are these now.
    Members(Membership),
    /// Who leads has changed.
    Role(RoleChange),
}

/// What is to be made durable.
#[derive(Debug)]
pub struct Persist {
    /// Comes back with [`Input::Persisted`].
    pub number: u64,
    /// Replaces the hard state.
    pub hard_state: Option<HardState>,
    /// Appended to the log, which is cut before the first of them if it reaches further.
    pub entries: Vec<Entry>,
}

/// A member.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    raft: Raft,
    keeper: Arc<Keeper>,
    term: u64,
    leader_id: Option<MemberId>,
    /// An entry of the term that this member leads in was committed.
    is_established: bool,
    own: OwnProposals,
    forwarded: ForwardedProposals,
    touches: Touches,
    barriers: Barriers,
    /// Read requests of other members, by their ids in raft.
    asked: BTreeMap<u64, (MemberId, u64)>,
    next_read: u64,
    /// The newest entry that was given out to be made durable.
    last_index: u64,
    /// Orders that were sent to the leader, and when.
    orders: BTreeMap<u64, u64>,
    /// Messages that wait until a number is durable.
    to_send: BTreeMap<u64, Vec<(MemberId, PeerMessage)>>,
    /// What is being made durable, and since when.
    under_way: BTreeMap<u64, u64>,
    is_installing: bool,
    membership: Membership,
    effects: Vec<Effect>,
}

impl Node {
    /// A member as its disk left it.
    pub fn new(config: NodeConfig, restored: Restored, keeper: Arc<Keeper>, now: Now) -> Self {
        let (run, retry_ms, patience_ms) = (config.run, config.retry_ms, config.patience_ms);
        let member_id = config.raft.member_id;
        let term = restored.hard_state.term;
        let raft = Raft::new(config.raft.clone(), restored, now.monotonic_ms);
        let status = raft.status();
        let membership = status.membership;
        Self {
            raft,
            keeper,
            term,
            leader_id: None,
            is_established: false,
            own: OwnProposals::new((member_id, run), patience_ms, retry_ms),
            forwarded: ForwardedProposals::default(),
            touches: Touches::new(run, config.touch_interval_ms, retry_ms, patience_ms),
            barriers: Barriers::new(run, retry_ms, patience_ms),
            asked: BTreeMap::new(),
            // Apart from the numbers of this member's own questions.
            next_read: run | (1 << 63),
            last_index: status.last_index,
            orders: BTreeMap::new(),
            to_send: BTreeMap::new(),
            under_way: BTreeMap::new(),
            is_installing: false,
            effects: vec![Effect::Members(membership.clone())],
            membership,
            config,
        }
    }

    /// The core's figures.
    pub fn status(&self) -> RaftStatus {
        self.raft.status()
    }

    /// Whom a new ensemble waits for before it begins.
    pub fn awaited(&self) -> Vec<MemberId> {
        self.raft.awaited()
    }

    /// This member.
    pub fn member_id(&self) -> MemberId {
        self.config.raft.member_id
    }

    /// The members, as far as this member's log knows them.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Who leads, as far as this member knows.
    pub fn leadership(&self) -> Leadership {
        Leadership { term: self.term, leader_id: self.leader_id }
    }

    /// The term, if this member leads.
    pub fn leads(&self) -> Option<u64> {
        (self.leader_id == Some(self.member_id())).then_some(self.term)
    }

    /// Whether nobody else can lead at this moment.
    pub fn holds_lease(&self, now: Now) -> bool {
        self.raft.holds_lease(now.monotonic_ms)
    }

    /// Takes note of something. What follows from it comes with the next [`Node::effects`].
    pub fn handle(&mut self, input: Input, now: Now) {
        let now_ms = now.monotonic_ms;
        match input {
            Input::Tick => self.tick(now_ms),
            Input::Propose(proposed) => self.own.add(proposed, now_ms),
            Input::Barriers(ids) => self.barriers.add(ids, now_ms),
            Input::Touch { sessions, disconnected } => self.touches.add(sessions, disconnected),
            Input::Confirm(confirms) => self.touches.confirm(confirms, now_ms),
            Input::Order(id, order) => self.order(id, order, now_ms),
            Input::Peer(from, message) => self.peer(from, message, now),
            Input::PeerUp(peer) => self.peer_up(peer, now_ms),
            Input::PeerDown(peer) => self.raft.peer_unreachable(peer),
            Input::Persisted(number) => self.persisted(number, now_ms),
            Input::Applied(index) => self.raft.applied(index),
            snapshot => self.handle_snapshot(snapshot, now_ms),
        }
    }

    /// What is to be done now.
    pub fn effects(&mut self, now: Now) -> Vec<Effect> {
        loop {
            self.append_and_forward(now);
            self.tell_and_ask(now.monotonic_ms);
            let Some(ready) = self.raft.ready(now.monotonic_ms) else { break };
            self.carry_out(ready, now.monotonic_ms);
        }
        let failed = self.own.take_failed().into_iter();
        self.effects.extend(failed.map(|(number, failure)| Effect::Failed(number, failure)));
        let done = self.barriers.take_done().into_iter();
        self.effects.extend(done.map(|(id, index)| Effect::BarrierDone(id, index)));
        let done = self.touches.take_done().into_iter();
        self.effects.extend(done.map(|(id, lives)| Effect::Confirmed(id, lives)));
        std::mem::take(&mut self.effects)
    }

    fn tick(&mut self, now_ms: u64) {
        self.raft.tick(now_ms);
        let election_timeout_ms = self.config.raft.election_timeout_ms;
        let oldest = self.under_way.first_key_value().map(|(_, since_ms)| *since_ms);
        if self.leads().is_some() && oldest.is_some_and(|at| now_ms > at + election_timeout_ms) {
            self.raft.disk_stalled(now_ms);
        }
        self.own.expire(now_ms);
        self.touches.expire(now_ms);
        self.barriers.expire(now_ms);
        self.expire_orders(now_ms);
        if let Some(leader_id) = self.other_leader() {
            let again = self.own.take_to_forward_again(self.term, now_ms, false);
            self.send_all(leader_id, again);
        }
    }

    fn peer_up(&mut self, peer: MemberId, now_ms: u64) {
        if self.other_leader() == Some(peer) {
            let again = self.own.take_to_forward_again(self.term, now_ms, true);
            self.send_all(peer, again);
            self.touches.recall();
            self.barriers.recall();
        }
    }

    fn persisted(&mut self, number: u64, now_ms: u64) {
        let later = self.under_way.split_off(&(number + 1));
        self.under_way = later;
        self.raft.persisted(number, now_ms);
        let later = self.to_send.split_off(&(number + 1));
        for (_, messages) in std::mem::replace(&mut self.to_send, later) {
            self.effects
                .extend(messages.into_iter().map(|(to, message)| Effect::Send(to, message)));
        }
    }

    /// Whoever else leads, if it is known.
    fn other_leader(&self) -> Option<MemberId> {
        self.leader_id.filter(|leader_id| *leader_id != self.member_id())
    }

    fn send(&mut self, to: MemberId, message: PeerMessage) {
        self.effects.push(Effect::Send(to, message));
    }

    fn send_all(&mut self, to: MemberId, messages: Vec<PeerMessage>) {
        self.effects.extend(messages.into_iter().map(|message| Effect::Send(to, message)));
    }
}
