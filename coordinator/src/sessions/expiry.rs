//! When sessions end for want of a word: the leader's deadlines, by a monotonic clock that who
//! calls reads.
//!
//! Deadlines are rounded up to the next multiple of a tick, so that thousands of sessions that are
//! heard from all the time move between few buckets, as in ZooKeeper's `ExpiryQueue`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ottla_common::types::SessionId;

use crate::tree::Expiry;

/// The deadlines of all live sessions. Times are milliseconds of a monotonic clock.
#[derive(Debug)]
pub struct Deadlines {
    tick_ms: u64,
    by_session: HashMap<SessionId, Deadline>,
    buckets: BTreeMap<u64, BTreeSet<SessionId>>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at_ms: u64,
    session_timeout_ms: u64,
    /// Which of the session's connections is the newest.
    connection_epoch: u64,
}

impl Deadlines {
    /// No session yet. Deadlines are exact to a tick.
    pub fn new(tick_ms: u64) -> Self {
        assert!(tick_ms > 0, "a tick of no length");
        Self { tick_ms, by_session: HashMap::new(), buckets: BTreeMap::new() }
    }

    /// A session was opened or resumed on a connection, or this member became the leader and knows
    /// it from the state.
    pub fn begin(
        &mut self,
        (session_id, connection_epoch): (SessionId, u64),
        session_timeout_ms: u32,
        now_ms: u64,
    ) {
        let session_timeout_ms = u64::from(session_timeout_ms);
        let at_ms = now_ms + session_timeout_ms;
        self.set(session_id, Deadline { at_ms, session_timeout_ms, connection_epoch });
    }

    /// A session was heard from. Returns whether it was still waited for.
    pub fn touch(&mut self, session_id: SessionId, now_ms: u64) -> bool {
        let Some(mut deadline) = self.by_session.get(&session_id).copied() else { return false };
        deadline.at_ms = now_ms + deadline.session_timeout_ms;
        self.set(session_id, deadline);
        true
    }

    /// A session's connection broke: it has `grace_ms` to come back, if it had longer before.
    /// Nothing if it has come back by now, on another connection.
    pub fn disconnected(
        &mut self,
        (session_id, connection_epoch): (SessionId, u64),
        grace_ms: u64,
        now_ms: u64,
    ) {
        let deadline = self.by_session.get(&session_id).copied();
        if let Some(mut deadline) =
            deadline.filter(|deadline| deadline.connection_epoch == connection_epoch)
        {
            deadline.at_ms = deadline.at_ms.min(now_ms + grace_ms);
            self.set(session_id, deadline);
        }
    }

    /// A session ended.
    pub fn end(&mut self, session_id: SessionId) {
        if let Some(deadline) = self.by_session.remove(&session_id) {
            self.leave_bucket(session_id, deadline);
        }
    }

    /// Takes out at most `most` sessions whose time is over, the longest waited for first. They are
    /// not waited for any more: what was decided about them must be carried out, or they must be
    /// begun again.
    pub fn take_due(&mut self, now_ms: u64, most: usize) -> Vec<Expiry> {
        let mut due = Vec::new();
        while due.len() < most {
            let Some(mut bucket) = self.buckets.first_entry() else { break };
            if *bucket.key() > now_ms {
                break;
            }
            if let Some(session_id) = bucket.get_mut().pop_first()
                && let Some(deadline) = self.by_session.remove(&session_id)
            {
                due.push(Expiry { session_id, connection_epoch: deadline.connection_epoch });
            }
            if bucket.get().is_empty() {
                bucket.remove();
            }
        }
        due
    }

    /// Forgets all (this member leads no more).
    pub fn clear(&mut self) {
        self.by_session.clear();
        self.buckets.clear();
    }

    fn set(&mut self, session_id: SessionId, deadline: Deadline) {
        let bucket = self.bucket(deadline);
        if let Some(before) = self.by_session.insert(session_id, deadline) {
            if self.bucket(before) == bucket {
                return;
            }
            self.leave_bucket(session_id, before);
        }
        self.buckets.entry(bucket).or_default().insert(session_id);
    }

    fn leave_bucket(&mut self, session_id: SessionId, deadline: Deadline) {
        let key = self.bucket(deadline);
        if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.remove(&session_id);
            if bucket.is_empty() {
                self.buckets.remove(&key);
            }
        }
    }

    fn bucket(&self, deadline: Deadline) -> u64 {
        deadline.at_ms.next_multiple_of(self.tick_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    fn due(deadlines: &mut Deadlines, now_ms: u64, most: usize) -> Vec<SessionId> {
        let due = deadlines.take_due(now_ms, most);
        due.into_iter().map(|expiry| expiry.session_id).collect()
    }

    #[test]
    fn a_session_is_due_when_nothing_was_heard_for_its_timeout() {
        let mut deadlines = Deadlines::new(100);
        deadlines.begin((A, 0), 1_000, 0);
        deadlines.begin((B, 0), 2_000, 0);
        assert_eq!(due(&mut deadlines, 999, 10), []);
        assert!(deadlines.touch(A, 500));
        assert_eq!(due(&mut deadlines, 1_499, 10), []);
        assert_eq!(due(&mut deadlines, 1_500, 10), [A]);
        assert!(!deadlines.touch(A, 1_500), "it is too late for A");
        assert_eq!(due(&mut deadlines, 5_000, 10), [B]);
        assert_eq!(due(&mut deadlines, 50_000, 10), []);
    }

    #[test]
    fn a_broken_connection_shortens_the_wait_and_a_new_one_restores_it() {
        let mut deadlines = Deadlines::new(10);
        deadlines.begin((A, 0), 1_000, 0);
        deadlines.begin((B, 0), 1_000, 0);
        deadlines.disconnected((A, 0), 500, 100);
        deadlines.disconnected((B, 0), 500, 800);
        assert_eq!(due(&mut deadlines, 599, 10), []);
        deadlines.begin((A, 1), 1_000, 590);
        deadlines.disconnected((A, 0), 500, 600);
        assert_eq!(due(&mut deadlines, 1_000, 10), [B], "the grace does not lengthen the timeout");
        // The end of its older connection, told late, changed nothing.
        let expiry = Expiry { session_id: A, connection_epoch: 1 };
        assert_eq!(deadlines.take_due(1_590, 10), [expiry]);
    }

    #[test]
    fn few_are_taken_at_once_and_ended_ones_never() {
        let mut deadlines = Deadlines::new(10);
        for number in 1..=5 {
            deadlines.begin((SessionId(number), 0), 10, 0);
        }
        deadlines.end(SessionId(2));
        assert_eq!(due(&mut deadlines, 10, 2), [SessionId(1), SessionId(3)]);
        assert_eq!(due(&mut deadlines, 10, 2), [SessionId(4), SessionId(5)]);
        assert!(deadlines.buckets.is_empty() && deadlines.by_session.is_empty());
    }
}
