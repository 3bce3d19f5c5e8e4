//! What goes into the core and what comes out of it.

use bytes::Bytes;
use ottla_common::types::{MemberId, Uuid};
use serde::{Deserialize, Serialize};

use super::message::Message;
use super::seeded_bugs::SeededBug;
use crate::storage::hard_state::HardState;
use crate::storage::membership::{Member, Membership, SnapshotMeta};
use crate::storage::wal_record::Entry;

/// How a member takes part. Begin with [`RaftConfig::new`].
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This member.
    pub member_id: MemberId,
    /// The shortest time without a leader after which a member campaigns; the longest is twice as
    /// much. Also how long a leader is safe from elections after it was heard. Equal on all
    /// members.
    pub election_timeout_ms: u64,
    /// How often a leader tells that it is alive.
    pub heartbeat_interval_ms: u64,
    /// How much earlier than its followers' patience a leader's lease ends: more than the clocks of
    /// two members can drift apart in one election timeout.
    pub lease_margin_ms: u64,
    /// How many bytes of entries one message holds (a longer entry goes alone).
    pub append_size_max: usize,
    /// How many messages with entries may be under way to one member.
    pub appends_in_flight_max: usize,
    /// How many bytes of a snapshot one message holds.
    pub snapshot_chunk_size: usize,
    /// How many bytes of applied entries stay in memory, for followers that lag a little. One that
    /// lags more gets a snapshot.
    pub kept_entries_size_max: usize,
    /// Decides the election timeouts.
    pub seed: u64,
    /// The ensemble's id, if this member becomes its first leader.
    pub new_cluster_id: Uuid,
    /// What is done wrong, to see whether tests find it.
    #[cfg(feature = "seeded-bugs")]
    pub seeded_bug: Option<SeededBug>,
}

impl RaftConfig {
    /// The defaults, with a seed of its own for each member and no cluster id: set both.
    pub fn new(member_id: MemberId) -> Self {
        Self {
            member_id,
            election_timeout_ms: 300,
            heartbeat_interval_ms: 50,
            lease_margin_ms: 50,
            append_size_max: 1024 * 1024,
            appends_in_flight_max: 64,
            snapshot_chunk_size: 1024 * 1024,
            kept_entries_size_max: 8 * 1024 * 1024,
            seed: member_id.0,
            new_cluster_id: Uuid::ZERO,
            #[cfg(feature = "seeded-bugs")]
            seeded_bug: None,
        }
    }

    /// Whether to do this wrong. Never, but in builds made to be found out.
    #[cfg(feature = "seeded-bugs")]
    pub(super) fn has(&self, bug: SeededBug) -> bool {
        self.seeded_bug == Some(bug)
    }

    /// Whether to do this wrong. Never, but in builds made to be found out.
    #[cfg(not(feature = "seeded-bugs"))]
    #[expect(clippy::unused_self, reason = "the face of the other build")]
    pub(super) const fn has(&self, _bug: SeededBug) -> bool {
        false
    }
}

/// What a member's disk held when it started.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Term, vote and standing; the default if there was nothing.
    pub hard_state: HardState,
    /// The newest snapshot; its state is loaded.
    pub snapshot: Option<SnapshotMeta>,
    /// The snapshot's membership, or the configured one.
    pub membership: Membership,
    /// All entries behind the snapshot. They are durable.
    pub entries: Vec<Entry>,
}

/// What the caller has to do; see the duties in the module's description.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ready {
    /// From 1, one more each time.
    pub number: u64,
    /// To be made durable, before or together with the entries.
    pub hard_state: Option<HardState>,
    /// To be appended to the log and made durable. If the first one's index is not behind the log's
    /// end, the log is cut before it.
    pub entries: Vec<Entry>,
    /// To be sent at once.
    pub messages: Vec<Message>,
    /// To be sent when this and everything before it is durable.
    pub messages_after_persist: Vec<Message>,
    /// To be applied in this order; they are committed, and durable here.
    pub committed: Vec<Entry>,
    /// What became of [`request_read`](super::Raft::request_read).
    pub reads: Vec<ReadDone>,
    /// Members that need a snapshot, of an entry not below
    /// [`snapshot_index_min`](super::Raft::snapshot_index_min).
    pub snapshots_wanted: Vec<MemberId>,
    /// Pieces of snapshots to be read and handed to [`send_chunk`](super::Raft::send_chunk).
    pub chunks_wanted: Vec<ChunkWanted>,
    /// Pieces of a snapshot to be written aside.
    pub chunks_received: Vec<ChunkReceived>,
    /// Who leads now, if that has changed.
    pub role: Option<RoleChange>,
}

/// The end of a read request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadDone {
    /// As requested.
    pub id: u64,
    /// When this is applied, the state is as new as the request. None: this member does not lead
    /// any more, ask again.
    pub index: Option<u64>,
}

/// A piece of a snapshot that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkWanted {
    /// To whom.
    pub to: MemberId,
    /// The snapshot's entry.
    pub index: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// Its length in bytes; less only at the end of the file.
    pub length: usize,
}

/// A piece of a snapshot that was received. The piece at offset 0 begins the file anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkReceived {
    /// Who sent it.
    pub from: MemberId,
    /// The snapshot.
    pub meta: SnapshotMeta,
    /// Where the piece begins.
    pub offset: u64,
    /// The piece.
    pub bytes: Bytes,
    /// Whether the file is whole now: make it durable, load it, and tell the core.
    pub last: bool,
    /// The length of the whole file.
    pub size: u64,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// This member.
    Leader {
        /// Since this term.
        term: u64,
    },
    /// Another one, or nobody that is known.
    Follower {
        /// The term.
        term: u64,
        /// The leader.
        leader_id: Option<MemberId>,
    },
}

/// What a member does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows, or waits for a leader.
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq)]
pub struct RaftStatus {
    /// What this member does.
    pub role: Role,
    /// Term, vote, standing, and the ensemble's id once it is committed.
    pub hard_state: HardState,
    /// Who leads, if it is known.
    pub leader_id: Option<MemberId>,
    /// All up to here is committed.
    pub commit_index: u64,
    /// All up to here is applied here.
    pub applied_index: u64,
    /// All up to here is durable here.
    pub durable_index: u64,
    /// The newest entry.
    pub last_index: u64,
    /// Its term.
    pub last_term: u64,
    /// The membership in force.
    pub membership: Membership,
    /// Whether leadership is being handed over, and to whom.
    pub transferring_to: Option<MemberId>,
    /// On the leader: how far each other member is.
    pub progress: Vec<ProgressStatus>,
}

/// How far a member is, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressStatus {
    /// Who.
    pub member_id: MemberId,
    /// All up to here is durable there.
    pub match_index: u64,
    /// What will be sent next.
    pub next_index: u64,
    /// `probe`, `replicate` or `snapshot`.
    pub state: &'static str,
    /// When the heartbeat was sent that it answered last, by the leader's clock.
    pub acked_ms: Option<u64>,
}

/// A change of the membership, one member at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// A new member. A voter is a learner first, and promoted when it has caught up.
    Add {
        /// Its number.
        id: MemberId,
        /// Its addresses and what it shall be.
        member: Member,
    },
    /// A learner that has caught up becomes a voter.
    Promote {
        /// Who.
        id: MemberId,
    },
    /// A voter becomes a learner.
    Demote {
        /// Who.
        id: MemberId,
        /// Whether it is promoted again when it has caught up.
        rejoining: bool,
    },
    /// A member leaves.
    Remove {
        /// Who.
        id: MemberId,
    },
    /// A member has other addresses; its role stays.
    Readdress {
        /// Who.
        id: MemberId,
        /// The new addresses.
        member: Member,
    },
}

/// This member does not lead, or is handing leadership over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("this member does not lead")]
pub struct NotLeader {
    /// Who leads, if it is known and not this member.
    pub leader_id: Option<MemberId>,
}

/// Why a membership is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ChangeRefused {
    /// Another member leads, or none.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The leader has not committed anything in its term yet.
    #[error("the leader is new, try again")]
    LeaderIsNew,
    /// Another change is not committed yet.
    #[error("another change of the members is under way")]
    Pending,
    /// There is no such member.
    #[error("there is no such member")]
    NotMember,
    /// It is a member already.
    #[error("it is a member already")]
    AlreadyMember,
    /// It is so already.
    #[error("the member is so already")]
    NothingToDo,
    /// Somebody must vote.
    #[error("the last voter cannot go")]
    LastVoter,
    /// The learner lacks too much of the log.
    #[error("the learner has not caught up")]
    NotCaughtUp,
    /// Too few of the voters that would be left are alive, or may vote.
    #[error("the voters that would be left cannot decide")]
    WouldStop,
    /// The ensemble is large enough.
    #[error("there are too many members")]
    TooMany,
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum TransferRefused {
    /// Another member leads, or none.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// It is being handed over already.
    #[error("leadership is being handed over already")]
    Pending,
    /// The member does not vote, or leads already, or has lost its data.
    #[error("that member cannot lead")]
    NotEligible,
    /// No other voter is alive.
    #[error("no other member can lead")]
    NobodyElse,
}
