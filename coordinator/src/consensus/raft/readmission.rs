//! What a leader does about members that have lost their data, and about learners that shall vote:
//! it makes the former learners, and the latter voters when they have caught up.

use ottla_common::types::MemberId;

use super::{Member, MemberRole, Membership, MembershipChange, Raft, Standing, quorum};

/// What the policy knows of a member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Whether it answers.
    pub alive: bool,
    /// What it says of itself; none if it has said nothing.
    pub standing: Option<Standing>,
    /// Whether it had time to learn of the membership in force, and to vote again by it.
    pub has_heard: bool,
    /// Whether it has about the whole log.
    pub caught_up: bool,
}

/// The next change, if one is due. `known` tells of each member.
pub fn next_change(
    membership: &Membership,
    known: impl Fn(MemberId) -> Known,
) -> Option<MembershipChange> {
    let change = |(id, member): (&MemberId, &Member)| {
        let (id, it) = (*id, known(*id));
        match member.role {
            MemberRole::Voter if it.standing == Some(Standing::Amnesiac) && it.has_heard => {
                Some(MembershipChange::Demote { id, rejoining: true })
            }
            MemberRole::Learner if member.rejoining && it.alive && it.caught_up => {
                Some(MembershipChange::Promote { id })
            }
            _ => None,
        }
    };
    let is_safe = |change: &MembershipChange| match change {
        // The others must be able to commit this without it.
        MembershipChange::Demote { id, .. } => {
            let mut rest = membership.clone();
            rest.members.remove(id);
            quorum::has_majority(&rest, |id| known(id).alive)
        }
        _ => true,
    };
    membership.members.iter().filter_map(change).find(is_safe)
}

impl Raft {
    pub(super) fn readmit(&mut self) {
        let Some(leading) = &self.leading else { return };
        if leading.transfer.is_some() || self.memberships.newest().0 > self.log.commit() {
            return;
        }
        let (own_id, timeout_ms) = (self.config.member_id, self.config.election_timeout_ms);
        let membership_index = self.memberships.newest().0;
        let settled = self.now_ms >= leading.membership_since_ms + timeout_ms;
        let known = |id| match leading.progress.get(&id) {
            Some(progress) => Known {
                alive: progress.is_alive(self.now_ms, timeout_ms),
                standing: progress.standing,
                has_heard: settled && progress.matched >= membership_index,
                caught_up: self.is_caught_up(progress),
            },
            None => Known { alive: id == own_id, ..Known::default() },
        };
        if let Some(change) = next_change(self.membership(), known) {
            let time_ms = self.log.last_time_ms().unwrap_or_default();
            // Refused only while the leader is new; it is tried again.
            let _ = self.propose_membership(change, time_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(standing: Standing) -> Known {
        Known { alive: true, standing: Some(standing), has_heard: true, caught_up: true }
    }

    #[test]
    fn a_voter_that_forgot_is_demoted_if_the_others_can_do_without_it() {
        let membership = Membership::of_voters((1..=3).map(MemberId));
        let known = |id: MemberId| match id.0 {
            3 => alive(Standing::Amnesiac),
            _ => alive(Standing::Voter),
        };
        let demote = MembershipChange::Demote { id: MemberId(3), rejoining: true };
        assert_eq!(next_change(&membership, known), Some(demote));
        let one_is_away = |id: MemberId| if id.0 == 2 { Known::default() } else { known(id) };
        assert_eq!(next_change(&membership, one_is_away), None);
        assert_eq!(next_change(&membership, |_| alive(Standing::Voter)), None);
    }

    #[test]
    fn a_learner_that_rejoins_is_promoted_when_it_has_caught_up() {
        let mut membership = Membership::of_voters((1..=3).map(MemberId));
        let member = membership.members.entry(MemberId(3)).or_default();
        member.role = MemberRole::Learner;
        assert_eq!(next_change(&membership, |_| alive(Standing::Voter)), None, "an observer");
        membership.members.entry(MemberId(3)).or_default().rejoining = true;
        let promote = MembershipChange::Promote { id: MemberId(3) };
        assert_eq!(next_change(&membership, |_| alive(Standing::Voter)), Some(promote));
        let behind = |_| Known { caught_up: false, ..alive(Standing::Voter) };
        assert_eq!(next_change(&membership, behind), None);
    }
}
