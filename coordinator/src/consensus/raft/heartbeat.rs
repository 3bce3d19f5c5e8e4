//! Heartbeats. They wait for no disk, and each carries the time of its sending by the leader's own
//! clock: an answer proves that the follower was true to the leader at that time, and for an
//! election timeout after it. That makes the leader's lease; and a leader that no majority has
//! answered for so long leads no more.

use ottla_common::types::MemberId;

use super::progress::ProgressState;
use super::read_index::PendingReads;
use super::seeded_bugs::SeededBug;
use super::{Leading, MessageKind, Raft, Standing, quorum};

/// A leader that was just elected.
pub fn new_leading(first_index: u64, now_ms: u64) -> Leading {
    Leading {
        progress: std::collections::BTreeMap::new(),
        first_index,
        elected_ms: now_ms,
        round: 0,
        round_wanted: true,
        heartbeat_due_ms: now_ms,
        lease_from_round: 1,
        reads: PendingReads::default(),
        transfer: None,
        lease_believed: false,
    }
}

impl Raft {
    pub(super) fn tick_leader(&mut self) {
        if !self.has_quorum() {
            return self.become_follower(self.hard.term);
        }
        self.tick_transfer();
        self.tick_snapshots();
        let believed = self.lease_lasts(self.now_ms);
        let Some(leading) = &mut self.leading else { return };
        leading.lease_believed = believed;
        if self.now_ms >= leading.heartbeat_due_ms {
            leading.round_wanted = true;
        }
        self.readmit();
    }

    /// Whether a majority has answered lately.
    fn has_quorum(&self) -> bool {
        let Some(leading) = &self.leading else { return false };
        let own_id = self.config.member_id;
        let proved_ms = quorum::reached(self.membership(), |id| {
            if id == own_id {
                return self.now_ms;
            }
            let progress = leading.progress.get(&id);
            let proved = progress.map(|progress| progress.acked_ms.unwrap_or(progress.since_ms));
            proved.unwrap_or(leading.elected_ms)
        });
        let has = self.now_ms < proved_ms.saturating_add(self.config.election_timeout_ms);
        has || self.config.has(SeededBug::NoPreVote)
    }

    /// As leader: what is due before anything is handed out.
    pub(super) fn proceed_as_leader(&mut self) {
        if self.leading.is_none() {
            return;
        }
        self.send_appends();
        self.proceed_with_transfer();
        let wanted = self.leading.as_ref().is_some_and(|leading| leading.round_wanted);
        if wanted {
            self.send_heartbeats();
        }
        self.answer_reads();
    }

    fn send_heartbeats(&mut self) {
        let (header, sent_ms) = (self.header(), self.now_ms);
        let (commit_index, last_index) = (self.log.commit(), self.log.last_index());
        let Some(leading) = &mut self.leading else { return };
        // While leadership is handed over no round is new: see `is_released`.
        if !leading.is_handed_over() {
            leading.round += 1;
            leading.round_wanted = false;
        } else if sent_ms < leading.heartbeat_due_ms {
            return;
        }
        leading.heartbeat_due_ms = sent_ms + self.config.heartbeat_interval_ms;
        let round = leading.round;
        for (id, progress) in &mut leading.progress {
            progress.sent_at_heartbeat = progress.next.saturating_sub(1);
            progress.matched_at_heartbeat = progress.matched;
            let kind = MessageKind::Heartbeat { commit_index, round, sent_ms, last_index };
            self.out.messages.push(header.message(*id, kind));
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        from: MemberId,
        (round, sent_ms): (u64, u64),
        leaders_last_index: u64,
    ) {
        self.patience.heard_round = self.patience.heard_round.max(round);
        self.see_horizon(leaders_last_index);
        let kind = MessageKind::HeartbeatResponse {
            round,
            sent_ms,
            match_index: self.verified.min(self.log.durable()),
            verified_index: self.verified,
            standing: self.hard.standing,
        };
        self.send(from, kind);
    }

    pub(super) fn heartbeat_answered(
        &mut self,
        from: MemberId,
        (round, sent_ms): (u64, u64),
        (match_index, verified_index): (u64, u64),
        standing: Standing,
    ) {
        let (now_ms, pause_ms) = (self.now_ms, self.config.heartbeat_interval_ms);
        let Some(leading) = &mut self.leading else { return };
        let newest = leading.round;
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        if round > newest || sent_ms > now_ms {
            return;
        }
        progress.answered_ms = now_ms;
        if round >= progress.acked_round {
            progress.acked_round = round;
            progress.acked_ms = progress.acked_ms.max(Some(sent_ms));
            // Answers that come late tell of what the member was.
            progress.standing = Some(standing);
        }
        let is_amnesiac = standing == Standing::Amnesiac;
        if is_amnesiac && round == newest && verified_index < progress.matched_at_heartbeat {
            progress.lost_all_behind(verified_index);
        }
        match &mut progress.state {
            ProgressState::Probe { sent: Some(probed) } if probed.sent_ms + pause_ms <= now_ms => {
                progress.state = ProgressState::Probe { sent: None };
            }
            // What was sent before the heartbeat has not arrived.
            ProgressState::Replicate { in_flight }
                if round == newest
                    && !in_flight.is_empty()
                    && verified_index < progress.sent_at_heartbeat =>
            {
                progress.probe(0);
            }
            _ => {}
        }
        if match_index > progress.matched {
            self.appended(from, match_index);
        }
    }

    /// Whether this member leads for sure, now: no other can have been elected yet.
    pub fn holds_lease(&self, now_ms: u64) -> bool {
        match &self.leading {
            Some(leading) if self.config.has(SeededBug::LeaseOutlivesPause) => {
                leading.lease_believed
            }
            Some(_) => self.lease_lasts(now_ms),
            None => false,
        }
    }

    fn lease_lasts(&self, now_ms: u64) -> bool {
        let Some(leading) = self.leading.as_ref().filter(|leading| !leading.is_handed_over())
        else {
            return false;
        };
        let own_id = self.config.member_id;
        let careless = self.config.has(SeededBug::LeaseOutlivesPause);
        let proved_ms = quorum::reached(self.membership(), |id| {
            if id == own_id {
                return Some(now_ms);
            }
            let progress = leading.progress.get(&id)?;
            let counts = progress.acked_round >= leading.lease_from_round;
            let acked_ms = progress.acked_ms.filter(|_| counts)?;
            Some(if careless { progress.answered_ms } else { acked_ms })
        });
        let margin_ms = if careless { 0 } else { self.config.lease_margin_ms };
        let lasts_ms = self.config.election_timeout_ms.saturating_sub(margin_ms);
        proved_ms.is_some_and(|proved_ms| now_ms < proved_ms.saturating_add(lasts_ms))
    }
}
