//! Who belongs to the ensemble: held by entries of the log and by snapshots.

use std::collections::BTreeMap;

use ottla_common::types::{MemberId, Uuid};
use serde::{Deserialize, Serialize};

/// The members of an ensemble. The newest one in a member's log is in force there, whether it is
/// committed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Which ensemble this is; none until its first leader has said so.
    pub cluster_id: Option<Uuid>,
    /// Its members.
    pub members: BTreeMap<MemberId, Member>,
}

/// One member of an ensemble.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Whether it decides with the others.
    pub role: MemberRole,
    /// It is a learner only until it has caught up: it had lost its data, or it is being added.
    pub rejoining: bool,
    /// Where the other members reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach it, `host:port`; may be empty.
    pub client_address: String,
    /// ZooKeeper's election port, `host:port`. Nobody connects there; `/zookeeper/config` shows it.
    pub election_address: String,
}

/// What a member does in the ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberRole {
    /// It votes, and what is committed is counted with it.
    #[default]
    Voter,
    /// It only receives the log; ZooKeeper's observer.
    Learner,
}

impl Membership {
    /// An ensemble of voters of which nothing but the numbers is known.
    pub fn of_voters(ids: impl IntoIterator<Item = MemberId>) -> Self {
        let members = ids.into_iter().map(|id| (id, Member::default())).collect();
        Self { cluster_id: None, members }
    }

    /// The members that vote, ascending.
    pub fn voters(&self) -> impl Iterator<Item = MemberId> + Clone + '_ {
        let voters = self.members.iter().filter(|(_, member)| member.role == MemberRole::Voter);
        voters.map(|(id, _)| *id)
    }

    /// Whether the member votes.
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.members.get(&id).is_some_and(|member| member.role == MemberRole::Voter)
    }

    /// How many voters are more than half of them.
    pub fn majority(&self) -> usize {
        self.voters().count() / 2 + 1
    }
}

/// Which entry of the log a snapshot stands behind, and who the members were there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    /// The membership behind that entry.
    pub membership: Membership,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learners_do_not_count() {
        let mut membership = Membership::of_voters((1..=4).map(MemberId));
        assert_eq!(membership.majority(), 3);
        membership.members.entry(MemberId(2)).or_default().role = MemberRole::Learner;
        assert_eq!(membership.voters().collect::<Vec<_>>(), [1, 3, 4].map(MemberId));
        assert_eq!(membership.majority(), 2);
        assert!(membership.is_voter(MemberId(1)));
        assert!(!membership.is_voter(MemberId(2)) && !membership.is_voter(MemberId(9)));
    }
}
