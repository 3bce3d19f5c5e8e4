//! The clients: each holds a session, asks this and that, reconnects elsewhere when it hears
//! nothing, and looks at every answer.
//!
//! A *native* client counts its lease by its pings and loses its watches with a connection; a
//! *ZooKeeper* client sets them again.

mod answers;
mod asking;
mod setup;

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use ottla_common::coordination::protocol::{SessionGrant, SessionRequest};
use ottla_common::types::{SessionId, Zxid};
use ottla_coordinator::requests::Ask;
use ottla_coordinator::watches::{Closed, ConnectionKind, Outgoing};

pub use asking::Asked;

use crate::history::{Entry, Outcome, What};
use crate::invariants::watch_order::Watch;
use crate::oracle::Oracle;
use crate::plan::Plan;

/// What a client sends.
#[derive(Debug)]
pub enum ToMember {
    /// The first message of a connection.
    Hello {
        /// Which session.
        session: SessionRequest,
        /// What the client relies on.
        kind: ConnectionKind,
        /// The highest zxid that the client saw.
        last_zxid_seen: Zxid,
    },
    /// A request.
    Ask(u64, Ask),
    /// The client closes the connection.
    Bye,
}

/// What a member sends.
#[derive(Debug)]
pub enum ToClient {
    /// The answer to the hello.
    Welcome(Result<SessionGrant, ottla_common::coordination::protocol::CoordinationError>),
    /// A reply or an event.
    Out(Outgoing),
    /// The member closes the connection, and says why.
    Closed(Option<Closed>),
}

/// What a client wants done.
#[derive(Debug)]
pub enum Wish {
    /// Begin a connection of this number to this member.
    Connect(u64, u64),
    /// Send on a connection.
    Send(u64, ToMember),
}

/// What a client looks at and touches while it acts.
pub struct Surroundings<'a> {
    /// The time of the world.
    pub now_us: u64,
    /// Judges what the client sees.
    pub oracle: &'a mut Oracle,
    /// The members there are, or may be.
    pub members: &'a [u64],
    /// The frame of the run.
    pub plan: &'a Plan,
    /// What is to be done.
    pub wishes: Vec<Wish>,
}

/// A request without an answer.
#[derive(Debug)]
struct Pending {
    xid: u64,
    asked: Asked,
    start_us: u64,
    /// The newest write that any client had been told of.
    acknowledged: i64,
}

/// The session that a client holds.
#[derive(Clone, Debug)]
struct Session {
    id: SessionId,
    password: Vec<u8>,
    timeout_us: u64,
    grace_us: u64,
    lease_until_us: u64,
}

/// The way to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    None { until_us: u64 },
    Opening { connection: u64, since_us: u64, forged: bool },
    Open { connection: u64 },
}

/// What a client is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits until the nodes are there that all work with.
    Waiting,
    /// Makes them.
    Setup(usize),
    /// Works.
    Working,
    /// Shows that all is well again: so many requests are still to be answered.
    Finishing(usize),
    /// Is done with that.
    Finished,
    /// Went without a word.
    Gone,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: usize,
    /// What it is about.
    pub stage: Stage,
    random: Rng,
    is_native: bool,
    /// It mostly wants to know how things are now, one after the other.
    only_looks: bool,
    session: Option<Session>,
    link: Link,
    last_zxid: i64,
    next_xid: u64,
    next_value: u64,
    pending: VecDeque<Pending>,
    watches: BTreeMap<String, Watch>,
    is_resetting: bool,
    versions: BTreeMap<String, i64>,
    heard_us: u64,
    pinged_us: u64,
    connections: u64,
    /// Requests that were answered.
    pub answered: u64,
}

impl Client {
    /// A client that has no session yet.
    pub fn new(id: usize, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        Self {
            id,
            stage: if id == 0 { Stage::Setup(0) } else { Stage::Waiting },
            is_native: random.bool(),
            only_looks: random.u8(..4) == 0,
            random,
            session: None,
            link: Link::None { until_us: 0 },
            last_zxid: 0,
            next_xid: 1,
            next_value: 1,
            pending: VecDeque::new(),
            watches: BTreeMap::new(),
            is_resetting: false,
            versions: BTreeMap::new(),
            heard_us: 0,
            pinged_us: 0,
            connections: 0,
            answered: 0,
        }
    }

    /// The session that it holds.
    pub fn session_id(&self) -> Option<SessionId> {
        self.session.as_ref().map(|session| session.id)
    }

    /// What it still waits for, for the story.
    pub fn situation(&self) -> String {
        let waits = self.pending.front().map(|pending| &pending.asked);
        format!(
            "client {} {:?} {:?} session {:?}, waits for {waits:?}",
            self.id,
            self.stage,
            self.link,
            self.session_id()
        )
    }

    /// Whether a connection is its current one.
    fn holds(&self, connection: u64) -> bool {
        match self.link {
            Link::None { .. } => false,
            Link::Opening { connection: own, .. } | Link::Open { connection: own } => {
                own == connection
            }
        }
    }

    /// Time for the client to do something. Returns when it wants to be asked again, in
    /// microseconds from now.
    pub fn act(&mut self, around: &mut Surroundings<'_>) -> u64 {
        if matches!(self.stage, Stage::Gone | Stage::Waiting) {
            return 20_000;
        }
        let now_us = around.now_us;
        match self.link {
            Link::None { until_us } if until_us > now_us => return until_us - now_us,
            Link::None { .. } => self.connect(around),
            Link::Opening { since_us, .. } if now_us > since_us + self.patience_us(around) => {
                self.leave(around, true);
            }
            Link::Opening { .. } => {}
            Link::Open { .. } if now_us > self.heard_us + self.patience_us(around) => {
                self.leave(around, true);
            }
            Link::Open { connection } => {
                if now_us > self.pinged_us + self.patience_us(around) / 3 {
                    self.pinged_us = now_us;
                    self.ask(around, connection, Asked::Ping);
                }
                self.go_on(around, connection);
            }
        }
        self.random.u64(1..=around.plan.think_us)
    }

    /// How long the client waits for a word before it goes elsewhere.
    fn patience_us(&self, around: &Surroundings<'_>) -> u64 {
        u64::from(around.plan.session_timeout_ms) * 1_000 * 2 / 3
    }

    fn connect(&mut self, around: &mut Surroundings<'_>) {
        let member = around.members[self.random.usize(..around.members.len())];
        self.connections += 1;
        let connection = self.id as u64 * 1_000_000 + self.connections;
        let mut forged = false;
        let session = match &self.session {
            None => SessionRequest::New { session_timeout_ms: around.plan.session_timeout_ms },
            Some(session) => {
                let (session_id, mut password) = (session.id, session.password.clone());
                forged = self.random.u8(..20) == 0;
                if forged {
                    password.reverse();
                    password.push(1);
                }
                SessionRequest::Resume { session_id, password }
            }
        };
        let last_zxid_seen = Zxid(self.last_zxid);
        self.link = Link::Opening { connection, since_us: around.now_us, forged };
        around.wishes.push(Wish::Connect(connection, member));
        let kind = if self.is_native { ConnectionKind::Native } else { ConnectionKind::ZooKeeper };
        let hello = ToMember::Hello { session, kind, last_zxid_seen };
        around.wishes.push(Wish::Send(connection, hello));
    }

    /// Ends the connection; the client says so, or the member has.
    pub fn leave(&mut self, around: &mut Surroundings<'_>, tells: bool) {
        let (Link::Opening { connection, .. } | Link::Open { connection }) = self.link else {
            return;
        };
        if tells {
            around.wishes.push(Wish::Send(connection, ToMember::Bye));
        }
        let pause_us = self.random.u64(1_000..150_000);
        self.link = Link::None { until_us: around.now_us + pause_us };
        self.is_resetting = false;
        if self.is_native {
            self.watches.clear();
        }
        for pending in std::mem::take(&mut self.pending) {
            self.unanswered(around, pending);
        }
        if let Stage::Setup(_) = self.stage {
            self.stage = Stage::Setup(0);
        }
        if let Stage::Finishing(_) = self.stage {
            self.stage = Stage::Finishing(0);
        }
        let Some(session) = &mut self.session else { return };
        let grace_us = session.grace_us - session.grace_us / 10;
        session.lease_until_us = session.lease_until_us.min(around.now_us + grace_us);
        around.oracle.life.shorten(session.id, session.lease_until_us);
    }

    /// Goes without a word, for good.
    pub fn vanish(&mut self, around: &mut Surroundings<'_>, tells: bool) {
        if self.stage != Stage::Working {
            return;
        }
        self.leave(around, tells);
        self.stage = Stage::Gone;
        self.end_session(around);
    }

    /// The client holds its session no more.
    fn end_session(&mut self, around: &mut Surroundings<'_>) {
        if let Some(session) = self.session.take() {
            around.oracle.life.given_up(session.id);
            around.oracle.fates.insert(session.id.0, false);
        }
        self.watches.clear();
    }

    /// Nobody will ever say what became of a request.
    fn unanswered(&mut self, around: &mut Surroundings<'_>, pending: Pending) {
        let (key, what) = match pending.asked {
            Asked::Set { path, value, expected } => {
                (path, What::Set { value, expected_version: expected, version: 0 })
            }
            Asked::Ephemeral { path } => {
                let Some(session) = self.session_id() else { return };
                (path, What::CreateEphemeral { session: session.0 })
            }
            Asked::Close => return self.end_session(around),
            _ => return,
        };
        self.record(around, (key, what), (pending.start_us, Outcome::Unknown));
    }

    fn record(
        &self,
        around: &mut Surroundings<'_>,
        (key, what): (String, What),
        (start_us, outcome): (u64, Outcome),
    ) {
        let (start_ns, end_ns) = (start_us * 1_000, around.now_us * 1_000);
        let process = self.id as u64;
        around.oracle.history.push(Entry { process, key, what, start_ns, end_ns, outcome });
    }
}
