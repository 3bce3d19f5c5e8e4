//! What a leader knows of one other member, and what may be sent to it now.

use std::collections::VecDeque;

use crate::storage::hard_state::Standing;
use crate::storage::membership::SnapshotMeta;

/// How far a member is.
#[derive(Debug)]
pub struct Progress {
    /// The member's log is equal to the leader's up to here, and durable.
    pub matched: u64,
    /// The entry to be sent next.
    pub next: u64,
    /// How entries are sent.
    pub state: ProgressState,
    /// The member knows that all up to here is committed, if nothing got lost.
    pub commit_sent: u64,
    /// The newest round of heartbeats that it answered, and when that was sent.
    pub acked_round: u64,
    /// When the newest heartbeat was sent that it answered, by the leader's clock.
    pub acked_ms: Option<u64>,
    /// When that answer came.
    pub answered_ms: u64,
    /// When the leader began to know it.
    pub since_ms: u64,
    /// What had been sent when the newest heartbeat was.
    pub sent_at_heartbeat: u64,
    /// What it was known to have when the newest heartbeat was sent.
    pub matched_at_heartbeat: u64,
    /// Whether it may vote, as it said last.
    pub standing: Option<Standing>,
    /// It has left, and gets what is needed to learn of it.
    pub leaving: bool,
}

/// A message that is to tell where the logs part.
#[derive(Clone, Copy, Debug)]
pub struct Probed {
    /// When it was sent.
    pub sent_ms: u64,
    /// Its last entry, or the one before it if there are none. What acknowledges less is the answer
    /// to an earlier message, and says nothing of what has arrived since.
    pub end: u64,
}

/// How entries are sent to a member.
#[derive(Debug)]
pub enum ProgressState {
    /// It is not known where the logs part: one message at a time, the last one at this time.
    Probe {
        /// One that is not answered; no other may be sent until it is lost.
        sent: Option<Probed>,
    },
    /// One message after the other, without waiting: the last indexes of those not answered.
    Replicate {
        /// Ascending.
        in_flight: VecDeque<u64>,
    },
    /// It lacks entries that are not in memory any more, and a snapshot was asked for.
    SnapshotWanted {
        /// When.
        asked_ms: u64,
    },
    /// It is given a snapshot.
    Snapshot {
        /// Which.
        meta: SnapshotMeta,
        /// The length of the file.
        size: u64,
        /// The next piece begins here.
        offset: u64,
        /// When something was asked for, sent or answered.
        active_ms: u64,
    },
}

impl Progress {
    /// Of a member of which nothing is known.
    pub fn new(next: u64, now_ms: u64) -> Self {
        Self {
            matched: 0,
            next,
            state: ProgressState::Probe { sent: None },
            commit_sent: 0,
            acked_round: 0,
            acked_ms: None,
            answered_ms: 0,
            since_ms: now_ms,
            sent_at_heartbeat: 0,
            matched_at_heartbeat: 0,
            standing: None,
            leaving: false,
        }
    }

    /// Whether a message with entries may be sent now, or one that asks where the logs part.
    pub fn may_send(&self, last_index: u64, in_flight_max: usize) -> bool {
        match &self.state {
            ProgressState::Probe { sent } => sent.is_none(),
            ProgressState::Replicate { in_flight } => {
                self.next <= last_index && in_flight.len() < in_flight_max
            }
            ProgressState::SnapshotWanted { .. } | ProgressState::Snapshot { .. } => false,
        }
    }

    /// Whether it is to be told of commits, which entries will not tell it.
    pub fn wants_commit(&self, commit: u64) -> bool {
        matches!(self.state, ProgressState::Replicate { .. }) && self.commit_sent < commit
    }

    /// A message with `count` entries from `next` on was sent.
    pub fn sent(&mut self, count: u64, commit: u64, now_ms: u64) {
        self.commit_sent = commit;
        match &mut self.state {
            ProgressState::Probe { sent } => {
                *sent = Some(Probed { sent_ms: now_ms, end: self.next - 1 + count });
            }
            ProgressState::Replicate { in_flight } if count > 0 => {
                self.next += count;
                in_flight.push_back(self.next - 1);
            }
            _ => {}
        }
    }

    /// The logs are equal up to `index`. Whether that is news.
    pub fn matches(&mut self, index: u64) -> bool {
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        match &mut self.state {
            ProgressState::Probe { sent } => {
                self.next = self.next.max(self.matched + 1);
                if sent.is_some_and(|sent| sent.end <= index) {
                    self.state = ProgressState::Replicate { in_flight: VecDeque::new() };
                    self.next = self.matched + 1;
                } else if news {
                    *sent = None;
                }
            }
            ProgressState::Replicate { in_flight } => {
                in_flight.retain(|last| *last > index);
                self.next = self.next.max(index + 1);
            }
            ProgressState::SnapshotWanted { .. } | ProgressState::Snapshot { .. } => {}
        }
        news
    }

    /// Begins anew to find out where the logs part, trying `next` first. What was told of commits
    /// may be lost, too.
    pub fn probe(&mut self, next: u64) {
        self.state = ProgressState::Probe { sent: None };
        self.next = next.max(self.matched + 1);
        self.commit_sent = 0;
    }

    /// The logs part before what was sent; the last place where they may be equal is before `next`.
    /// If that was tried already, it is tried again only with the next heartbeat: a member that has
    /// lost its log refuses what it once had, and the two must not tell each other so without end.
    pub fn refused_at(&mut self, next: u64) {
        let is_probed = matches!(self.state, ProgressState::Probe { sent: Some(_) });
        if is_probed && next.max(self.matched + 1) == self.next {
            return;
        }
        self.probe(next);
    }

    /// The member has lost what it had.
    pub fn lost_all_behind(&mut self, index: u64) {
        self.matched = self.matched.min(index);
        self.probe(index.saturating_add(1));
    }

    /// Whether it answered a heartbeat that was sent less than `timeout_ms` ago.
    pub fn is_alive(&self, now_ms: u64, timeout_ms: u64) -> bool {
        self.acked_ms.is_some_and(|acked_ms| now_ms < acked_ms.saturating_add(timeout_ms))
    }

    /// As operators see it.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            ProgressState::Probe { .. } => "probe",
            ProgressState::Replicate { .. } => "replicate",
            ProgressState::SnapshotWanted { .. } | ProgressState::Snapshot { .. } => "snapshot",
        }
    }
}
