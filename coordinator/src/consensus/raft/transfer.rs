//! Leadership handed over: the leader takes no more proposals, waits until its successor has all
//! entries, and tells it to campaign at once. From then on it has no lease.
//!
//! That word may arrive late, when the leader has given up waiting and leads on with a new lease.
//! So it carries the leader's round of heartbeats, which stands still meanwhile: a voter that has
//! heard a newer one does not follow it.

use ottla_common::types::MemberId;

use super::{Leading, MessageKind, Raft, Standing, TransferRefused};

/// To whom leadership is handed over.
#[derive(Debug)]
pub struct Transfer {
    pub to: MemberId,
    since_ms: u64,
    told: bool,
}

impl Leading {
    /// Whether another may have been elected with this leader's leave.
    pub fn is_handed_over(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.told)
    }
}

impl Raft {
    /// Hands leadership over; to whoever has most of the log if nobody is named.
    pub fn transfer_leadership(
        &mut self,
        to: Option<MemberId>,
        now_ms: u64,
    ) -> Result<(), TransferRefused> {
        self.advance_clock(now_ms);
        let Some(leading) = &self.leading else { return Err(self.not_leader().into()) };
        if leading.transfer.is_some() {
            return Err(TransferRefused::Pending);
        }
        let to = match to {
            Some(to) if self.may_succeed(to) => to,
            Some(_) => return Err(TransferRefused::NotEligible),
            None => self.best_successor().ok_or(TransferRefused::NobodyElse)?,
        };
        let transfer = Transfer { to, since_ms: self.now_ms, told: false };
        if let Some(leading) = &mut self.leading {
            leading.transfer = Some(transfer);
        }
        Ok(())
    }

    fn may_succeed(&self, id: MemberId) -> bool {
        let progress = self.leading.as_ref().and_then(|leading| leading.progress.get(&id));
        let amnesiac =
            progress.is_none_or(|one| one.standing.is_some_and(|one| one != Standing::Voter));
        self.membership().is_voter(id) && !amnesiac
    }

    fn best_successor(&self) -> Option<MemberId> {
        let (now_ms, timeout_ms) = (self.now_ms, self.config.election_timeout_ms);
        let alive = self
            .leading
            .iter()
            .flat_map(|leading| &leading.progress)
            .filter(|(id, one)| self.may_succeed(**id) && one.is_alive(now_ms, timeout_ms));
        // The lowest number of those that have most.
        let best = alive.max_by_key(|(id, one)| (one.matched, std::cmp::Reverse(**id)));
        best.map(|(id, _)| *id)
    }

    pub(super) fn proceed_with_transfer(&mut self) {
        let (header, last_index) = (self.header(), self.log.last_index());
        let Some(leading) = &mut self.leading else { return };
        let round = leading.round;
        if let Some(transfer) = leading.transfer.as_mut().filter(|transfer| !transfer.told)
            && leading.progress.get(&transfer.to).is_some_and(|one| one.matched >= last_index)
        {
            transfer.told = true;
            self.out.messages.push(header.message(transfer.to, MessageKind::TimeoutNow { round }));
        }
    }

    /// A successor that does not campaign in time is waited for no more.
    pub(super) fn tick_transfer(&mut self) {
        let timeout_ms = self.config.election_timeout_ms;
        let Some(leading) = &mut self.leading else { return };
        if leading.transfer.as_ref().is_none_or(|one| self.now_ms < one.since_ms + timeout_ms) {
            return;
        }
        leading.transfer = None;
        leading.lease_from_round = leading.round + 1;
        leading.round_wanted = true;
        if self.disk_is_stalled {
            self.become_follower(self.hard.term);
        }
    }

    /// A flush takes too long: another shall lead. Its own campaigns wait until one has ended.
    pub fn disk_stalled(&mut self, now_ms: u64) {
        self.advance_clock(now_ms);
        if self.is_lone_voter() || self.persistence.is_idle() {
            return;
        }
        self.disk_is_stalled = true;
        if self.leading.is_some()
            && self.transfer_leadership(None, now_ms) == Err(TransferRefused::NobodyElse)
        {
            self.become_follower(self.hard.term);
        }
    }

    /// A leader that does not belong to the voters any more.
    pub(super) fn hand_over_and_go(&mut self) {
        let round = self.leading.as_ref().map_or(0, |leading| leading.round);
        if let Some(successor) = self.best_successor() {
            self.send(successor, MessageKind::TimeoutNow { round });
        }
        self.become_follower(self.hard.term);
    }

    /// The leader says: campaign, you have everything.
    pub(super) fn told_to_campaign(&mut self, from: MemberId, round: u64) {
        let newest = round >= self.patience.heard_round && self.leader_id == Some(from);
        if newest && self.may_campaign() {
            self.ask_for_votes(Some(round));
        }
    }
}
