//! What is written to the log, and what comes of applying it.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use ottla_common::coordination::codec::{CodecError, append_message, decode_message};
use ottla_common::coordination::protocol::{
    Acl, ChangeKind, CoordinationError, Op, OpResult, Stat,
};
use ottla_common::types::{MemberId, SessionId};
use serde::{Deserialize, Serialize};

/// Which proposal a command comes from. It stands before the command in the log, so that the member
/// that proposed it knows its own when it is applied, and can answer who waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The member that proposed.
    pub member_id: MemberId,
    /// The proposal's number there: counted from a random start of each process.
    pub number: u64,
}

impl Origin {
    /// How many bytes it takes.
    pub const SIZE: usize = 16;

    /// The origin that an entry's payload begins with.
    pub fn of_payload(payload: &[u8]) -> Option<Self> {
        let (member_id, rest) = payload.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        let member_id = MemberId(u64::from_le_bytes(*member_id));
        Some(Self { member_id, number: u64::from_le_bytes(*number) })
    }
}

/// One entry of the log: who asks for what. Nothing in it was checked; that happens when it is
/// applied, on every member alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The session that asks. [`Command::ENSEMBLE`] if the ensemble itself does, and for
    /// [`Action::CreateSession`].
    pub session_id: SessionId,
    /// Which of the session's connections asks, counted from 0. One that is not the newest is
    /// refused, so that what was on its way when a session moved is either done before or never.
    pub connection_epoch: u64,
    /// The identities that the connection has proved, for access lists.
    pub identities: Vec<Identity>,
    /// Whether a node's hard quota refuses it: as the member is configured that asks.
    #[serde(default)]
    pub enforces_quota: bool,
    /// What is asked.
    pub action: Action,
}

impl Command {
    /// The session number of commands that the ensemble gives itself.
    pub const ENSEMBLE: SessionId = SessionId(0);

    /// A command of the ensemble itself.
    pub fn by_ensemble(action: Action) -> Self {
        Self {
            session_id: Self::ENSEMBLE,
            connection_epoch: 0,
            identities: Vec::new(),
            enforces_quota: false,
            action,
        }
    }

    /// The payload of its entry: the origin, then the command in MessagePack.
    pub fn to_payload(&self, origin: Origin) -> Vec<u8> {
        let mut payload = Vec::with_capacity(Origin::SIZE + self.about_size());
        payload.put_u64_le(origin.member_id.0);
        payload.put_u64_le(origin.number);
        let encoded = append_message(self, &mut payload);
        encoded.unwrap_or_else(|error| unreachable!("encode a command: {error}"));
        payload
    }

    /// About how many bytes it takes, rather too many.
    fn about_size(&self) -> usize {
        const HEAD: usize = 112;
        let identities = self.identities.iter();
        let proved: usize = identities.map(|one| one.scheme.len() + one.id.len() + 4).sum();
        HEAD + proved
            + match &self.action {
                Action::Write(op) => about_size_of(op),
                Action::Multi(ops) => ops.iter().map(|op| HEAD + about_size_of(op)).sum(),
                _ => 0,
            }
    }

    /// The origin and the command of an entry's payload.
    pub fn from_payload(payload: &[u8]) -> Result<(Origin, Self), PayloadError> {
        let origin = Origin::of_payload(payload).ok_or(PayloadError::TooShort)?;
        let command = payload.get(Origin::SIZE..).ok_or(PayloadError::TooShort)?;
        Ok((origin, decode_message(command)?))
    }
}

fn about_size_of(op: &Op) -> usize {
    match op {
        Op::Create { path, data, .. } | Op::SetData { path, data, .. } => path.len() + data.len(),
        _ => 0,
    }
}

/// Why a payload is no command.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It does not even have an origin.
    #[error("it is too short")]
    TooShort,
    /// It holds something else, or what a newer build wrote.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The kinds of commands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Changes nothing (a new leader's first entry).
    Nothing,
    /// One operation.
    Write(Op),
    /// Several operations, all or none.
    Multi(Vec<Op>),
    /// Opens a session. Its number is the command's zxid.
    CreateSession {
        /// The secret that the session may be resumed with.
        #[serde(with = "serde_bytes")]
        password: Vec<u8>,
        /// The timeout, already within the member's bounds, in milliseconds.
        session_timeout_ms: u32,
    },
    /// Goes on with the command's session on a new connection; older ones are fenced.
    ResumeSession {
        /// The session's secret.
        #[serde(with = "serde_bytes")]
        password: Vec<u8>,
    },
    /// Ends the command's session; its ephemeral nodes go.
    CloseSession,
    /// Ends sessions that were not heard from, and removes their ephemeral nodes, all in one zxid.
    ExpireSessions(Vec<Expiry>),
    /// Removes those of these nodes that are idle: containers that lost their last child, and nodes
    /// whose time to live is over.
    RemoveIdle(Vec<String>),
    /// The ensemble's members have changed: what `/zookeeper/config` says of them. Not logged: made
    /// of an entry that holds a membership.
    SetConfig(String),
}

/// A session that the leader has not heard from for its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// The session.
    pub session_id: SessionId,
    /// Which of its connections was the newest one that the leader knew of. If there is a newer one
    /// by now, the session was heard from after all, and lives on.
    pub connection_epoch: u64,
}

/// An identity that a connection has proved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// `ip`, `digest`, `x509`, `sasl`, or `super`, which may do everything.
    pub scheme: String,
    /// The name within the scheme, in the form in which access lists hold it.
    pub id: String,
}

/// What a command led to. An error is as much a result as a success: equal on every member.
pub type Outcome = Result<Effect, CoordinationError>;

/// What a command that succeeded did.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nothing to tell.
    Nothing,
    /// The result of a [`Action::Write`].
    Written(OpResult),
    /// The results of a [`Action::Multi`].
    Multi(Vec<OpResult>),
    /// A session was opened or resumed.
    SessionGranted {
        /// Its number.
        session_id: SessionId,
        /// Its timeout in milliseconds.
        session_timeout_ms: u32,
        /// The number of the connection that holds it now.
        connection_epoch: u64,
    },
    /// Sessions ended (those of the asked ones that there were).
    SessionsEnded(Vec<SessionId>),
    /// So many idle nodes were removed.
    IdleRemoved(usize),
}

/// An access list; shared between nodes where it is equal to the parent's.
pub type AclList = Arc<[Acl]>;

/// One change of the tree, with all that watches and subscriptions need to tell of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The node it happened to.
    pub path: Arc<str>,
    /// The node's data after the change; empty after a deletion.
    pub data: Bytes,
    /// The node's stat after the change; at a deletion, before it.
    pub stat: Stat,
    /// The node's access list after the change; at a deletion, before it.
    pub acl: AclList,
    /// The access list before the change, where the change replaced it.
    pub acl_before: Option<AclList>,
    /// The parent's access list; the node's own for the root.
    pub parent_acl: AclList,
}

impl Change {
    /// About how many bytes it takes, on the wire and in memory.
    pub fn size(&self) -> usize {
        /// With the allocations that it consists of, and its place in a list.
        const HEAD: usize = size_of::<Change>() + 128;
        HEAD + self.path.len() + self.data.len()
    }
}
