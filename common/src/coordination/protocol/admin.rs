//! What administrators ask a member, on a connection without a session: such a connection needs
//! neither a leader nor a majority, which is when one looks at a member most.
//!
//! The hello says [`SessionRequest::None`](super::SessionRequest::None), and the grant that answers
//! it is of the session 0. Then the client sends [`AdminRequestFrame`]s and the member answers each
//! with an [`AdminReply`], in their order.
//!
//! Everyone who can connect may look. To change something one must prove to be who may do
//! everything ([`AdminRequest::Auth`]), or if no such identity is configured, connect from the
//! member's own machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CoordinationError;
use crate::types::{MemberId, Zxid};

/// A request and the number that its reply will carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminRequestFrame {
    /// Chosen by the client.
    pub xid: u64,
    /// What is asked.
    pub request: AdminRequest,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdminReply {
    /// The request's number.
    pub xid: u64,
    /// The answer.
    pub result: Result<AdminResponse, CoordinationError>,
}

/// What an administrator may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminRequest {
    /// The member's state and figures.
    Status,
    /// Who belongs to the ensemble, as this member knows it.
    Members,
    /// The digests of states that the member had not long ago.
    Digests,
    /// Proves an identity (`digest`: `user:password`) for what follows on this connection.
    Auth {
        /// ZooKeeper's scheme.
        scheme: String,
        /// The proof.
        #[serde(with = "serde_bytes")]
        credential: Vec<u8>,
    },
    /// Takes a member in, or changes its addresses.
    AddMember {
        /// Its number.
        id: MemberId,
        /// What it is to be.
        member: MemberInfo,
    },
    /// Takes a member out.
    RemoveMember {
        /// Its number.
        id: MemberId,
    },
    /// Gives leadership away.
    TransferLeadership {
        /// To whom; none leaves it to the leader.
        to: Option<MemberId>,
    },
    /// Has the member write a snapshot now.
    TakeSnapshot,
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AdminResponse {
    /// Done, nothing to tell.
    Done,
    /// The member's figures.
    Status(Box<MemberStatus>),
    /// Who belongs to the ensemble.
    Members(Members),
    /// States and their digests, the oldest first.
    Digests(Vec<StateDigest>),
}

/// The digest of the state behind a zxid: members that agree have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest {
    /// The last change that the state holds.
    pub zxid: Zxid,
    /// The digest over tree and sessions.
    pub digest: u64,
}

/// Who belongs to the ensemble.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The member that leads, if one is known.
    pub leader_id: Option<MemberId>,
    /// The ensemble's identity, once it has one.
    pub cluster_id: Option<String>,
    /// The members.
    pub members: BTreeMap<MemberId, MemberInfo>,
}

/// One member of an ensemble.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberInfo {
    /// It only receives the log, and does not vote.
    pub is_learner: bool,
    /// It is a learner only until it has caught up.
    pub rejoining: bool,
    /// Where the other members reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach it, `host:port`; may be empty.
    pub client_address: String,
    /// The newest record of the log that it is known to have; only the leader knows.
    pub acknowledged: Option<Zxid>,
}

/// A member's state and figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member that answers.
    pub member_id: MemberId,
    /// The member that leads, if one is known.
    pub leader_id: Option<MemberId>,
    /// The member's last applied zxid.
    pub zxid: Zxid,
    /// The number of nodes in the tree.
    pub node_count: u64,
    /// The number of live sessions.
    pub session_count: u64,
    /// The number of watches on this member.
    pub watch_count: u64,
    /// The order-free digest over the tree.
    pub tree_digest: u64,
    /// The version of the build.
    pub build_version: String,
    /// How its log and its clients are doing.
    #[serde(default)]
    pub figures: MemberFigures,
}

/// How a member's log and clients are doing. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberFigures {
    /// What it does in the ensemble: `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// The term that it is in.
    pub term: u64,
    /// The oldest record of its log.
    pub first: Zxid,
    /// The newest record that it knows to be committed.
    pub committed: Zxid,
    /// The record that its newest snapshot stands behind; 0 if there is none.
    pub snapshot: Zxid,
    /// The bytes of its log on disk.
    pub log_size: u64,
    /// How often the log was flushed to disk.
    pub flushes: u64,
    /// How long the last flush took, in microseconds.
    pub flush_micros_last: u64,
    /// Half of the flushes took at most so long, in microseconds.
    pub flush_micros_p50: u64,
    /// All but one in a hundred flushes took at most so long, in microseconds.
    pub flush_micros_p99: u64,
    /// Its connections with a session.
    pub connections: u64,
    /// Requests that it answered.
    pub requests: u64,
    /// Proposals of its clients that have no outcome yet.
    pub outstanding: u64,
    /// The number of ephemeral nodes.
    pub ephemerals: u64,
    /// How long it has been running, in milliseconds.
    pub uptime_ms: u64,
    /// Why its log takes nothing more, if it has failed.
    pub failure: Option<String>,
}
