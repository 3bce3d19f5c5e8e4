//! Members with empty folders. A folder is empty because the ensemble is new, or because the disk
//! was lost; and a member that forgot its promises must not vote. So it asks the others: if none of
//! the voters has ever taken part in anything either, the ensemble is new. If anybody has, this
//! member takes the log and does not vote until the others have taken its vote from it. Then they
//! may make it a voter anew.
//!
//! A majority is not enough: one that was never started and one that lost its disk would make one,
//! and what the third acknowledged with the lost one would be gone. So a new ensemble begins when
//! all its voters are there for the first time; from then on, a majority does. Whatever counted on
//! a promise is held by somebody who lost nothing, as long as fewer than a majority lost their
//! disks, and that one says that he takes part.
//!
//! Greetings also tell a member that was away long who belongs to the ensemble by now.

use std::collections::BTreeSet;

use ottla_common::types::MemberId;

use super::membership::others;
use super::{MessageKind, Raft, Standing};
use crate::limits::MEMBERS_MAX;

/// What a member has learnt from greetings.
#[derive(Debug)]
pub struct Formation {
    /// Members that had never taken part in anything, in this one's present life. If all are so,
    /// there is nothing that could have been forgotten. What they became since is no sign that
    /// something was lost.
    blank: BTreeSet<MemberId>,
    greet_due_ms: u64,
    /// Members that others have named.
    introduced: BTreeSet<MemberId>,
    /// The leader's newest entry when this member, which has lost its data, heard a leader first.
    /// Memberships up to there speak of what it was before.
    horizon: Option<u64>,
}

impl Formation {
    pub fn new(now_ms: u64) -> Self {
        Self {
            blank: BTreeSet::new(),
            greet_due_ms: now_ms,
            introduced: BTreeSet::new(),
            horizon: None,
        }
    }

    pub fn was_introduced(&self, id: MemberId) -> bool {
        self.introduced.contains(&id)
    }
}

impl Raft {
    /// At the start.
    pub(super) fn take_standing(&mut self, used: bool) {
        if self.hard.standing != Standing::Fresh {
            return;
        }
        if used {
            self.hard.standing = Standing::Amnesiac;
        } else if self.is_lone_voter() {
            self.hard.standing = Standing::Voter;
        }
    }

    pub(super) fn tick_formation(&mut self) {
        let is_due = self.now_ms >= self.formation.greet_due_ms;
        if self.hard.standing == Standing::Fresh && is_due {
            self.greet();
        }
    }

    /// Voters that must be there once, before a new ensemble can begin, and that have not been
    /// heard of yet. Nobody if this is not one.
    pub fn awaited(&self) -> Vec<MemberId> {
        if self.hard.standing != Standing::Fresh {
            return Vec::new();
        }
        let is_awaited = |id: &MemberId| !self.is_known_blank(*id);
        self.membership().voters().filter(is_awaited).collect()
    }

    fn is_known_blank(&self, id: MemberId) -> bool {
        match id == self.config.member_id {
            true => self.is_blank(),
            false => self.formation.blank.contains(&id),
        }
    }

    pub(super) fn greet(&mut self) {
        self.formation.greet_due_ms = self.now_ms + self.config.heartbeat_interval_ms;
        let (standing, blank) = (self.hard.standing, self.is_blank());
        for id in others(self.membership(), self.config.member_id) {
            self.send(id, MessageKind::Greeting { standing, blank });
        }
    }

    /// Whether this member has never taken part in anything, or does not know.
    fn is_blank(&self) -> bool {
        self.hard.term == 0 && self.log.last_index() == 0
    }

    pub(super) fn greeted(&mut self, from: MemberId, standing: Standing, blank: bool) {
        let members = self.membership().members.keys().copied().collect();
        let own = (self.hard.standing, self.is_blank());
        let kind = MessageKind::GreetingResponse { standing: own.0, blank: own.1, members };
        self.send(from, kind);
        if self.knows(from) {
            self.learnt(from, standing, blank);
        }
    }

    pub(super) fn greeting_answered(
        &mut self,
        from: MemberId,
        (standing, blank): (Standing, bool),
        members: &[MemberId],
    ) {
        if members.len() <= MEMBERS_MAX && self.formation.introduced.len() <= MEMBERS_MAX {
            self.formation.introduced.extend(members);
        }
        self.learnt(from, standing, blank);
    }

    fn learnt(&mut self, from: MemberId, standing: Standing, blank: bool) {
        if self.hard.standing == Standing::Voter {
            return;
        }
        if blank {
            self.formation.blank.insert(from);
        }
        let all_are_blank = self.membership().voters().all(|id| self.is_known_blank(id));
        if self.is_blank() && all_are_blank {
            self.hard.standing = Standing::Voter;
            self.restart_patience();
        } else if standing != Standing::Fresh {
            self.resolve_standing(from);
        }
    }

    /// `from` takes part in an ensemble.
    pub(super) fn resolve_standing(&mut self, from: MemberId) {
        // That others have begun meanwhile says nothing of this member's data; that a leader has
        // been elected, or one that was not empty asks for votes, does.
        let has_begun = !self.formation.blank.contains(&from) || self.leader_id == Some(from);
        if self.hard.standing == Standing::Fresh && has_begun {
            self.hard.standing = Standing::Amnesiac;
        }
    }

    /// A leader tells how long its log is.
    pub(super) fn see_horizon(&mut self, last_index: u64) {
        if self.hard.standing == Standing::Amnesiac {
            self.formation.horizon.get_or_insert(last_index);
        }
    }

    /// The membership of the entry `index` is committed, and durable here.
    pub(super) fn membership_is_certain(&mut self, index: u64) {
        self.hard.cluster_id = self.hard.cluster_id.or(self.memberships.at(index).cluster_id);
    }

    /// A member that has lost its data may vote again when the others have decided, since it came
    /// back, that it is no voter: every majority that counted on its promises has let go of it. So
    /// it may before it is made a voter, and there is never one in force that cannot.
    pub(super) fn regain_standing(&mut self) {
        let settled = self.log.settled();
        let since = self.formation.horizon.is_some_and(|horizon| settled >= horizon);
        let is_voter = self.memberships.at(settled).is_voter(self.config.member_id);
        if self.hard.standing == Standing::Amnesiac && since && !is_voter {
            self.hard.standing = Standing::Voter;
            self.restart_patience();
        }
    }
}
