//! Mistakes that can be switched on in builds with the feature `seeded-bugs`, to see whether tests
//! find them. Other builds have no such switch: `RaftConfig::has` is always false there.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeededBug {
    /// A vote is told before it is durable.
    VoteBeforePersist,
    /// A leader counts its own entries before they are durable.
    LeaderCountsUnpersisted,
    /// A follower acknowledges entries before they are durable.
    AckBeforePersist,
    /// Entries of older terms are committed by counting (figure 8 of the Raft paper).
    CommitOldTermByCount,
    /// A lease counts from the arrival of answers, has no margin, and is believed without looking
    /// at the clock again: it outlives a pause.
    LeaseOutlivesPause,
    /// A follower lets its log be cut below what it knows to be committed, and so by any leader: it
    /// also votes for candidates whose log is older.
    TruncateCommitted,
    /// No pre-vote, no check of the quorum, no refusal of votes while a leader is alive.
    NoPreVote,
    /// A member that has lost its data votes.
    AmnesiacVotes,
    /// The membership changes before the leader has committed anything of its term, and while
    /// another change is under way.
    EarlyMembershipChange,
    /// A read is answered without making sure that this member still leads.
    ReadWithoutQuorum,
}

impl SeededBug {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::VoteBeforePersist,
        Self::LeaderCountsUnpersisted,
        Self::AckBeforePersist,
        Self::CommitOldTermByCount,
        Self::LeaseOutlivesPause,
        Self::TruncateCommitted,
        Self::NoPreVote,
        Self::AmnesiacVotes,
        Self::EarlyMembershipChange,
        Self::ReadWithoutQuorum,
    ];
}
