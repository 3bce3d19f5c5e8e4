//! What is written to the log, and what comes of applying it.

use std::sync::Arc;

use bytes::Bytes;
use ottla_common::coordination::protocol::{
    Acl, ChangeKind, CoordinationError, Op, OpResult, Stat,
};
use ottla_common::types::SessionId;
use serde::{Deserialize, Serialize};

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
    /// What is asked.
    pub action: Action,
}

impl Command {
    /// The session number of commands that the ensemble gives itself.
    pub const ENSEMBLE: SessionId = SessionId(0);

    /// A command of the ensemble itself.
    pub fn by_ensemble(action: Action) -> Self {
        let identities = Vec::new();
        Self { session_id: Self::ENSEMBLE, connection_epoch: 0, identities, action }
    }
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
    ExpireSessions(Vec<SessionId>),
    /// Removes those of these nodes that are idle: containers that lost their last child, and nodes
    /// whose time to live is over.
    RemoveIdle(Vec<String>),
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
        const HEAD: usize = 160;
        HEAD + self.path.len() + self.data.len()
    }
}
