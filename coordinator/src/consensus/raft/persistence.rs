//! What is on its way to the disk: a vote counts, and entries are acknowledged, only when they have
//! arrived there.

use std::collections::VecDeque;

use super::Raft;
use super::seeded_bugs::SeededBug;
use crate::storage::hard_state::HardState;

/// Numbers what is handed out, and remembers what has not arrived.
#[derive(Debug)]
pub struct Persistence {
    last_number: u64,
    /// What was handed out last.
    handed: HardState,
    /// What the disk holds for sure.
    durable: HardState,
    in_flight: VecDeque<Batch>,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    /// The log's end, or less if that has been cut since.
    last_index: u64,
    hard_state: HardState,
}

impl Persistence {
    pub fn new(hard_state: HardState) -> Self {
        Self { last_number: 0, handed: hard_state, durable: hard_state, in_flight: VecDeque::new() }
    }

    /// The state if it has to be made durable.
    pub fn hand_out(&mut self, hard_state: HardState) -> Option<HardState> {
        let news = hard_state != self.handed;
        self.handed = hard_state;
        news.then_some(hard_state)
    }

    /// The next number; with the log's end if something has to be made durable.
    pub fn number(&mut self, last_index: Option<u64>) -> u64 {
        self.last_number += 1;
        let (number, hard_state) = (self.last_number, self.handed);
        if let Some(last_index) = last_index {
            self.in_flight.push_back(Batch { number, last_index, hard_state });
        }
        number
    }

    /// Whether all that was handed out is durable.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The log was cut at `from`: what arrives now of older batches says nothing of what replaced
    /// it.
    pub fn truncate(&mut self, from: u64) {
        for batch in &mut self.in_flight {
            batch.last_index = batch.last_index.min(from.saturating_sub(1));
        }
    }

    /// Everything up to a number is durable. Returns how far the log is.
    fn arrived(&mut self, number: u64) -> Option<u64> {
        let mut last_index = None;
        while self.in_flight.front().is_some_and(|batch| batch.number <= number) {
            let Some(batch) = self.in_flight.pop_front() else { break };
            last_index = last_index.max(Some(batch.last_index));
            self.durable = batch.hard_state;
        }
        last_index
    }
}

impl Raft {
    /// [`Ready`](super::Ready) `number` and all before it are durable.
    pub fn persisted(&mut self, number: u64, now_ms: u64) {
        self.advance_clock(now_ms);
        let Some(last_index) = self.persistence.arrived(number) else { return };
        self.disk_is_stalled = false;
        self.log.persisted(last_index);
        self.count_own_vote();
        self.advance_commit();
    }

    /// Whether the member's own vote of this term is durable.
    pub(super) fn own_vote_counts(&self) -> bool {
        let own = (self.hard.term, Some(self.config.member_id));
        let durable = self.persistence.durable;
        (durable.term, durable.vote) == own || self.config.has(SeededBug::VoteBeforePersist)
    }
}
