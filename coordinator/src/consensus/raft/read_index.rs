//! Reads that are as new as their request: the leader names an index that holds everything that was
//! acknowledged before, when it is sure that nobody else leads: by its lease, or by a round of
//! heartbeats that began after the request.

use std::collections::VecDeque;

use super::seeded_bugs::SeededBug;
use super::{NotLeader, Raft, ReadDone, quorum};
use crate::limits::READS_PENDING_MAX;

/// Requests that wait, each with the round that must be answered.
#[derive(Debug, Default)]
pub struct PendingReads(VecDeque<(u64, u64)>);

impl PendingReads {
    /// All of them, without an answer.
    pub fn give_up(self) -> impl Iterator<Item = ReadDone> {
        self.0.into_iter().map(|(id, _)| ReadDone { id, index: None })
    }
}

impl Raft {
    /// Asks for an index; the answer is in [`Ready::reads`](super::Ready::reads).
    pub fn request_read(&mut self, id: u64, now_ms: u64) -> Result<(), NotLeader> {
        self.advance_clock(now_ms);
        let at_once = self.is_sure_to_lead() || self.config.has(SeededBug::ReadWithoutQuorum);
        let commit = self.log.commit();
        let not_leader = self.not_leader();
        let Some(leading) = &mut self.leading else { return Err(not_leader) };
        if at_once {
            self.out.reads.push(ReadDone { id, index: Some(commit) });
        } else if leading.reads.0.len() >= READS_PENDING_MAX {
            self.out.reads.push(ReadDone { id, index: None });
        } else {
            leading.reads.0.push_back((id, leading.round + 1));
            leading.round_wanted = true;
        }
        Ok(())
    }

    /// Whether it has its lease, and has committed something in its term, so that it knows all that
    /// was committed before.
    fn is_sure_to_lead(&self) -> bool {
        self.knows_commits() && self.holds_lease(self.now_ms)
    }

    fn knows_commits(&self) -> bool {
        self.leading.as_ref().is_some_and(|leading| self.log.commit() >= leading.first_index)
    }

    pub(super) fn answer_reads(&mut self) {
        if self.leading.as_ref().is_none_or(|leading| leading.reads.0.is_empty()) {
            return;
        }
        if !self.knows_commits() {
            return;
        }
        let (all, commit) = (self.is_sure_to_lead(), self.log.commit());
        let (own_id, membership) = (self.config.member_id, self.memberships.newest().1);
        let Some(leading) = &mut self.leading else { return };
        let answered = quorum::reached(membership, |id| {
            let acked = leading.progress.get(&id).map_or(0, |progress| progress.acked_round);
            if id == own_id { leading.round } else { acked }
        });
        let answered = if all { u64::MAX } else { answered };
        while leading.reads.0.front().is_some_and(|(_, round)| *round <= answered) {
            let Some((id, _)) = leading.reads.0.pop_front() else { break };
            self.out.reads.push(ReadDone { id, index: Some(commit) });
        }
    }
}
