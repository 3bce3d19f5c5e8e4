//! Who leads. A member that has not heard from a leader for its patience asks first whether it
//! would be elected (pre-vote), so that one that cannot win disturbs nobody. Whoever has heard from
//! a leader lately refuses: that is what the leader's lease is built on.

use std::collections::BTreeMap;

use ottla_common::types::MemberId;

use super::heartbeat::new_leading;
use super::seeded_bugs::SeededBug;
use super::{MessageKind, Raft, Standing, quorum};
use crate::storage::wal_record::EntryKind;

/// How long a member waits for a leader, and how long it is true to one.
#[derive(Debug, Default)]
pub struct Patience {
    /// Then it campaigns.
    pub ends_ms: u64,
    /// Before this it votes for nobody.
    pub votes_from_ms: u64,
    /// The newest round of heartbeats of the leader of this term.
    pub heard_round: u64,
}

/// A member's question to the others.
#[derive(Debug)]
pub struct Campaign {
    /// The term that it asks for, if that has not begun yet.
    pre: Option<u64>,
    votes: BTreeMap<MemberId, bool>,
}

impl Campaign {
    /// Whether it asks for votes, not only whether it would get them.
    pub fn is_real(&self) -> bool {
        self.pre.is_none()
    }
}

impl Raft {
    /// At the start: a leader may live that counts on this member.
    pub(super) fn begin_patience(&mut self) {
        let lone = self.is_lone_voter();
        self.restart_patience();
        if lone {
            self.patience.ends_ms = self.now_ms;
        } else {
            self.patience.votes_from_ms = self.now_ms + self.config.election_timeout_ms;
        }
    }

    /// Whether this member alone decides.
    pub(super) fn is_lone_voter(&self) -> bool {
        let mut voters = self.membership().voters();
        voters.next() == Some(self.config.member_id) && voters.next().is_none()
    }

    pub(super) fn restart_patience(&mut self) {
        let timeout_ms = self.config.election_timeout_ms.max(1);
        let more_ms = self.random.u64(0..timeout_ms);
        self.patience.ends_ms = self.now_ms + timeout_ms + more_ms;
    }

    pub(super) fn leader_heard(&mut self) {
        self.restart_patience();
        self.patience.votes_from_ms = self.now_ms + self.config.election_timeout_ms;
    }

    /// Whether a leader counts on this member.
    fn is_bound(&self) -> bool {
        let bound = self.leading.is_some() || self.now_ms < self.patience.votes_from_ms;
        bound && !self.config.has(SeededBug::NoPreVote)
    }

    fn may_vote(&self) -> bool {
        self.hard.standing == Standing::Voter || self.config.has(SeededBug::AmnesiacVotes)
    }

    pub(super) fn may_campaign(&self) -> bool {
        let voter = self.membership().is_voter(self.config.member_id);
        voter && self.may_vote() && !self.is_installing() && !self.disk_is_stalled
    }

    pub(super) fn tick_election(&mut self) {
        if self.now_ms < self.patience.ends_ms {
            return;
        }
        self.restart_patience();
        self.leader_id = None;
        if !self.is_lone_voter() {
            self.greet();
        }
        if !self.may_campaign() {
            self.campaign = None;
        } else if self.config.has(SeededBug::NoPreVote) {
            self.ask_for_votes(None);
        } else {
            self.ask_for_pre_votes();
        }
    }

    fn ask_others(&mut self, kind: &MessageKind, after_persist: bool) {
        let own_id = self.config.member_id;
        let voters: Vec<_> = self.membership().voters().filter(|id| *id != own_id).collect();
        for id in voters {
            if after_persist {
                self.send_after_persist(id, kind.clone());
            } else {
                self.send(id, kind.clone());
            }
        }
    }

    fn ask_for_pre_votes(&mut self) {
        let campaign_term = self.hard.term + 1;
        let votes = BTreeMap::from([(self.config.member_id, true)]);
        self.campaign = Some(Campaign { pre: Some(campaign_term), votes });
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        self.ask_others(&MessageKind::PreVote { campaign_term, last_index, last_term }, false);
        self.count_votes();
    }

    pub(super) fn ask_for_votes(&mut self, transfer_round: Option<u64>) {
        if self.hard.term + 1 >= super::NUMBER_MAX {
            return;
        }
        self.become_follower(self.hard.term + 1);
        self.hard.vote = Some(self.config.member_id);
        self.campaign = Some(Campaign { pre: None, votes: BTreeMap::new() });
        self.restart_patience();
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        let kind = MessageKind::Vote { last_index, last_term, transfer_round };
        self.ask_others(&kind, !self.config.has(SeededBug::VoteBeforePersist));
        self.count_own_vote();
    }

    /// Its own vote counts when it is durable.
    pub(super) fn count_own_vote(&mut self) {
        let (own_id, counts) = (self.config.member_id, self.own_vote_counts());
        if let Some(campaign) = &mut self.campaign
            && campaign.is_real()
            && counts
        {
            campaign.votes.insert(own_id, true);
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let Some(campaign) = &self.campaign else { return };
        let membership = self.memberships.newest().1;
        let says = |wanted| {
            quorum::has_majority(membership, |id| campaign.votes.get(&id) == Some(&wanted))
        };
        match (says(true), says(false), campaign.is_real()) {
            (true, _, true) => self.become_leader(),
            (true, _, false) => self.ask_for_votes(None),
            // It waits for the next time.
            (_, true, _) => self.campaign = None,
            _ => {}
        }
    }

    pub(super) fn asked_for_pre_vote(
        &mut self,
        from: MemberId,
        campaign_term: u64,
        (last_index, last_term): (u64, u64),
    ) {
        self.resolve_standing(from);
        let granted = self.may_vote()
            && !self.is_bound()
            && campaign_term > self.hard.term
            && self.is_up_to_date((last_index, last_term));
        // That it may vote must be durable, too: else who begins a term on its word could be the
        // only one that knows of the ensemble.
        self.send_after_persist(from, MessageKind::PreVoteResponse { campaign_term, granted });
    }

    pub(super) fn pre_vote_answered(&mut self, from: MemberId, term: u64, granted: bool) {
        if let Some(campaign) = &mut self.campaign
            && campaign.pre == Some(term)
        {
            campaign.votes.insert(from, granted);
            self.count_votes();
        }
    }

    pub(super) fn asked_for_vote(
        &mut self,
        (from, term): (MemberId, u64),
        (last_index, last_term): (u64, u64),
        transfer_round: Option<u64>,
    ) {
        self.resolve_standing(from);
        if self.is_bound() && !self.is_released(transfer_round) {
            return;
        }
        if term > self.hard.term {
            self.become_follower(term);
        }
        let free = self.hard.vote.is_none_or(|vote| vote == from) && self.leader_id.is_none();
        let up_to_date = self.is_up_to_date((last_index, last_term));
        if term == self.hard.term && free && up_to_date && self.may_vote() {
            self.hard.vote = Some(from);
            self.restart_patience();
            let kind = MessageKind::VoteResponse { granted: true };
            if self.config.has(SeededBug::VoteBeforePersist) {
                self.send(from, kind);
            } else {
                self.send_after_persist(from, kind);
            }
        } else {
            self.send(from, MessageKind::VoteResponse { granted: false });
        }
    }

    fn is_up_to_date(&self, (last_index, last_term): (u64, u64)) -> bool {
        let is_up_to_date = self.log.is_up_to_date(last_index, last_term);
        is_up_to_date || self.config.has(SeededBug::TruncateCommitted)
    }

    /// Whether the leader has given the candidate leave: it hands leadership over, and it has not
    /// taken that back by a newer round of heartbeats. After a start nobody knows that.
    fn is_released(&self, transfer_round: Option<u64>) -> bool {
        let Some(round) = transfer_round else { return false };
        match &self.leading {
            Some(leading) => leading.is_handed_over() && round >= leading.round,
            None => self.leader_id.is_some() && round >= self.patience.heard_round,
        }
    }

    pub(super) fn vote_answered(&mut self, from: MemberId, granted: bool) {
        if let Some(campaign) = &mut self.campaign
            && campaign.is_real()
        {
            campaign.votes.insert(from, granted);
            self.count_votes();
        }
    }

    fn become_leader(&mut self) {
        self.campaign = None;
        self.leader_id = Some(self.config.member_id);
        let first_index = self.log.last_index() + 1;
        self.leading = Some(new_leading(first_index, self.now_ms));
        self.members_changed();
        let time_ms = self.log.last_time_ms().unwrap_or_default();
        self.append_own(EntryKind::Blank, bytes::Bytes::new(), time_ms);
        if self.membership().cluster_id.is_none() {
            let mut membership = self.membership().clone();
            membership.cluster_id = Some(self.config.new_cluster_id);
            self.append_membership(membership, time_ms);
        }
    }
}
