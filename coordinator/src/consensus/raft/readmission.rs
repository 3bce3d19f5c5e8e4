//! What a leader does about members that have lost their data, and about learners that shall vote:
//! it makes the former learners, and the latter voters when they have caught up.

use ottla_common::types::MemberId;

use super::{Member, MemberRole, Membership, MembershipChange, Raft, Standing, quorum};

/// What a leader knows of a member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Whether it answers.
    pub alive: bool,
    /// What it says of itself; none if it has said nothing.
    pub standing: Option<Standing>,
    /// Whether it has about the whole log.
    pub caught_up: bool,
}

impl Known {
    /// Whether it can take its part in decisions.
    pub fn decides(&self) -> bool {
        self.alive && self.standing == Some(Standing::Voter)
    }

    /// Whether it can be made a voter without holding the others up.
    pub fn is_ready_to_vote(&self) -> bool {
        self.decides() && self.caught_up
    }
}

/// The next change, if one is due. `known` tells of each member.
pub fn next_change(
    membership: &Membership,
    known: impl Fn(MemberId) -> Known,
) -> Option<MembershipChange> {
    let change = |(id, member): (&MemberId, &Member)| {
        let (id, it) = (*id, known(*id));
        match member.role {
            MemberRole::Voter if it.standing == Some(Standing::Amnesiac) => {
                Some(MembershipChange::Demote { id, rejoining: true })
            }
            MemberRole::Learner if member.rejoining && it.is_ready_to_vote() => {
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
            quorum::has_majority(&rest, |id| known(id).decides())
        }
        _ => true,
    };
    membership.members.iter().filter_map(change).find(is_safe)
}

impl Raft {
    /// As leader: what it knows of a member, itself included.
    pub(super) fn known(&self, id: MemberId) -> Known {
        if id == self.config.member_id {
            return Known { alive: true, standing: Some(self.hard.standing), caught_up: true };
        }
        let progress = self.leading.as_ref().and_then(|leading| leading.progress.get(&id));
        progress.map_or_else(Known::default, |progress| Known {
            alive: progress.is_alive(self.now_ms, self.config.election_timeout_ms),
            standing: progress.standing,
            caught_up: self.is_caught_up(progress),
        })
    }

    pub(super) fn readmit(&mut self) {
        let busy = self.leading.as_ref().is_none_or(|leading| leading.transfer.is_some());
        if busy || self.memberships.newest().0 > self.log.commit() {
            return;
        }
        if let Some(change) = next_change(self.membership(), |id| self.known(id)) {
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
        Known { alive: true, standing: Some(standing), caught_up: true }
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
