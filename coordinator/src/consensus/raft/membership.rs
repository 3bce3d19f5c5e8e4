//! The memberships along the log, and how the next one comes about: one voter more or less at a
//! time, so that any two majorities of neighbours overlap, and only when the one before is
//! committed and the leader has committed an entry of its own term.

use std::collections::VecDeque;

use ottla_common::coordination::codec::{decode_message, encode_message};
use ottla_common::types::MemberId;

use super::progress::{Progress, ProgressState};
use super::seeded_bugs::SeededBug;
use super::{ChangeRefused, MembershipChange, Raft, quorum};
use crate::limits::MEMBERS_MAX;
use crate::storage::membership::{MemberRole, Membership};
use crate::storage::wal_record::{Entry, EntryKind};

/// A learner may become a voter when it lacks at most so many committed entries: a leader sends
/// them faster than it takes to commit the change.
const CAUGHT_UP_ENTRIES: u64 = 1_000;

/// The memberships that the log holds, and the one before them.
#[derive(Debug)]
pub struct Memberships {
    /// With the index of each, ascending; never empty.
    along: VecDeque<(u64, Membership)>,
}

impl Memberships {
    /// `base` is in force from `index` on, until `entries` say otherwise.
    pub fn new(index: u64, base: Membership, entries: &[Entry]) -> Self {
        let mut memberships = Self { along: VecDeque::from([(index, base)]) };
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Membership) {
            match decode_message(&entry.payload) {
                Ok(membership) => memberships.push(entry.index, membership),
                Err(error) => {
                    panic!("the membership of record {} of the log: {error}", entry.index)
                }
            }
        }
        memberships
    }

    /// The newest, and its index.
    pub fn newest(&self) -> (u64, &Membership) {
        match self.along.back() {
            Some((index, membership)) => (*index, membership),
            None => unreachable!("there is always a membership"),
        }
    }

    /// What was in force at an entry.
    pub fn at(&self, index: u64) -> &Membership {
        let before = self.along.iter().rev().find(|(since, _)| *since <= index);
        match before.or_else(|| self.along.front()) {
            Some((_, membership)) => membership,
            None => unreachable!("there is always a membership"),
        }
    }

    /// Whether any of them has this member.
    pub fn hold(&self, id: MemberId) -> bool {
        self.along.iter().any(|(_, membership)| membership.members.contains_key(&id))
    }

    pub fn push(&mut self, index: u64, membership: Membership) {
        self.along.push_back((index, membership));
    }

    /// The log was cut at `from`.
    pub fn truncate(&mut self, from: u64) {
        while self.along.len() > 1 && self.newest().0 >= from {
            self.along.pop_back();
        }
    }

    /// Nobody asks for anything before `index` any more.
    pub fn forget_before(&mut self, index: u64) {
        while self.along.get(1).is_some_and(|(since, _)| *since <= index) {
            self.along.pop_front();
        }
    }
}

impl Raft {
    /// Proposes the next membership. It is in force at once, and counts when it is committed.
    /// Returns the index of its entry.
    pub fn propose_membership(
        &mut self,
        change: MembershipChange,
        time_ms: i64,
    ) -> Result<u64, ChangeRefused> {
        let Some(leading) = self.leading.as_ref().filter(|leading| leading.transfer.is_none())
        else {
            return Err(self.not_leader().into());
        };
        let (newest_index, newest) = self.memberships.newest();
        if !self.config.has(SeededBug::EarlyMembershipChange) {
            if self.log.commit() < leading.first_index {
                return Err(ChangeRefused::LeaderIsNew);
            }
            if newest_index > self.log.commit() {
                return Err(ChangeRefused::Pending);
            }
        }
        let promoted = match change {
            MembershipChange::Promote { id } => Some(id),
            _ => None,
        };
        let next = changed(newest, change)?;
        if promoted.is_some_and(|id| !self.known(id).is_ready_to_vote()) {
            return Err(ChangeRefused::NotCaughtUp);
        }
        let fewer = newest.voters().any(|id| !next.is_voter(id));
        if fewer && !quorum::has_majority(&next, |id| self.known(id).decides()) {
            return Err(ChangeRefused::WouldStop);
        }
        Ok(self.append_membership(next, time_ms))
    }

    /// Whether a learner has about everything.
    pub(super) fn is_caught_up(&self, progress: &Progress) -> bool {
        let replicating = matches!(progress.state, ProgressState::Replicate { .. });
        replicating && progress.matched.saturating_add(CAUGHT_UP_ENTRIES) >= self.log.commit()
    }

    /// As leader: appends a membership and puts it in force.
    pub(super) fn append_membership(&mut self, membership: Membership, time_ms: i64) -> u64 {
        let payload = encode_message(&membership);
        let payload = payload.unwrap_or_else(|error| unreachable!("encode a membership: {error}"));
        let index = self.append_own(EntryKind::Membership, payload.into(), time_ms);
        self.memberships.push(index, membership);
        self.members_changed();
        self.advance_commit();
        index
    }

    /// As leader: knows the members that are in force, and those that are on their way out.
    pub(super) fn members_changed(&mut self) {
        let (own_id, now_ms) = (self.config.member_id, self.now_ms);
        let next = self.log.last_index() + 1;
        let Some(leading) = &mut self.leading else { return };
        let members = &self.memberships.newest().1.members;
        for id in members.keys().filter(|id| **id != own_id) {
            let progress = leading.progress.entry(*id);
            progress.or_insert_with(|| Progress::new(next, now_ms)).leaving = false;
        }
        for (id, progress) in &mut leading.progress {
            progress.leaving = !members.contains_key(id);
        }
    }

    /// As leader: a membership is committed. Who left is forgotten after it was told; a leader that
    /// does not vote any more goes.
    pub(super) fn membership_committed(&mut self) {
        let (index, membership) = self.memberships.newest();
        if index > self.log.commit() {
            return;
        }
        let stays = membership.is_voter(self.config.member_id);
        self.send_appends();
        if let Some(leading) = &mut self.leading {
            leading.progress.retain(|_, progress| !progress.leaving);
        }
        if !stays && self.leading.is_some() {
            self.hand_over_and_go();
        }
    }
}

/// The membership after a change, if it is one that may be.
fn changed(membership: &Membership, change: MembershipChange) -> Result<Membership, ChangeRefused> {
    let mut next = membership.clone();
    let count = next.members.len();
    match change {
        MembershipChange::Add { id, mut member } => {
            if next.members.contains_key(&id) {
                return Err(ChangeRefused::AlreadyMember);
            }
            if count >= MEMBERS_MAX {
                return Err(ChangeRefused::TooMany);
            }
            member.rejoining = member.role == MemberRole::Voter;
            member.role = MemberRole::Learner;
            next.members.insert(id, member);
        }
        MembershipChange::Promote { id } => {
            let member = next.members.get_mut(&id).ok_or(ChangeRefused::NotMember)?;
            (member.role, member.rejoining) = (MemberRole::Voter, false);
        }
        MembershipChange::Demote { id, rejoining } => {
            let member = next.members.get_mut(&id).ok_or(ChangeRefused::NotMember)?;
            (member.role, member.rejoining) = (MemberRole::Learner, rejoining);
        }
        MembershipChange::Remove { id } => {
            next.members.remove(&id).ok_or(ChangeRefused::NotMember)?;
        }
        MembershipChange::Readdress { id, member: other } => {
            let member = next.members.get_mut(&id).ok_or(ChangeRefused::NotMember)?;
            member.peer_address = other.peer_address;
            member.client_address = other.client_address;
            member.election_address = other.election_address;
        }
    }
    if next == *membership {
        return Err(ChangeRefused::NothingToDo);
    }
    if next.voters().next().is_none() {
        return Err(ChangeRefused::LastVoter);
    }
    Ok(next)
}

/// The membership in an entry; none if it is not one, or one that cannot be.
pub fn membership_of(entry: &Entry) -> Option<Membership> {
    let membership = decode_message::<Membership>(&entry.payload).ok()?;
    is_sound(&membership).then_some(membership)
}

/// Whether a membership that came from elsewhere can be one.
pub fn is_sound(membership: &Membership) -> bool {
    let count = membership.members.len();
    count <= MEMBERS_MAX && membership.voters().next().is_some()
}

/// The members that are known by a membership, but for one.
pub fn others(membership: &Membership, but: MemberId) -> Vec<MemberId> {
    membership.members.keys().copied().filter(|id| *id != but).collect()
}
