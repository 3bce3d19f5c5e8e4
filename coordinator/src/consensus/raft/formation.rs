//! Members with empty folders. A folder is empty because the ensemble is new, or because the disk
//! was lost; and a member that forgot its promises must not vote. So it asks the others: if a
//! majority, with itself, has never taken part in anything either, the ensemble is new. If anybody
//! has, this member takes the log and does not vote until the others have taken its vote from it.
//! Then they may make it a voter anew.
//!
//! Greetings also tell a member that was away long who belongs to the ensemble by now.

use std::collections::BTreeSet;

use ottla_common::types::MemberId;

use super::membership::others;
use super::{MessageKind, Raft, Standing, quorum};
use crate::limits::MEMBERS_MAX;

/// What a member has learnt from greetings.
#[derive(Debug)]
pub struct Formation {
    /// Members that said their folder is empty, while this one's was. What they became since is no
    /// sign that something was lost.
    fresh: BTreeSet<MemberId>,
    /// Members that had never taken part in anything, in this one's present life. If all are so,
    /// there is nothing that could have been forgotten.
    blank: BTreeSet<MemberId>,
    /// Since when a majority is known to be fresh.
    enough_since_ms: Option<u64>,
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
            fresh: BTreeSet::new(),
            blank: BTreeSet::new(),
            enough_since_ms: None,
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
        if self.hard.standing != Standing::Fresh {
            return;
        }
        let patience_ms = self.config.election_timeout_ms;
        let enough_since_ms = self.formation.enough_since_ms;
        if enough_since_ms.is_some_and(|since_ms| self.now_ms >= since_ms + patience_ms) {
            // The others are late. They will be taken in as members that have lost their data.
            self.form();
        } else if self.now_ms >= self.formation.greet_due_ms {
            self.greet();
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
        if standing == Standing::Fresh {
            self.formation.fresh.insert(from);
        }
        let (own_id, membership) = (self.config.member_id, self.memberships.newest().1);
        let is_blank = |id| id == own_id || self.formation.blank.contains(&id);
        let is_fresh = |id| id == own_id || self.formation.fresh.contains(&id);
        if self.is_blank() && membership.voters().all(is_blank) {
            self.form();
        } else if standing != Standing::Fresh {
            self.resolve_standing(from);
        } else if quorum::has_majority(membership, is_fresh) {
            self.formation.enough_since_ms.get_or_insert(self.now_ms);
        }
    }

    /// `from` takes part in an ensemble. If its folder was not empty just now, this member's data
    /// is lost.
    pub(super) fn resolve_standing(&mut self, from: MemberId) {
        if self.hard.standing != Standing::Fresh {
            return;
        }
        if self.formation.enough_since_ms.is_some() && self.formation.fresh.contains(&from) {
            self.form();
        } else if !self.formation.fresh.contains(&from) || self.leader_id == Some(from) {
            self.hard.standing = Standing::Amnesiac;
        }
    }

    fn form(&mut self) {
        self.hard.standing = Standing::Voter;
        self.restart_patience();
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
