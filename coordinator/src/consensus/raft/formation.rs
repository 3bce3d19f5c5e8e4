//! Members with empty folders. A folder is empty because the ensemble is new, or because the disk
//! was lost; and a member that forgot its promises must not vote. So it asks the others: if a
//! majority, with itself, has never taken part in anything either, the ensemble is new. If anybody
//! has, this member takes the log and does not vote until the others make it a voter anew.
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
        let standing = self.hard.standing;
        for id in others(self.membership(), self.config.member_id) {
            self.send(id, MessageKind::Greeting { standing });
        }
    }

    pub(super) fn greeted(&mut self, from: MemberId, standing: Standing) {
        let own = self.hard.standing;
        let members = self.membership().members.keys().copied().collect();
        self.send(from, MessageKind::GreetingResponse { standing: own, members });
        if self.knows(from) {
            self.learnt(from, standing);
        }
    }

    pub(super) fn greeting_answered(
        &mut self,
        from: MemberId,
        standing: Standing,
        members: &[MemberId],
    ) {
        if members.len() <= MEMBERS_MAX && self.formation.introduced.len() <= MEMBERS_MAX {
            self.formation.introduced.extend(members);
        }
        self.learnt(from, standing);
    }

    fn learnt(&mut self, from: MemberId, standing: Standing) {
        if self.hard.standing != Standing::Fresh {
            return;
        }
        if standing != Standing::Fresh {
            return self.resolve_standing(from);
        }
        self.formation.fresh.insert(from);
        let (own_id, membership) = (self.config.member_id, self.memberships.newest().1);
        let is_fresh = |id| id == own_id || self.formation.fresh.contains(&id);
        if membership.voters().all(is_fresh) {
            self.form();
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
        self.readmitted(index.saturating_sub(1), index);
    }

    /// A member that has lost its data votes again when, since it came back, it was no voter and
    /// was made one.
    pub(super) fn readmitted(&mut self, before: u64, index: u64) {
        let own_id = self.config.member_id;
        let since = self.formation.horizon.is_some_and(|horizon| before >= horizon);
        let was = self.memberships.at(before).is_voter(own_id);
        if self.hard.standing == Standing::Amnesiac
            && since
            && !was
            && self.memberships.at(index).is_voter(own_id)
        {
            self.hard.standing = Standing::Voter;
            self.restart_patience();
        }
    }
}
